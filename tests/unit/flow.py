"""The flow without a wire: a real Runtime on the test's loop, clients whose transport is a list."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from math import ceil
from typing import Any, ClassVar, Protocol
from weakref import WeakSet

from boltws import Bolt
from boltws.channel import Message
from boltws.client import CLOSED, OPEN, Client, Write
from boltws.endpoint import Endpoint
from boltws.errors import LOST, Close
from boltws.event import ConnectEvent
from boltws.frames import decode
from boltws.hub import Hub
from boltws.request import pack

PATIENCE = 10.0
"""Seconds until a wait is given up: only a hang ends there."""


class FakeClient(Client):
    """A client whose peer is the test.

    Like a wire, it feeds no message while reading is on hold, and says that it is slow when more
    than `send_buffer_limit` is unsent. Its peer reads and answers a close in the next turn of the
    loop, unless it is `stuck` or `silent`.
    """

    __slots__ = ("aborted", "closes", "frames", "inbox", "over", "silent", "stuck", "unsent_bytes")

    def __init__(self, hub: Hub, endpoint: Endpoint) -> None:
        super().__init__(hub, endpoint.channel)
        self.frames: list[bytes] = []
        self.closes: list[Close] = []
        self.inbox: deque[Message] = deque()  # sent by the peer, not read yet
        self.over = asyncio.Event()  # `disconnect` has been handled
        self.unsent_bytes = 0
        self.stuck = False  # the peer reads nothing
        self.silent = False  # the peer does not answer a close
        self.aborted = 0

    @property
    def got(self) -> list[str | bytes]:
        """The messages that went out, those of this turn included."""
        return [message for message, _ in decode(b"".join([*self.frames, *(self.pending or [])]))]

    # What the hub asks of a wire.

    def writer(self) -> Write:
        return self._write

    def _write(self, frame: bytes) -> None:
        self.frames.append(frame)
        if self.stuck:
            self.unsent_bytes += len(frame)
            if self.unsent_bytes > self.channel.options.send_buffer_limit:
                self.pause_writing()

    def unsent(self) -> int:
        return self.unsent_bytes

    def send_close(self, close: Close) -> None:
        self.closes.append(close)
        if not self.silent:
            self._soon(self.vanish)

    def abort(self) -> None:
        self.aborted += 1
        self._soon(self.vanish)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        self._soon(self._read)

    def _soon(self, call: Callable[[], None]) -> None:
        assert self.hub.loop is not None
        self.hub.loop.call_soon(call)

    def finished(self) -> None:
        self.over.set()

    # What the peer does.

    def says(self, *messages: Message) -> None:
        """Send messages, all in one read."""
        self.inbox.extend(messages)
        self._read()

    def _read(self) -> None:
        while self.inbox and not self.held and self.state != CLOSED:
            self.channel.put(self, self.inbox.popleft())

    def reads(self) -> None:
        """The peer has read all that was unsent."""
        self.unsent_bytes = 0
        self.resume_writing()

    def leaves(self, code: int = 1000, reason: str = "") -> None:
        """The peer closes the connection."""
        if self.state == OPEN:
            self.flush()
        self.end(Close(code, reason))
        self._gone()

    def vanish(self) -> None:
        """The transport has closed."""
        self.end(Close(LOST))
        self._gone()

    def _gone(self) -> None:
        self.state = CLOSED
        self.hub.closing.discard(self)

    # What tests wait for.

    @property
    def idle(self) -> bool:
        """Whether nothing of the client runs or waits."""
        return not (self.busy or self.waiting)

    async def quiet(self) -> None:
        """Let the loop turn until the client is idle and has read what it may read."""
        await turns_until(
            lambda: self.idle and (not self.inbox or self.held > 0 or self.state == CLOSED)
        )

    async def quiet_in_time(self) -> None:
        """Let time pass on the test's :class:`Clock` until the client is idle."""
        while not self.idle:
            await asyncio.sleep(1 / 4)


class Flow:
    """A Bolt, started on the running loop, and its clients."""

    def __init__(self, bolt: Bolt) -> None:
        bolt._runtime.start()
        self.bolt = bolt
        self.runtime = bolt._runtime
        self.runtime.own_server = True
        self.hub = bolt._hub
        self.ledger = bolt._hub.ledger
        self.clients: list[FakeClient] = []

    def client(self, path: str, **request: Any) -> tuple[FakeClient, ConnectEvent]:
        """A client whose handshake is not answered yet, and its `connect`."""
        found = self.runtime.router.match(path)
        assert found is not None, path
        endpoint, params = found
        client = FakeClient(self.hub, endpoint)
        client.params = params
        scope = {"path": path, "raw_path": path.encode(), "headers": [], **request}
        client.request = pack(scope, None, None)
        self.clients.append(client)
        return client, ConnectEvent(client)

    def connect(self, path: str = "/p", **request: Any) -> FakeClient:
        """A client whose handshake was answered."""
        client, event = self.client(path, **request)
        self.hub.add(client)
        client.channel.connected(client, event)
        return client

    async def end(self) -> None:
        """All clients leave; wait until their last event has been handled. Stop."""
        for client in self.clients:
            if client.state == OPEN:
                client.leaves()
        Gate.open_all()
        if self.runtime.started:
            try:
                await turns_until(lambda: not (self.hub.ending or self.hub.running))
            finally:
                await self._cut()
                self.runtime.stop()

    async def _cut(self) -> None:
        """Leave nothing behind, also of a test that failed."""
        for client in self.clients:
            client.channel.give_up(client)
        for _ in range(3):
            for task in self.hub.running:
                task.cancel()
            await turns()


class Start(Protocol):
    """Start a Bolt on the test's loop."""

    def __call__(self, bolt: Bolt) -> Flow: ...


async def turns_until(check: Callable[[], bool]) -> None:
    """Let the loop turn until it holds."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE
    turn = 0
    while not check():
        turn += 1
        if turn % 100 == 0:  # so it waits for a thread, which needs its share
            pause.wait(0.001)
            assert time.monotonic() < deadline, "it never came to that"
        await asyncio.sleep(0)


async def turns(count: int = 8) -> None:
    """Let the loop turn a few times: enough for whatever was only waiting for its turn."""
    for _ in range(count):
        await asyncio.sleep(0)


class Journal(list[Any]):
    """What callbacks saw, in order, whichever thread they run on; the test can wait for more."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()

    def note(self, *entry: Any) -> None:
        """One argument is noted as it is, several as a tuple."""
        self.append(entry[0] if len(entry) == 1 else entry)
        self._loop.call_soon_threadsafe(self._more.set)

    async def reaches(self, count: int) -> None:
        """Wait until there are `count` entries."""
        while len(self) < count:
            self._more.clear()
            await self._more.wait()


class Gate:
    """Holds a blocking callback in its thread until the test opens it."""

    _made: ClassVar[WeakSet[Gate]] = WeakSet()

    def __init__(self) -> None:
        self._event = threading.Event()
        self._made.add(self)

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(PATIENCE), "the gate was never opened"

    @classmethod
    def open_all(cls) -> None:
        """After a test: one that failed leaves threads behind its gates."""
        for gate in cls._made:
            gate.open()


class Clock:
    """Time that passes only while a loop has nothing to do, and then at once.

    Time limits are kept to exactly, and no test waits for one. Not for tests whose threads race a
    time limit: the loop does not know that they are at work.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = float(ceil(loop.time()))  # no fraction: sums of binary ones stay exact
        patched: Any = loop
        select = patched._selector.select

        def jump(timeout: float | None) -> Any:
            found = select(0 if timeout else timeout)
            if not found and timeout:
                self.now += timeout
            return found

        patched.time = lambda: self.now
        patched._selector.select = jump
