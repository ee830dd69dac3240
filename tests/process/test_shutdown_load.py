"""SIGTERM under load: 2,000 clients are sending, and nothing of it is lost without a trace."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from .conftest import Serve
from .harness import PATIENCE, Served, handshake, masked_text

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

CLIENTS = 2_000
MUTE = 50  # never read, and never answer the close
STUCK = 5  # of these, are owed more than the kernel's buffers take
REAL = 5  # are no client of ours, but that of `websockets`
AHEAD = 3  # messages that a talker has under way at any time

COMMAND = [sys.executable, "-m", "boltws", "run", "app:bolt", "--port", "0", "--no-access-log"]

APP = '''
"""Answers most messages on the spot, some in a while, and has the last word on its books."""
import asyncio
import atexit
import dataclasses
import json
import time
from collections import Counter

from boltws import Bolt

bolt = Bolt(ping_interval=None, send_buffer_limit=2**26, OPTIONS)
live = bolt.ws("/live")
calls = Counter()
codes = Counter()
left = []


@live.on_connect
def joined(event):
    calls["connect"] += 1


@live.on_message
def said(event):
    calls["message"] += 1
    if event.message == "flood":
        event.reply("x" * 16_000_000)
    elif event.message.endswith("7"):
        return later(event)
    elif event.message != "hush":
        event.reply(event.message)


async def later(event):
    await asyncio.sleep(0.01)
    event.reply(event.message)


@live.on_disconnect
def gone(event):
    calls["disconnect"] += 1
    codes[event.close_code] += 1
    left.append(time.monotonic())


@atexit.register
def last_word():
    stats = bolt.stats()
    books = {
        field.name: value if isinstance(value := getattr(stats, field.name), int) else dict(value)
        for field in dataclasses.fields(stats)
    }
    books |= {"imbalance": stats.imbalance(), "calls": calls, "codes": codes, "left": left}
    print("books", json.dumps(books), flush=True)
'''


class Talker(asyncio.Protocol):
    """Numbers its messages and sends the next for each answer, until it is told to go."""

    def __init__(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.answered: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.sent = self.answers = 0
        self.code: int | None = None
        self.closed_at = 0.0
        self._port = port
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(handshake(self._port, "/live"))

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if not self.opened.done():
            head, separator, self._unread = self._unread.partition(b"\r\n\r\n")
            if not separator:
                self._unread = head
                return
            assert head.startswith(b"HTTP/1.1 101 "), head
            self.opened.set_result(None)
        while len(self._unread) >= 2 and len(self._unread) >= 2 + self._unread[1]:
            opcode, size = self._unread[0] & 0x0F, self._unread[1]
            payload, self._unread = self._unread[2 : 2 + size], self._unread[2 + size :]
            self.take(opcode, payload)

    def begin(self) -> None:
        for _ in range(AHEAD):
            self.say(str(self.sent))

    def say(self, text: str) -> None:
        self.transport.write(masked_text(text))
        self.sent += 1

    def take(self, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.code = int.from_bytes(payload[:2], "big")
            self.closed_at = time.monotonic()
            self.transport.write(bytes([0x88, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
            return
        assert opcode == 1, opcode
        assert self.code is None, "an answer behind the close"
        assert payload == str(self.answers).encode(), f"{payload!r} is not answer {self.answers}"
        self.answers += 1
        if not self.answered.done():
            self.answered.set_result(None)
        self.say(str(self.sent))

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.opened, self.answered, self.ended):
            if not future.done():
                future.set_result(None)


class Mute(Talker):
    """Reads nothing once it begins; goes on sending, into a void in the end."""

    def __init__(self, port: int, stuck: bool) -> None:
        super().__init__(port)
        self._stuck = stuck
        self._beat: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self.transport.pause_reading()
        if self._stuck:
            self.say("flood")
        self.go_on()

    def go_on(self) -> None:
        if not self.transport.is_closing():
            self.say("hush")
            self._beat = asyncio.get_running_loop().call_later(0.1, self.go_on)

    def leave(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self.transport.abort()


class Real:
    """A client of `websockets`, which sends the next message for each answer as well."""

    def __init__(self) -> None:
        self.sent = self.answers = 0
        self.code: int | None = None
        self.closed_at = 0.0
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def talk(self, port: int) -> None:
        uri = f"ws://127.0.0.1:{port}/live"
        async with connect(uri, proxy=None, open_timeout=PATIENCE, ping_interval=None) as client:
            self.opened.set_result(None)
            try:
                while True:
                    await client.send(str(self.sent))
                    self.sent += 1
                    assert await client.recv() == str(self.answers)
                    self.answers += 1
            except ConnectionClosed as end:
                self.closed_at = time.monotonic()
                self.code = end.rcvd.code if end.rcvd is not None else 1006


class Crowd:
    """All the clients: how they come, and what became of them."""

    def __init__(self, port: int) -> None:
        self.talkers: list[Talker] = []
        self.mutes: list[Mute] = []
        self.reals = [Real() for _ in range(REAL)]
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self._few = asyncio.Semaphore(100)  # handshakes at a time

    async def come(self) -> None:
        """Connect all of them, and have them talk; each has an answer when this returns."""
        self._tasks = [asyncio.create_task(real.talk(self._port)) for real in self.reals]
        others: list[Talker] = [Mute(self._port, n < STUCK) for n in range(MUTE)]
        others += [Talker(self._port) for _ in range(CLIENTS - MUTE - REAL)]
        async with asyncio.timeout(2 * PATIENCE):
            await asyncio.gather(*map(self._connect, others))
            await asyncio.gather(*(real.opened for real in self.reals))
            for client in others:
                client.begin()
            await asyncio.gather(*(talker.answered for talker in self.talkers))

    async def _connect(self, client: Talker) -> None:
        loop = asyncio.get_running_loop()
        async with self._few:
            sock = socket.socket()
            sock.setblocking(False)
            if isinstance(client, Mute):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                self.mutes.append(client)
            else:
                self.talkers.append(client)
            await loop.sock_connect(sock, ("127.0.0.1", self._port))
            await loop.create_connection(lambda: client, sock=sock)
            await client.opened

    async def ends(self) -> None:
        """Wait until all that answer the close have ended."""
        async with asyncio.timeout(2 * PATIENCE):
            await asyncio.gather(*self._tasks, *(talker.ended for talker in self.talkers))

    def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        for mute in self.mutes:
            mute.leave()
        for talker in self.talkers:
            talker.transport.abort()


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Room for all the clients in this process."""
    wanted = CLIENTS + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= wanted
    if not enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def shut_down(served: Served) -> tuple[Crowd, dict[str, Any]]:
    """Stop the server under load; what became of the clients, and its books at the very end."""
    port = await asyncio.to_thread(lambda: served.port)
    crowd = Crowd(port)
    with many_descriptors(), ExitStack() as stack:
        stack.callback(crowd.leave)
        await crowd.come()
        served.send(signal.SIGTERM)
        await crowd.ends()
        assert await asyncio.to_thread(served.wait) == 0
    (line,) = [line for line in served.output.splitlines() if line.startswith("books ")]
    served.assert_no_noise()
    return crowd, json.loads(line.removeprefix("books "))


def assert_nothing_is_lost(crowd: Crowd, books: dict[str, Any]) -> None:
    """Every connection had its life, every message is handled or counted."""
    told = [*crowd.talkers, *crowd.reals]
    assert [client.code for client in told] == [1012] * (CLIENTS - MUTE)
    calls = books["calls"]
    assert books["connections_opened"] == calls["connect"] == calls["disconnect"] == CLIENTS
    assert books["codes"] == books["closed"] == {"1012": CLIENTS}
    assert books["imbalance"] == ""
    for name in ("running", "waiting", "connections_now", "closing", "failed", "errors"):
        assert books[name] == 0, books
    # A close that was answered is behind all that its client sent, so all of that came. How much
    # of what the mutes sent was read before their end, only the server can tell.
    surely = sum(client.sent for client in told)
    assert surely <= books["received"] <= surely + sum(mute.sent for mute in crowd.mutes)
    assert books["handled"] + books["timed_out"] == calls["message"]
    assert books["handled"] >= sum(client.answers for client in told)
    # Messages that came too late are what makes it a stop under load.
    assert sum(books["dropped_in"].values()) > 0
    assert set(books["dropped_in"]) <= {"shutdown", "closed"}


async def test_the_deadline_ends_it(serve: Serve) -> None:
    """All at once: 2,000 are told 1012, every message is accounted for, and `shutdown_timeout`
    ends the clients that never read, however long `close_timeout` is."""
    options = "shutdown_timeout=5, close_timeout=600"
    served = serve(COMMAND, app=APP.replace("OPTIONS", options))
    crowd, books = await shut_down(served)
    assert_nothing_is_lost(crowd, books)


async def test_the_closes_are_spread(serve: Serve) -> None:
    """Over `shutdown_spread`: the same holds, the closes do not come at once, and `close_timeout`
    ends the clients that never read, long before `shutdown_timeout` does."""
    spread = 2.0
    options = f"shutdown_timeout=600, close_timeout=1, shutdown_spread={spread}"
    served = serve(COMMAND, app=APP.replace("OPTIONS", options))
    crowd, books = await shut_down(served)
    assert_nothing_is_lost(crowd, books)
    # The server's own clock: a slow machine can only lengthen what it measures.
    tenths = Counter(int(10 * (at - books["left"][0]) / spread) for at in books["left"])
    assert max(tenths) > 5, tenths
    assert len(tenths) > 2 and max(tenths.values()) < 0.9 * CLIENTS, tenths
    # And the clients see it.
    times = [client.closed_at for client in (*crowd.talkers, *crowd.reals)]
    assert max(times) - min(times) > spread / 4
