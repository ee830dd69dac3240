"""What travels between nodes, as bytes."""

from __future__ import annotations

import contextlib
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws.backplane import envelope
from boltws.backplane.envelope import BadMessage
from boltws.ids import id_source

ids = st.uuids().map(str)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)


def pack(exclude: list[str] | None, name: str, payload: bytes, binary: bool = False) -> bytes:
    """A whole envelope, with what is given of the extras."""
    flags = envelope.BINARY * binary
    parts = [payload]
    if name:
        flags |= envelope.NAME
        parts.insert(0, envelope.pack_name(name))
    if exclude is not None:
        flags |= envelope.EXCLUDE
        parts.insert(0, envelope.pack_exclude(exclude))
    head = envelope.pack_head(envelope.VERSION, envelope.ROOM, flags, b"\1\2\3\4\5", 1, 2)
    return head + b"".join(parts)


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(min_size=5, max_size=5),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
)
def test_the_head(operation: int, flags: int, node: bytes, series: int, sequence: int) -> None:
    """What is packed is unpacked, up to the greatest numbers."""
    head = envelope.pack_head(envelope.VERSION, operation, flags, node, series, sequence)
    assert len(head) == envelope.SIZE == 20
    told = (envelope.VERSION, operation, flags, node, series, sequence)
    assert envelope.unpack_head(head + b"payload") == told


def test_the_bytes_of_the_head() -> None:
    """They are as documented: nodes of other releases read them."""
    head = envelope.pack_head(1, envelope.SEND, envelope.NAME, b"abcde", 0x01020304, 5)
    assert head == b"\x01\x03\x04abcde\x01\x02\x03\x04\0\0\0\0\0\0\0\x05"


def test_the_operations() -> None:
    """Their numbers are for ever."""
    names = "ROOM EVERYONE SEND CLOSE JOIN LEAVE ASK ANSWER BEAT BYE".split()
    assert [getattr(envelope, name) for name in names] == list(range(1, 11))
    assert (envelope.BINARY, envelope.EXCLUDE, envelope.NAME) == (1, 2, 4)


@given(st.none() | st.lists(ids, max_size=20), names | st.just(""), st.binary(), st.booleans())
def test_extras(exclude: list[str] | None, name: str, payload: bytes, binary: bool) -> None:
    """Ids to leave out, a room's name and the payload come out as they went in."""
    data = pack(exclude, name, payload, binary)
    extras = envelope.unpack_extras(data[2], data)
    assert extras == (tuple(exclude or ()), name, payload)


@given(st.none() | st.lists(ids, max_size=4), names | st.just(""), st.binary(max_size=9))
def test_extras_cut_off(exclude: list[str] | None, name: str, payload: bytes) -> None:
    """Wherever they end before the payload, it is a BadMessage and nothing else."""
    data = pack(exclude, name, payload)
    for size in range(envelope.SIZE, len(data) - len(payload)):
        with pytest.raises(BadMessage):
            envelope.unpack_extras(data[2], data[:size])
    for size in range(len(data) - len(payload), len(data) + 1):
        assert envelope.unpack_extras(data[2], data[:size]).name == name


@given(st.integers(0, 255), st.binary(max_size=100))
def test_extras_of_anything(flags: int, data: bytes) -> None:
    """Arbitrary bytes raise BadMessage or nothing."""
    with contextlib.suppress(BadMessage):
        envelope.unpack_extras(flags, bytes(envelope.SIZE) + data)


def test_a_count_beyond_the_message() -> None:
    """65,535 ids are promised and none is there: a BadMessage, at once."""
    with pytest.raises(BadMessage):
        envelope.unpack_extras(envelope.EXCLUDE, bytes(envelope.SIZE) + b"\xff\xff")


@given(ids)
def test_ids(client_id: str) -> None:
    """16 bytes, there and back; what follows does not matter, and too few are a BadMessage."""
    packed = envelope.pack_id(client_id)
    assert packed == UUID(client_id).bytes
    assert envelope.unpack_id(packed + b"more") == client_id
    for size in range(16):
        with pytest.raises(BadMessage):
            envelope.unpack_id(packed[:size])


def test_our_ids() -> None:
    """Those that Bolt makes are among them."""
    _, next_id = id_source()
    for _ in range(100):
        client_id = next_id()
        assert envelope.unpack_id(envelope.pack_id(client_id)) == client_id


@given(st.text(max_size=50) | st.text("0123456789abcdef- ", min_size=36, max_size=36))
def test_what_is_no_id(text: str) -> None:
    """It is 16 bytes or a ValueError, never another length: what follows would be misread."""
    with contextlib.suppress(ValueError):
        assert len(envelope.pack_id(text)) == 16


@given(st.lists(ids | st.text("0123456789abcdef- ", min_size=36, max_size=36), max_size=5))
def test_exclude_leaves_off_what_is_no_id(client_ids: list[str]) -> None:
    """As many ids are packed as the count says, whatever was given."""
    packed = envelope.pack_exclude(client_ids)
    assert len(packed) == 2 + 16 * int.from_bytes(packed[:2])


def test_exclude_leaves_off_what_is_no_text() -> None:
    """Whatever it is, as on a process alone."""
    odd: Any = [None, 5, b"x", b"x-" * 18, ["x"], object()]
    assert envelope.pack_exclude([*odd, "01234567-89ab-8cde-8f01-23456789abcd"])[:2] == b"\0\1"


@given(st.binary(max_size=40))
def test_a_bad_message_is_a_value_error(data: bytes) -> None:
    """Handlers catch both as one."""
    try:
        envelope.unpack_id(data)
    except ValueError as error:
        assert isinstance(error, BadMessage)
