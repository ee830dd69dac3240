"""permessage-deflate (RFC 7692): negotiated, both ways, with the codec of ``websockets``.

Neither side keeps its window from one message to the next. So a broadcast is compressed once and
the same bytes go to all, and an idle connection holds no window of 32 KB.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from websockets.exceptions import InvalidHeader, NegotiationError, PayloadTooBig, ProtocolError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode
from websockets.headers import build_extension, parse_extension

from ..errors import TOO_BIG, Close
from ..frames import encode, split

Deflate = Callable[[bytes], bytes]

COMPRESSED = 0x40  # RSV1: the message is compressed

_SMALL = 128  # bytes of payload below which a message is left alone: it would hardly shrink
_SETTINGS = {"memLevel": 5, "level": 3}
_FACTORY = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    compress_settings=_SETTINGS,
)


class Inflater:
    """Decompresses the messages of one client."""

    __slots__ = ("_codec", "deflate")

    def __init__(self, codec: PerMessageDeflate) -> None:
        self._codec = codec
        self.deflate: Deflate = _deflate_with(codec.local_max_window_bits)

    def inflate(self, data: bytes, most: int) -> bytes | Close:
        """The message of a compressed payload, or how to close: what it inflates to is never held
        beyond `most` bytes."""
        try:
            frame = Frame(Opcode.BINARY, data, True, True)
            # One more, as zlib stops at the limit with the end of the stream still unread.
            message = bytes(self._codec.decode(frame, max_size=most + 1).data)
            return message if len(message) <= most else TOO_BIG
        except PayloadTooBig:
            return TOO_BIG
        except ProtocolError:
            return Close(1002, "a message cannot be decompressed")


def negotiate(offers: Iterable[str]) -> tuple[Inflater, str] | None:
    """The first acceptable of the peer's offers (``Sec-WebSocket-Extensions``), and the answer.
    None where none is acceptable: then nothing is compressed."""
    for header in offers:
        try:
            extensions = parse_extension(header)
        except InvalidHeader:
            continue
        for name, parameters in extensions:
            if name == _FACTORY.name:
                try:
                    answer, codec = _FACTORY.process_request_params(parameters, [])
                except NegotiationError:
                    continue  # another offer may do
                if codec.local_max_window_bits < 9:
                    continue  # zlib cannot compress so; websockets before 17 agrees to it
                return Inflater(codec), build_extension([(name, answer)])
    return None


class _Shared(threading.local):
    """What the loop of this thread has, as a codec serves one thread at a time."""

    def __init__(self) -> None:
        self.deflates: dict[int, Deflate] = {}


_shared = _Shared()


def _deflate_with(window_bits: int) -> Deflate:
    """Compress a frame. Clients of a loop with the same window share the function, and so its last
    result."""
    deflate = _shared.deflates.get(window_bits)
    if deflate is None:
        deflate = _shared.deflates[window_bits] = _new_deflate(window_bits)
    return deflate


def _new_deflate(window_bits: int) -> Deflate:
    codec = PerMessageDeflate(True, True, 15, window_bits, _SETTINGS)
    last: tuple[bytes, bytes] = (b"", b"")

    def deflate(frame: bytes) -> bytes:
        nonlocal last
        if frame is last[0]:
            return last[1]
        opcode, payload = split(frame)
        result = frame
        if len(payload) >= _SMALL:
            small = bytes(codec.encode(Frame(Opcode(opcode), payload)).data)
            if len(small) < len(payload):
                result = encode(COMPRESSED | opcode, small)
        last = (frame, result)
        return result

    return deflate
