"""What the hostile tests share: a well-behaved client beside them, and what the process holds."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import itertools
import os
import re
import resource
import select
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from boltws import Bolt

from ..e2e.helpers import PATIENCE, Journal, ask, eventually
from ..e2e.servers import Served
from ..e2e.wire import Wire, handshake

T = TypeVar("T")

PAGE = resource.getpagesize()
STATM = Path("/proc/self/statm")
FEW = 3000  # blocks of memory: caches, a log's line, the bystander's; below one for each peer


def echoing(bolt: Bolt, path: str = "/p", **options: Any) -> Journal:
    """An endpoint that echoes, and notes the code each client ended with."""
    ends = Journal()
    bolt.ws(
        path,
        None,
        lambda event: event.reply(event.binary if event.is_binary else event.message),
        lambda event: ends.note(event.close_code),
        **options,
    )
    return ends


@asynccontextmanager
async def bystander(served: Served, path: str = "/p") -> AsyncIterator[None]:
    """A well-behaved client is served all through the block, and behind it."""
    async with served.connect(path) as client:
        done = asyncio.Event()

        async def talk() -> None:
            n = 0
            while not done.is_set():
                n += 1
                assert await ask(client, f"hello {n}") == f"hello {n}"
                await asyncio.sleep(0.005)  # a pace, not a wait

        talking = asyncio.create_task(talk())
        try:
            yield
        finally:
            done.set()
            await talking
        assert await ask(client, "still served") == "still served"


@asynccontextmanager
async def no_descriptor_left(leaving: list[Served]) -> AsyncIterator[None]:
    """Behind the block no more descriptors are open than before it."""
    for served in leaving:
        await asyncio.to_thread(served.stop)  # or what an earlier test closes hides what we leak
    base = descriptors()
    yield
    await eventually(lambda: descriptors() <= base, lambda: f"{base} open, now {descriptors()}")


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/dev/fd"))


def resident() -> int:
    """The memory of this process, in bytes; nothing, where the system does not tell."""
    if not STATM.exists():
        return 0
    return int(STATM.read_text().split()[1]) * PAGE


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    """At no time inside the block does the process take `most` bytes more than before it."""
    if not STATM.exists():
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    base = resident()
    yield
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert int(peak) * 1024 - base < most


@asynccontextmanager
async def no_memory_left(margin: int) -> AsyncIterator[None]:
    """Behind the block there are no more objects than before it, but for a few, and the process
    has less than `margin` bytes more: what is free is not always the system's again."""
    base, blocks = needed(), sys.getallocatedblocks()
    yield
    await eventually(
        lambda: needed() - base < margin and sys.getallocatedblocks() - blocks < FEW,
        lambda: f"{blocks} blocks, {base} bytes, now {sys.getallocatedblocks()}, {needed()}",
    )


def needed() -> int:
    """The memory of this process without what is garbage or free, in bytes."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library that has no such call
        ctypes.CDLL(None).malloc_trim(0)
    return resident()


def on_loop(served: Served, function: Callable[[], T]) -> T:
    """Call a function on the server's loop, between two of its turns."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    served.loop.call_soon_threadsafe(run)
    return result.result(PATIENCE)


def unsent(served: Served, bolt: Bolt) -> list[int]:
    """The bytes that the server holds for each client, in the order they came."""
    clients = bolt._runtime.hub.clients
    return on_loop(served, lambda: [client.unsent() for client in clients.values()])


def small_socket(served: Served) -> socket.socket:
    """A blocking connection that the system buffers little for on its way in."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.settimeout(PATIENCE)
    raw.connect(("127.0.0.1", served.port))
    return raw


def reset(wire: Wire) -> None:
    """End the connection with a TCP reset instead of a FIN."""
    raw = wire._writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.abort()


class Flood:
    """A peer in a thread of its own, which sends as much as it can and reads nothing: `begin`
    once, then `data` so many times."""

    def __init__(
        self, served: Served, data: bytes, times: int, path: str = "/p", begin: bytes = b""
    ) -> None:
        self.sent = 0
        self._socket = small_socket(served)
        self._socket.sendall(handshake(served, path) + begin)
        self._data = data
        self._times = times
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for _ in range(self._times):
                self._socket.sendall(self._data)
                self.sent += len(self._data)
        except OSError:
            pass  # parted with, or pushed back until the time was up

    def unread(self) -> bytes:
        """Behind the flood: what the server has said, up to the connection's end."""
        said = b""
        with contextlib.suppress(ConnectionError):
            while data := self._socket.recv(2**16):
                said += data
        return said

    def end(self) -> None:
        with contextlib.suppress(OSError):  # the server may have been first
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever waits to send
        self.thread.join(PATIENCE)
        self._socket.close()


async def last_words(served: Served, pieces: Iterable[bytes], within: int) -> bytes:
    """What the server says to a peer that goes on sending, up to the connection's end; `pieces`
    go out at a pace, so that it takes many reads, and at most `within` of them."""

    def push() -> bytes:
        said = b""
        with small_socket(served) as raw:
            try:
                for piece in itertools.islice(pieces, within):
                    raw.sendall(piece)
                    if select.select([raw], [], [], 0.002)[0]:
                        break
            except ConnectionError:
                pass  # its answer may still be there
            try:
                while data := raw.recv(2**16):
                    said += data
            except ConnectionError:
                pass  # bytes of ours were left unread
        return said

    return await asyncio.to_thread(push)
