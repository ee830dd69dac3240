"""Sizes: what is too large fails by its header, and what is large is kept once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from boltws.server import reader

from ..fakes import in_virtual_time
from .helpers import BINARY, CONTINUATION, PING, TEXT, fragments, frame, serving, text


@pytest.mark.parametrize("limit", [10, 125, 126, 65535, 65536, 100000])
@in_virtual_time
async def test_a_message_may_be_as_large_as_the_limit(limit: int) -> None:
    """`max_message_size` itself passes, whole and in fragments, an empty last one included."""
    data = b"x" * limit
    async with serving(max_message_size=limit) as served:
        peer = served.connect()
        peer.send(frame(BINARY, data))
        peer.send(*fragments(TEXT, data[:5], data[5:], b""))
        assert peer.messages == [data, data.decode()]
        peer.assert_open()


@pytest.mark.parametrize("limit", [10, 124, 125, 126, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@in_virtual_time
async def test_one_byte_more_is_1009_at_the_header(opcode: int, limit: int) -> None:
    """A frame above the limit fails by its length alone, before a byte of it is kept."""
    header = frame(opcode, size=limit + 1)[:-4]  # not even the mask
    async with serving(max_message_size=limit) as served:
        peer = served.connect()
        await peer.trickle(*(header[i : i + 1] for i in range(len(header))))
        peer.assert_failed(1009)


@pytest.mark.parametrize("limit", [10, 125, 70000])
@in_virtual_time
async def test_a_message_above_the_limit_is_not_handled(limit: int) -> None:
    """The same when all of it came in one read, behind others that fit."""
    async with serving(max_message_size=limit) as served:
        peer = served.connect()
        peer.send(text("x" * limit), text("x" * (limit + 1)), text("behind"))
        peer.assert_failed(1009)
        assert peer.messages == ["x" * limit]


@in_virtual_time
async def test_the_largest_length_there_is_takes_no_memory() -> None:
    """A length of 2^63-1 is well-formed and too big: 1009, and nothing was set aside for it."""
    async with serving() as served:
        peer = served.connect()
        peer.send(frame(BINARY, b"x" * 1000, size=2**63 - 1))
        peer.assert_failed(1009)


@in_virtual_time
async def test_the_fragment_that_crosses_the_limit_is_1009() -> None:
    """Fragments are added up: the one that would pass the limit fails by its header."""
    async with serving(max_message_size=1000) as served:
        peer = served.connect()
        peer.send(frame(BINARY, bytes(600), False), frame(0, bytes(400), False))
        peer.assert_open()
        peer.send(frame(CONTINUATION, size=1)[:2])
        peer.assert_failed(1009)
        assert peer.messages == []


@in_virtual_time
async def test_sizes_are_counted_for_each_message_anew() -> None:
    """Many messages below the limit pass it together, and control frames do not count."""
    async with serving(max_message_size=100) as served:
        peer = served.connect()
        for _ in range(5):
            begin, end = fragments(BINARY, bytes(60), bytes(40))
            peer.send(begin, frame(PING, bytes(125)), end)
        assert peer.messages == [bytes(100)] * 5
        assert len(peer.pongs) == 5


@in_virtual_time
async def test_one_fragment_too_many_is_1009() -> None:
    """`max_fragments` pass, the next one fails with 1009; each message is counted anew."""
    async with serving(max_fragments=3) as served:
        peer = served.connect()
        peer.send(*fragments(TEXT, b"a", b"b", b"c"), *fragments(TEXT, b"", b"", b"d"))
        assert peer.messages == ["abc", "d"]
        peer.send(*fragments(TEXT, b"a", b"b", b"c", b"d"), text("behind"))
        peer.assert_failed(1009)
        assert peer.messages == ["abc", "d"]


@in_virtual_time
async def test_empty_fragments_are_no_way_around() -> None:
    """Fragments without a byte, which no size limits, are counted: 4,096 by default."""
    async with serving() as served:
        peer = served.connect()
        await peer.trickle(frame(TEXT, b"", False) + frame(0, b"", False) * 4095)
        peer.assert_open()
        peer.send(frame(CONTINUATION, b"", False))
        peer.assert_failed(1009)


# Large messages.


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@in_virtual_time
async def test_a_large_frame_is_unmasked_once(opcode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that comes in many reads goes byte for byte once through the mask into one buffer:
    what is kept grows with the reads, and no read touches what came before."""
    unmasked = 0
    apply_mask: Callable[[bytes, bytes], bytes] = vars(reader)["apply_mask"]

    def counting(data: bytes, mask: bytes) -> bytes:
        nonlocal unmasked
        unmasked += len(data)
        return apply_mask(data, mask)

    monkeypatch.setattr(reader, "apply_mask", counting)
    payload = b"0123456789" * 50_000
    whole = frame(opcode, payload)
    header = len(whole) - len(payload)
    cuts = [*range(0, len(whole), 1001), len(whole)]
    async with serving() as served:
        peer = served.connect()
        buffers = set()
        for start, stop in pairwise(cuts):
            await peer.trickle(whole[start:stop])
            assert peer.wire.tail == b""
            if (partial := peer.wire.partial) is not None:
                buffers.add(id(partial.data))
                assert len(partial.data) == unmasked == stop - header
        assert len(buffers) == 1
        assert unmasked == len(payload)
        assert peer.messages == [payload if opcode == BINARY else payload.decode()]


@in_virtual_time
async def test_a_header_in_pieces_is_all_that_is_kept_of_a_read() -> None:
    """Between reads only the piece of a header stays, whatever came before it."""
    async with serving() as served:
        peer = served.connect()
        last = frame(BINARY, bytes(70000))
        peer.send(text("x" * 100), frame(PING), last[:9])
        assert peer.wire.tail == last[:9]
        peer.send(last[9:])
        assert peer.wire.tail == b""
        assert peer.messages == ["x" * 100, bytes(70000)]
