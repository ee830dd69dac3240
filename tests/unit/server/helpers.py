"""A Bolt with one endpoint whose clients come over fake transports, and the frames they send."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from boltws import Bolt, Event
from boltws.event import ConnectEvent
from boltws.server.wire import Wire
from boltws.server.wires import Wires

from ..fakes import FakeTransport, passing, turn

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
MASK = b"\x1f\x8b\x03\xd4"


# Frames of a client. Written anew rather than taken from the library: they are what it is held to.


def frame(
    opcode: int,
    payload: bytes = b"",
    fin: bool = True,
    mask: bytes | None = MASK,
    *,
    rsv: int = 0,
    width: int | None = None,
    size: int | None = None,
) -> bytes:
    """A client's frame. `width`: bytes of its extended length, where not the shortest are to be
    used; `size`: what it claims to hold, where that is not what it holds."""
    size = len(payload) if size is None else size
    if width is None:
        width = 0 if size < 126 else 2 if size < 65536 else 8
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    marker = {0: size, 2: 126, 8: 127}[width] | (0x80 if mask is not None else 0)
    head = bytes((first, marker)) + (size.to_bytes(width) if width else b"")
    return head + (payload if mask is None else mask + masked(payload, mask))


def masked(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455, section 5.3."""
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def text(message: str) -> bytes:
    return frame(TEXT, message.encode())


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def fragments(opcode: int, *pieces: bytes) -> list[bytes]:
    """One message in as many frames as there are pieces."""
    last = len(pieces) - 1
    return [frame(opcode if i == 0 else 0, piece, i == last) for i, piece in enumerate(pieces)]


class Sent(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes


def read_frames(data: bytes) -> list[Sent]:
    """The server's frames, each of which must be whole, final, unmasked and of shortest form."""
    frames = []
    while data:
        first, size = data[0], data[1]
        assert first & 0xF0 == 0x80, f"not final, or with reserved bits: {first:#x}"
        assert size < 128, "a server does not mask"
        start = {126: 4, 127: 10}.get(size, 2)
        if start > 2:
            size = int.from_bytes(data[2:start])
            assert size >= (126 if start == 4 else 65536), "not the shortest length"
        assert len(data) >= start + size, "the frame is cut off"
        frames.append(Sent(first & 0x0F, data[start : start + size]))
        data = data[start + size :]
    return frames


# Clients.


class Served:
    """A started Bolt, and what its callbacks saw."""

    def __init__(self, on_message: Callable[[Event], Any] | None, options: dict[str, Any]) -> None:
        self.bolt = Bolt(**options)
        self.connections: set[Any] = set()  # as uvicorn's server state has them
        self.wires = Wires(self.connections)
        self.peers: list[Peer] = []
        self._seen: dict[str, list[Any]] = {}
        self._on_message = on_message
        self.endpoint = self.bolt.ws("/", self._connected, self._said, self._left)
        self.runtime = self.bolt._runtime
        self.hub = self.runtime.hub
        self.runtime.start()
        self.wires.start()

    def connect(self, *, half_closes: bool = True) -> Peer:
        """A new client, its handshake done: what the server does when it attaches one."""
        peer = Peer(self, FakeTransport(asyncio.get_running_loop(), half_closes=half_closes))
        self.peers.append(peer)
        return peer

    def seen(self, client_id: str) -> list[Any]:
        return self._seen.setdefault(client_id, [])

    @property
    def stats(self) -> Any:
        return self.bolt.stats()

    def _connected(self, event: Event) -> None:
        self.seen(event.client_id).append("connect")

    def _said(self, event: Event) -> Any:
        self.seen(event.client_id).append(event.binary if event.is_binary else event.message)
        return self._on_message(event) if self._on_message is not None else None

    def _left(self, event: Event) -> None:
        self.seen(event.client_id).append(("disconnect", event.close_code))

    def check(self) -> None:
        """What must hold whatever has happened, once all connections have ended."""
        assert self.stats.imbalance() == ""
        assert self.stats.waiting == self.stats.running == self.stats.closing == 0
        assert self.stats.slow_clients == self.stats.rooms == 0
        assert self.wires.attached == 0
        assert not self.hub.ending, "a disconnect has not been handled"
        for peer in self.peers:
            first, *messages, last = peer.events
            assert first == "connect" and last[0] == "disconnect", peer.events
            assert all(isinstance(message, str | bytes) for message in messages), peer.events
            assert "connect" not in messages


@asynccontextmanager
async def serving(
    on_message: Callable[[Event], Any] | None = None, **options: Any
) -> AsyncIterator[Served]:
    """A Bolt whose endpoint calls `on_message`. At the end all connections are lost and the
    books are looked at."""
    served = Served(on_message, options)
    yield served
    for peer in served.peers:
        peer.transport.lose()
    await passing(60)
    served.check()
    served.runtime.stop()


class Peer:
    """A client as its browser sees it, and what the server made of it."""

    def __init__(self, served: Served, transport: FakeTransport) -> None:
        self.served = served
        self.transport = transport
        served.wires.register(served.runtime)
        channel = served.endpoint.channel
        timeout = served.runtime.options.close_timeout
        self.wire = Wire(served.hub, channel, served.wires, timeout)
        self.wire.limit(transport)
        self.wire.take(transport)
        served.hub.add(self.wire)
        channel.connected(self.wire, ConnectEvent(self.wire))

    @property
    def id(self) -> str:
        return self.wire.id

    def send(self, *parts: bytes) -> None:
        """All parts arrive in one read."""
        self.transport.receive(b"".join(parts))

    async def trickle(self, *reads: bytes) -> None:
        """Each part arrives in a read of its own, when the server reads."""
        for data in reads:
            self.transport.receive(data)
            await self.read_all()

    async def read_all(self) -> None:
        """Wait until the server has read what came."""
        while not self.transport.reading and not self.transport.is_closing():
            await turn()

    @property
    def events(self) -> list[Any]:
        """What the callbacks saw of this client: "connect", messages, ("disconnect", code)."""
        return self.served.seen(self.id)

    @property
    def messages(self) -> list[Any]:
        """The messages that were handled."""
        return [event for event in self.events[1:] if isinstance(event, str | bytes)]

    @property
    def frames(self) -> list[Sent]:
        """The frames that the server sent."""
        return read_frames(bytes(self.transport.sent))

    @property
    def pongs(self) -> list[bytes]:
        return [payload for opcode, payload in self.frames if opcode == PONG]

    def assert_open(self) -> None:
        """The connection stands, and nothing was sent that would end it."""
        assert self.id in self.served.bolt.ws_client_list()
        assert not self.transport.is_closing()
        assert [sent for sent in self.frames if sent.opcode == CLOSE] == []

    def assert_sent_close(self, code: int, reason: str | None = None) -> None:
        """The server sent one close frame, as its last, and the client is off the lists."""
        closes = [sent for sent in self.frames if sent.opcode == CLOSE]
        assert len(closes) == 1 and self.frames[-1] is not None, self.frames
        assert self.frames[-1].opcode == CLOSE, "something was sent behind the close"
        payload = closes[0].payload
        assert (int.from_bytes(payload[:2]) if payload else 1005) == code, closes
        if reason is not None:
            assert payload[2:].decode() == reason
        assert self.id not in self.served.bolt.ws_client_list()

    def assert_failed(self, code: int) -> None:
        """The connection was failed: a close frame, then an end, and nothing is heard any more."""
        self.assert_sent_close(code)
        wire = self.wire
        assert self.transport.eof_sent or self.transport.is_closing()
        assert wire.tail == b"" and wire.partial is None, "something was kept"
        assert wire.ended is not None and wire.ended.code == code


def echo(event: Event) -> None:
    """Answer a message with itself."""
    event.reply(event.binary if event.is_binary else event.message)
