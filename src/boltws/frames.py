"""A message becomes the bytes of a frame once, whoever it goes to (RFC 6455, section 5.2).

A server's frames are unmasked, so the same ``bytes`` goes to every client.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from struct import Struct

from .errors import Close

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_FIN = 0x80

_pack_short = Struct("!BBH").pack
_pack_long = Struct("!BBQ").pack
_pack_code = Struct("!H").pack

# One header for each length up to 125: most messages are short.
_TEXT_HEADERS = tuple(bytes((_FIN | TEXT, n)) for n in range(126))


def encode(opcode: int, payload: bytes) -> bytes:
    """One unmasked, final frame of `opcode` around `payload`."""
    size = len(payload)
    if size < 126:
        return bytes((_FIN | opcode, size)) + payload
    if size < 65536:
        return _pack_short(_FIN | opcode, 126, size) + payload
    return _pack_long(_FIN | opcode, 127, size) + payload


def text_frame(message: str) -> bytes:
    """The frame of a text message.

    Raises ``TypeError`` for anything but a ``str``, ``ValueError`` for a ``str`` that does not
    encode to UTF-8 (a lone surrogate).
    """
    try:
        payload = message.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a message must encode to UTF-8; character {error.start} is a lone surrogate"
        ) from None
    except AttributeError:
        payload = None
    if type(payload) is not bytes or not isinstance(message, str):
        given: object = message
        is_bytes = isinstance(given, (bytes, bytearray, memoryview))
        raise TypeError(
            f"a text message is a str, not {type(message).__name__}; "
            + ("send bytes with the binary operation" if is_bytes else "json.dumps makes one of it")
        )
    size = len(payload)
    if size < 126:
        return _TEXT_HEADERS[size] + payload
    return encode(TEXT, payload)


def binary_frame(data: str | bytes | bytearray | memoryview) -> bytes:
    """The frame of a binary message: bytes-like as it is (copied), ``str`` decoded from base64.

    Raises ``ValueError`` for bad base64, ``TypeError`` for any other type.
    """
    if isinstance(data, str):
        try:
            return encode(BINARY, base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError) as error:
            raise ValueError(
                f"a str given as binary data must be base64 ({error}); "
                "give bytes to send them as they are"
            ) from None
    if isinstance(data, bytes):
        return encode(BINARY, data)
    try:
        return encode(BINARY, bytes(memoryview(data)))
    except TypeError:
        raise TypeError(
            f"binary data is bytes-like or a base64 str, not {type(data).__name__}"
        ) from None


def close_frame(close: Close) -> bytes:
    """The close frame of `close`; an empty one for code 1005."""
    if close.code == 1005:
        return encode(CLOSE, b"")
    return encode(CLOSE, _pack_code(close.code) + close.reason.encode())


def split(frame: bytes) -> tuple[int, bytes]:
    """The opcode and payload of one frame made by this module."""
    return frame[0] & 0x0F, frame[head_size(frame) :]


def head_size(frame: bytes) -> int:
    """How many bytes stand before the payload of one frame made by this module."""
    size = frame[1]
    return 2 if size < 126 else 4 if size == 126 else 10


def decode(frames: bytes) -> Iterator[tuple[str | bytes, int]]:
    """The messages in data frames made by this module, each with the size of its frame: for
    servers that take messages."""
    start = 0
    while start < len(frames):
        size = frames[start + 1]
        body = start + 2
        if size > 125:
            wide = 2 if size == 126 else 8
            size = int.from_bytes(frames[body : body + wide])
            body += wide
        stop = body + size
        payload = frames[body:stop]
        text = frames[start] & 0x0F == TEXT
        yield (payload.decode() if text else payload), stop - start
        start = stop
