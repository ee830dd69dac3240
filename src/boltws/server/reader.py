"""Frames in: strict RFC 6455, from the bytes of one read to messages and control frames.

:class:`FrameReader` is fed the bytes of the transport and calls what the wire does with them. It
does no I/O of its own. Whatever way a stream is split into reads, the same calls come of it.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable

try:
    from websockets.speedups import apply_mask
except ImportError:  # no C extension for this platform
    from websockets.utils import apply_mask

from ..channel import TURN, Channel
from ..client import CLOSED, Client
from ..errors import BAD_UTF8, NO_CODE, TOO_BIG, TOO_MANY_FRAGMENTS, Close, is_receivable
from ..frames import BINARY, CLOSE, PING, PONG, TEXT
from ..hub import Hub
from .deflate import COMPRESSED, Inflater

_utf8 = getincrementaldecoder("utf-8")


class Violation(Exception):
    """The peer broke the protocol or a limit: the connection is failed with `close`."""

    def __init__(self, close: Close) -> None:
        self.close = close


class Partial:
    """A data message that has begun and is not whole: unmasked as it comes, joined once."""

    __slots__ = ("_check", "data", "fragments", "mask", "need", "opcode", "packed", "since", "tail")

    def __init__(self, opcode: int, packed: bool, since: float) -> None:
        self.opcode = opcode
        self.packed = packed  # compressed
        self.data = bytearray()
        self.fragments = 0
        self.since = since
        self.need = 0  # bytes of the current frame still to come
        self.mask = b""
        self.tail = True  # whether the current frame is the last
        self._check: Callable[[bytes, bool], str] | None = (
            _utf8().decode if opcode == TEXT and not packed else None
        )

    def begin(self, fin: bool, size: int, mask: bytes) -> None:
        """The next frame of this message has a payload of `size`."""
        self.fragments += 1
        self.tail = fin
        self.need = size
        self.mask = mask

    def feed(self, data: bytes) -> None:
        """Take masked bytes of the current frame. Text is checked at once, not at its end."""
        size = len(data)
        chunk = apply_mask(data, self.mask)
        turn = size & 3
        if turn:  # the next bytes continue the mask where these end
            self.mask = self.mask[turn:] + self.mask[:turn]
        self.need -= size
        self.data += chunk
        if self._check is not None:
            try:
                self._check(chunk, self.tail and not self.need)
            except UnicodeDecodeError:
                raise Violation(BAD_UTF8) from None

    def message(self) -> str | bytes:
        """The whole message."""
        return self.data.decode() if self.opcode == TEXT else bytes(self.data)


class FrameReader(Client):
    """A client whose peer speaks frames."""

    __slots__ = ("inflater", "max_size", "partial", "seen", "tail")

    def __init__(self, hub: Hub, channel: Channel) -> None:
        super().__init__(hub, channel)
        self.tail = b""  # what came and is not parsed yet: a piece of a header, or a backlog
        self.partial: Partial | None = None
        self.inflater: Inflater | None = None  # where compression was agreed on
        self.max_size = channel.options.max_message_size
        self.seen = 0.0  # when the peer was last heard, by the sweeper's clock

    # What the wire does.

    def now(self) -> float:
        """The time, in seconds."""
        raise NotImplementedError

    def on_ping(self, payload: bytes) -> None:
        """Answer with a pong."""
        raise NotImplementedError

    def on_pong(self, payload: bytes) -> None:
        """The peer answered a ping."""
        raise NotImplementedError

    def on_close(self, close: Close) -> None:
        """The peer closes, or answers our close."""
        raise NotImplementedError

    def fail(self, close: Close) -> None:
        """The peer broke the protocol: nothing more is read."""
        raise NotImplementedError

    def backlog(self) -> None:
        """Read on in the next turn of the loop: what is left is in `tail`."""
        raise NotImplementedError

    # The hot path: one loop over the bytes of one read. A short, whole, unfragmented text or
    # binary frame, which is nearly all there are, is told by its first two bytes and takes no
    # call of ours on its way to the channel. Everything else goes to `_frame`.
    # Measured at 16 frames a read: 2.2 us a message with its handler, 13 us in the sans-I/O
    # core of `websockets`.

    def data_received(self, data: bytes) -> None:
        """The transport read `data`."""
        self.hub.ledger.bytes_in += len(data)
        self.seen = 0.0
        if self.tail:
            data = self.tail + data
            if self.held:
                self.tail = data
                return
            self.tail = b""
        elif self.held:
            self.tail = data
            return
        self.parse(data, TURN)

    def parse(self, data: bytes, budget: int) -> None:
        """Read the frames in `data`, at most `budget`; what is left stays in `tail`."""
        position = 0
        end = len(data)
        put = self.channel.put
        try:
            if self.partial is not None and self.partial.need:
                position = self._payload(data, 0, end)
                budget -= 1
            while end - position >= 2 and not self.held:
                if budget == 0:
                    self.backlog()
                    break
                budget -= 1
                first = data[position]
                size = data[position + 1] - 0x80
                body = position + 6
                stop = body + size
                if (
                    (first == 0x81 or first == 0x82)
                    and 0 <= size < 126
                    and stop <= end
                    and self.partial is None
                    and size <= self.max_size
                ):
                    message: str | bytes = apply_mask(data[body:stop], data[position + 2 : body])
                    if first == 0x81:
                        message = message.decode()  # type: ignore[union-attr]
                    position = stop
                    if put(self, message):
                        break
                    continue
                after = self._frame(data, position, end)
                if after == position:
                    break  # not whole yet
                position = after
                if self.state == CLOSED:
                    break
        except UnicodeDecodeError:
            self.fail(BAD_UTF8)
            return
        except Violation as violation:
            self.fail(violation.close)
            return
        if position < end and self.state != CLOSED:
            self.tail = data[position:] if position else data

    # Everything else.

    def _frame(self, data: bytes, position: int, end: int) -> int:
        """Read one frame of any kind. The position behind it; `position` where its header, or a
        control frame's payload, is not whole."""
        first, second = data[position], data[position + 1]
        opcode = first & 0x0F
        if first & 0x70 and not self._compresses(first):
            raise _broken("reserved bits are set")
        if not second & 0x80:
            raise _broken("a client's frame is not masked")
        size = second & 0x7F
        if opcode >= CLOSE:
            return self._control(data, position, end, first, size)
        self._check_order(opcode)
        start = position + 2
        if size > 125:
            wide = 2 if size == 126 else 8
            if end - start < wide:
                return position
            size = int.from_bytes(data[start : start + wide])
            if size < (126 if wide == 2 else 65536) or size >> 63:
                raise _broken("a length is not in its shortest form")
            start += wide
        partial = self.partial
        # Judged by its header, before anything of it is kept. What does not compress
        # grows, by 4 % where zlib has little memory.
        packed = partial.packed if partial is not None else bool(first & COMPRESSED)
        most = self.max_size + (self.max_size >> 4) + 64 if packed else self.max_size
        if size + (len(partial.data) if partial is not None else 0) > most:
            raise Violation(TOO_BIG)
        if end - start < 4:
            return position
        if partial is None:
            partial = self.partial = Partial(opcode, packed, self.now())
        elif partial.fragments >= self.channel.options.max_fragments:
            raise Violation(TOO_MANY_FRAGMENTS)
        partial.begin(bool(first & 0x80), size, data[start : start + 4])
        return self._payload(data, start + 4, end)

    def _compresses(self, first: int) -> bool:
        """Whether the reserved bits mark the first frame of a compressed message."""
        return (
            self.inflater is not None
            and first & 0x70 == COMPRESSED
            and first & 0x0F in (TEXT, BINARY)
        )

    def _check_order(self, opcode: int) -> None:
        if opcode > BINARY:
            raise _broken(f"opcode {opcode} is reserved")
        if opcode == 0 and self.partial is None:
            raise _broken("a continuation of nothing")
        if opcode and self.partial is not None:
            raise _broken("a new message inside a fragmented one")

    def _payload(self, data: bytes, position: int, end: int) -> int:
        """Give the current frame what there is for it, and the message on when it is whole."""
        partial = self.partial
        assert partial is not None
        stop = min(end, position + partial.need)
        partial.feed(data[position:stop])
        if partial.tail and not partial.need:
            self.partial = None
            self.channel.put(self, self._unpacked(partial) if partial.packed else partial.message())
        return stop

    def _unpacked(self, partial: Partial) -> str | bytes:
        assert self.inflater is not None
        message = self.inflater.inflate(bytes(partial.data), self.max_size)
        if isinstance(message, Close):
            raise Violation(message)
        return message.decode() if partial.opcode == TEXT else message

    def _control(self, data: bytes, position: int, end: int, first: int, size: int) -> int:
        opcode = first & 0x0F
        if opcode > PONG:
            raise _broken(f"opcode {opcode} is reserved")
        if not first & 0x80:
            raise _broken("a control frame is fragmented")
        if size > 125:
            raise _broken("a control frame is longer than 125 bytes")
        body = position + 6
        stop = body + size
        if stop > end:
            return position
        payload = apply_mask(data[body:stop], data[position + 2 : body])
        if opcode == PING:
            self.on_ping(payload)
        elif opcode == PONG:
            self.on_pong(payload)
        else:
            self.on_close(_close_of(payload))
        return stop


def _close_of(payload: bytes) -> Close:
    """The close of a close frame's payload (RFC 6455, section 5.5.1)."""
    if not payload:
        return Close(NO_CODE)
    if len(payload) == 1:
        raise _broken("a close frame of one byte")
    code = int.from_bytes(payload[:2])
    if not is_receivable(code):
        raise _broken(f"close code {code} must not be sent")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise Violation(BAD_UTF8) from None


def _broken(what: str) -> Violation:
    return Violation(Close(1002, what))
