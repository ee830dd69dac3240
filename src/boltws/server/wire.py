"""A client on the wire: the transport's own protocol, with no task and no queue of its own.

The transport is the outbound queue: it keeps the order and says when too much is unsent. What one
turn of the loop sends is gathered before it, see `outbox.py`.
"""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import TYPE_CHECKING

from ..channel import TURN, Channel
from ..client import BACKLOG, CLOSED, OPEN, Write
from ..errors import LOST, Close
from ..frames import PING, PONG, close_frame, encode
from ..hub import Hub
from .reader import FrameReader

if TYPE_CHECKING:
    from .wires import Wires

_PING = encode(PING, b"")
_ALL = 1 << 30


class Wire(FrameReader):
    """One WebSocket connection over an asyncio transport."""

    __slots__ = ("close_timeout", "context", "pinged", "timer", "transport", "wires")

    transport: asyncio.Transport

    def __init__(self, hub: Hub, channel: Channel, wires: Wires, close_timeout: float) -> None:
        super().__init__(hub, channel)
        self.wires = wires
        self.close_timeout = close_timeout
        self.timer: asyncio.TimerHandle | None = None  # only while the connection is closing
        self.pinged = 0.0  # when a ping went out that is not answered yet
        self.context: Context | None = None  # that of the reading, while it is paused

    def limit(self, transport: asyncio.Transport) -> None:
        """Have `transport` say when too much is unsent; it says it to its protocol, and once."""
        limit = self.channel.options.send_buffer_limit
        transport.set_write_buffer_limits(high=limit, low=limit // 4)

    def take(self, transport: asyncio.Transport) -> None:
        """Become the protocol of `transport`."""
        self.transport = transport
        self.wires.attached += 1
        transport.set_protocol(self)  # type: ignore[arg-type]  # duck-typed: slots, no base class

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Never called: the HTTP protocol made the connection."""

    # The hub's side.

    def writer(self) -> Write:
        return self.transport.write

    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        self.transport.abort()

    def pause_reading(self) -> None:
        self.context = copy_context()
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        # Never at once: whoever releases the client is in the middle of its channel. Nor in the
        # context of its event: asyncio reads on in that one, and would keep the message with it.
        assert self.hub.loop is not None
        self.hub.loop.call_soon(self._read_on, context=self.context)

    def _read_on(self) -> None:
        self.held &= ~BACKLOG
        if self.held or self.state == CLOSED:
            return
        self.seen = self.pinged = 0.0  # its clock starts anew
        if data := self.tail:
            self.tail = b""
            self.parse(data, TURN)
        self._listen()

    def _listen(self) -> None:
        if not self.held and self.state != CLOSED:
            self.context = None
            self.transport.resume_reading()

    def backlog(self) -> None:
        if not self.held:
            self.transport.pause_reading()
        self.held |= BACKLOG
        self.resume_reading()

    def send_close(self, close: Close) -> None:
        self.transport.write(close_frame(close))
        self._end_within(self.close_timeout)
        if self.held:
            self.held = 0
            self.resume_reading()  # the peer's answer must be heard

    def _end_within(self, seconds: float) -> None:
        if self.timer is None:
            assert self.hub.loop is not None
            self.timer = self.hub.loop.call_later(seconds, self.transport.abort)

    # The peer's side.

    def now(self) -> float:
        return self.wires.clock

    def on_ping(self, payload: bytes) -> None:
        # A peer that floods with pings and reads no pongs gets none while it is slow.
        if self.state == OPEN and not self.slow:
            self.transport.write(encode(PONG, payload))

    def on_pong(self, payload: bytes) -> None:
        self.pinged = 0.0

    def on_close(self, close: Close) -> None:
        if self.state == OPEN:
            self.flush()
            self.transport.write(close_frame(Close(close.code)))
            self.end(close)
        self.state = CLOSED
        if self.unsent() or not self.transport.can_write_eof():
            self._end_within(self.close_timeout)  # who does not read does not let it end
        self.transport.close()

    def fail(self, close: Close) -> None:
        if self.state == OPEN and not self.transport.is_closing():
            self.flush()
            self.transport.write(close_frame(close))
        self.end(close)
        self.state = CLOSED
        self.tail = b""
        self.partial = None
        if self.transport.is_closing():
            return
        self._end_within(self.close_timeout)
        # Closing with bytes unread would reset the connection, and the peer might never see why.
        self.transport.set_protocol(_Deaf(self))
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def ping(self, now: float) -> None:
        """Ask the peer whether it is there."""
        self.pinged = now
        self.transport.write(_PING)

    # The transport's side, with `data_received`, `pause_writing` and `resume_writing`.

    def eof_received(self) -> None:
        """The peer will send no more: the transport closes itself when all is sent."""
        if self.state == OPEN:
            self._lose()
        self._end_within(self.close_timeout)  # who does not read does not let it end

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has closed."""
        if self.state == OPEN:
            self._lose()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.state = CLOSED
        self.partial = None
        self.tail = b""
        self.hub.closing.discard(self)
        self.wires.attached -= 1

    def _lose(self) -> None:
        """The connection ended without a close."""
        self._read_backlog()
        self.end(Close(LOST))
        self.state = CLOSED

    def _read_backlog(self) -> None:
        """What had come before the end goes to the channel, to be handled in its turn."""
        busy = self.busy
        self.busy = True
        while self.tail and self.state == OPEN:
            data, self.tail = self.tail, b""
            self.held = 0
            self.parse(data, _ALL)
            if len(self.tail) == len(data):
                break
        self.busy = busy
        if self.waiting and not busy:
            self.channel.resume(self)


class _Deaf(asyncio.Protocol):
    """Swallows what a peer still sends after it was failed."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.connection_lost(exc)
