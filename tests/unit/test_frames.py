"""Frames out: what the library encodes is what RFC 6455 says, once for all clients."""

from __future__ import annotations

import base64
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from boltws.errors import Close
from boltws.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    binary_frame,
    close_frame,
    decode,
    encode,
    text_frame,
)

from .server.helpers import read_frames

EDGES = [0, 1, 125, 126, 127, 65535, 65536, 70000]
"""Payload sizes on both sides of where the length takes more bytes."""


def frame_of(message: str | bytes) -> bytes:
    return text_frame(message) if isinstance(message, str) else binary_frame(message)


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_is_that_of_another_implementation(opcode: int, size: int) -> None:
    """A data frame of any size is byte for byte what `websockets` makes of it."""
    payload = b"x" * size
    assert encode(opcode, payload) == Frame(Opcode(opcode), payload).serialize(mask=False)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("size", [0, 1, 125])
def test_control_frames_too(opcode: int, size: int) -> None:
    """So is a control frame."""
    payload = b"x" * size
    assert encode(opcode, payload) == Frame(Opcode(opcode), payload).serialize(mask=False)


@pytest.mark.parametrize(
    ("size", "header"), [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10), (70000, 10)]
)
def test_the_header_is_the_shortest_there_is(size: int, header: int) -> None:
    """The length takes no more bytes than it needs, for text and for binary."""
    assert len(text_frame("x" * size)) == header + size
    assert len(binary_frame(bytes(size))) == header + size


@pytest.mark.parametrize("size", EDGES)
def test_edges_come_back(size: int) -> None:
    """What was encoded is decoded to the same message, on both sides of every edge."""
    for message in ("y" * size, b"y" * size):
        sent = frame_of(message)
        assert list(decode(sent)) == [(message, len(sent))]


@given(st.text())
def test_text_comes_back(message: str) -> None:
    """Any text is decoded to itself, and is one frame of its UTF-8."""
    sent = text_frame(message)
    assert list(decode(sent)) == [(message, len(sent))]
    assert read_frames(sent) == [(TEXT, message.encode())]


@given(st.binary())
def test_binary_comes_back(data: bytes) -> None:
    """Any bytes are decoded to themselves, and are one frame."""
    sent = binary_frame(data)
    assert list(decode(sent)) == [(data, len(sent))]
    assert read_frames(sent) == [(BINARY, data)]


@given(st.lists(st.text() | st.binary() | st.sampled_from(EDGES).map(bytes), max_size=8))
def test_frames_in_a_row_come_back(messages: list[str | bytes]) -> None:
    """Frames that were joined come apart again, in order, each with its own size."""
    frames = [frame_of(message) for message in messages]
    sizes = [len(sent) for sent in frames]
    assert list(decode(b"".join(frames))) == list(zip(messages, sizes, strict=True))


@given(st.binary())
def test_base64_is_decoded(data: bytes) -> None:
    """A str given as binary is base64, and its bytes go out."""
    assert binary_frame(base64.b64encode(data).decode()) == binary_frame(data)


def test_the_length_counts_bytes() -> None:
    """The length of a text is that of its UTF-8, not its number of characters."""
    sent = text_frame("é" * 63)
    assert sent[1] == 126 and len(sent) == 4 + 126


def test_a_mutable_buffer_is_copied() -> None:
    """What the caller does with its buffer afterwards does not change what goes out."""
    buffer = bytearray(b"before")
    frames = [binary_frame(buffer), binary_frame(memoryview(buffer))]
    buffer[:] = b"after!"
    assert [read_frames(sent) for sent in frames] == [[(BINARY, b"before")]] * 2


def test_a_view_of_any_layout_is_taken() -> None:
    """A memoryview with gaps, or of wider items, goes out as the bytes it shows."""
    assert binary_frame(memoryview(b"a.b.c.")[::2]) == binary_frame(b"abc")
    assert binary_frame(memoryview(b"abcd").cast("H")) == binary_frame(b"abcd")
    assert binary_frame(array("H", b"abcd")) == binary_frame(b"abcd")


@pytest.mark.parametrize("message", ["\ud800", "ok \udfff", "\udc00\ud83d"])
def test_a_lone_surrogate_is_no_text(message: str) -> None:
    """A str that does not encode to UTF-8 is a ValueError that says where."""
    with pytest.raises(ValueError, match="lone surrogate"):
        text_frame(message)


@pytest.mark.parametrize("message", [b"bytes", bytearray(b"b"), memoryview(b"m"), None, 5, ["x"]])
def test_only_str_is_text(message: Any) -> None:
    """Another type than str is a TypeError that names it."""
    with pytest.raises(TypeError, match=type(message).__name__) as caught:
        text_frame(message)
    hint = "json.dumps" if message in (None, 5, ["x"]) else "the binary operation"
    assert hint in str(caught.value)


class Encodes:
    """Not a str, but it has an ``encode``."""

    def encode(self) -> bytes:
        return b"looks like text"


def test_what_looks_like_a_str_is_none() -> None:
    """A type that happens to have an ``encode`` is refused like any other."""
    with pytest.raises(TypeError, match="Encodes"):
        text_frame(Encodes())  # type: ignore[arg-type]


@pytest.mark.parametrize("data", ["not base64!", "YQ", "YQ=", "YQ==\n", "Y Q==", "é", "YQ==YQ=="])
def test_bad_base64_is_refused(data: str) -> None:
    """A str that is not strictly base64 is a ValueError, never a guess."""
    with pytest.raises(ValueError, match="base64"):
        binary_frame(data)


@pytest.mark.parametrize("data", [None, 5, 5.0, [1, 2], (b"x",), object()])
def test_only_bytes_like_is_binary(data: Any) -> None:
    """Another type is a TypeError that names it: above all an int, which ``bytes()`` would take."""
    with pytest.raises(TypeError, match=type(data).__name__):
        binary_frame(data)


@pytest.mark.parametrize(
    ("close", "payload"),
    [
        (Close(1000), b"\x03\xe8"),
        (Close(4999, "bye"), b"\x13\x87bye"),
        (Close(3000, "é" * 61 + "x"), b"\x0b\xb8" + "é".encode() * 61 + b"x"),
        (Close(1005), b""),
    ],
)
def test_a_close_frame_carries_code_and_reason(close: Close, payload: bytes) -> None:
    """Code and reason go out as they are; 1005, which is never on the wire, as an empty close."""
    assert read_frames(close_frame(close)) == [(CLOSE, payload)]
