"""A connected client: its id, its rooms, how to write to it, and whether it keeps up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .errors import Close

if TYPE_CHECKING:
    from .channel import Channel
    from .event import State
    from .hub import Hub

OPENING, OPEN, CLOSING, CLOSED = range(4)

# Why reading is paused. A client reads while no reason stands.
BACKLOG, FULL, RATE = 1, 2, 4

Write = Callable[[bytes], Any]


class Client:
    """What the flow knows of a connection. The wire subclasses it and writes the bytes.

    ``write(frame)`` returns False when the frame was refused because the client is slow.
    """

    __slots__ = (
        "__weakref__",
        "allowance",
        "busy",
        "channel",
        "deflate",
        "ended",
        "held",
        "hub",
        "id",
        "leaving",
        "params",
        "pending",
        "request",
        "rooms",
        "slow",
        "state",
        "user_state",
        "waiting",
        "waiting_bytes",
        "write",
    )

    def __init__(self, hub: Hub, channel: Channel) -> None:
        self.id = hub.next_id()
        self.hub = hub
        self.channel = channel
        self.write: Write = _refuse  # until it is open
        self.state = OPENING
        # Frames gathered in this turn of the loop; never None while the client is slow.
        self.pending: list[bytes] | None = None
        self.slow = 0  # 1: since this turn of the loop; 2: since an earlier one
        self.busy = False  # an event of its is being handled
        self.leaving = False  # the server stops: what still comes is dropped, counted
        self.held = 0  # why reading is paused
        self.waiting: deque[Any] | None = None  # made when first needed: a deque takes 600 bytes
        self.waiting_bytes = 0
        self.rooms: dict[str, None] | None = None
        self.deflate: Callable[[bytes], bytes] | None = None  # where compression was agreed on
        self.user_state: State | None = None
        self.request = b""
        self.params: dict[str, str] = _NO_PARAMS
        self.ended: Close | None = None
        # Rate limit: messages left, at what time, and whether a timer is set to let it read on.
        self.allowance: tuple[float, float, bool] | None = None

    # What the wire does.

    def writer(self) -> Write:
        """The function that hands a frame to the transport, and returns None."""
        raise NotImplementedError

    def unsent(self) -> int:
        """How many bytes the transport still holds."""
        raise NotImplementedError

    def send_close(self, close: Close) -> None:
        """Send a close frame and end the connection, at the latest after `close_timeout`."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the connection at once."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """Take no more from the peer."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """Go on where :meth:`pause_reading` stopped."""
        raise NotImplementedError

    def finished(self) -> None:
        """The `disconnect` has been handled: nothing more will happen to this client."""

    # Reading: several reasons may stand at once.

    def hold(self, reason: int) -> None:
        """Pause reading for `reason`."""
        held = self.held
        self.held = held | reason
        if not held:
            self.pause_reading()

    def release(self, reason: int) -> None:
        """Resume reading unless another reason stands."""
        held = self.held
        if held & reason:
            self.held = held & ~reason
            if not self.held and self.state != CLOSED:
                self.resume_reading()

    # Writing: the transport says when too much is unsent, and when it is little again.

    def pause_writing(self) -> None:
        """The transport holds more than `send_buffer_limit`: the client is slow."""
        if not self.slow and self.state == OPEN:
            self.slow = 1
            self.write = self._write_slow
            if self.pending is None:
                self.pending = []
            self.hub.became_slow(self)

    def resume_writing(self) -> None:
        """The transport holds less than a quarter of `send_buffer_limit`."""
        if self.slow and self.state == OPEN:
            self.slow = 0
            self.write = self.writer()
            if not self.pending:
                self.pending = None
            self.hub.caught_up(self)

    def _write_slow(self, frame: bytes) -> bool | None:
        self.flush()
        # Nothing drains within one turn of the loop, so a burst in one turn may go further.
        if self.slow == 1:
            if self.unsent() + len(frame) <= 8 * self.channel.options.send_buffer_limit:
                self.writer()(frame)
                return None
        return False

    def flush(self) -> None:
        """Hand what was gathered in this turn to the transport."""
        frames = self.pending
        if frames:
            self.pending = [] if self.slow else None
            self.writer()(frames[0] if len(frames) == 1 else b"".join(frames))

    # The end.

    def close(self, close: Close) -> bool:
        """Close the connection from this side. False when it has ended already."""
        if self.state != OPEN:
            return False
        self.flush()
        self.send_close(close)
        self.end(close)
        return True

    def end(self, close: Close) -> None:
        """The connection has ended: off the lists at once, `disconnect` behind what waits."""
        if self.ended is None:
            self.ended = close
            self.state = CLOSING
            self.write = _refuse
            self.hub.remove(self)
            self.pending = None
            self.channel.disconnected(self)


def _refuse(frame: bytes) -> bool:
    return False


_NO_PARAMS: dict[str, str] = {}


# What stands in `waiting` behind the last message, for the event of that name.
DISCONNECTED = object()


def waiting_messages(client: Client) -> int:
    """How many messages wait in the event channel of `client`."""
    waiting = client.waiting
    if not waiting:
        return 0
    return len(waiting) - (waiting[-1] is DISCONNECTED)
