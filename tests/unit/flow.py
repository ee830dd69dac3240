"""The flow without a wire: a real Runtime on the test's loop, clients whose transport is a list."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from boltws import Bolt
from boltws.channel import Message
from boltws.client import CLOSED, OPEN, Client, Write
from boltws.endpoint import Endpoint
from boltws.errors import LOST, Close
from boltws.event import ConnectEvent
from boltws.frames import decode
from boltws.hub import Hub
from boltws.request import pack


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
        """The messages that went out."""
        return [decode(frame) for frame in self.frames]

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
            asyncio.get_running_loop().call_soon(self.vanish)

    def abort(self) -> None:
        self.aborted += 1
        asyncio.get_running_loop().call_soon(self.vanish)

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        asyncio.get_running_loop().call_soon(self._read)

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
        """Let the loop turn until the client is idle."""
        await turns_until(lambda: self.idle)


class Flow:
    """A started Bolt and its clients."""

    def __init__(self, bolt: Bolt) -> None:
        self.bolt = bolt
        self.runtime = bolt._runtime
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
        if self.runtime.started:
            await turns_until(lambda: not (self.hub.ending or self.hub.running))
            self.runtime.stop()


class Start(Protocol):
    """Start a Bolt on the test's loop."""

    def __call__(self, bolt: Bolt) -> Flow: ...


async def turns_until(check: Callable[[], bool]) -> None:
    """Let the loop turn until it holds; what never holds ends with the test's time limit."""
    while not check():
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

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        assert self._event.wait(30), "the gate was never opened"


class Clock:
    """Time that passes only while a loop has nothing to do, and then at once.

    Time limits are kept to exactly, and no test waits for one. Not for tests whose threads race a
    time limit: the loop does not know that they are at work.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time()
        patched: Any = loop
        select = patched._selector.select

        def jump(timeout: float | None) -> Any:
            found = select(0 if timeout else timeout)
            if not found and timeout:
                self.now += timeout
            return found

        patched.time = lambda: self.now
        patched._selector.select = jump
