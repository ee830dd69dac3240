"""Frames that break RFC 6455: each is told its code, at once, from its first bytes on."""

from __future__ import annotations

import struct

import pytest
from websockets.frames import Opcode

from boltws import Bolt

from ..e2e.conftest import NewBolt, Serve
from ..e2e.servers import Served
from ..e2e.wire import Wire, close, frame, text
from .helpers import bystander, echoing


def head(first: int, second: int, rest: bytes = b"") -> bytes:
    """The beginning of a frame: its two first bytes and what is given behind them."""
    return bytes([first, second]) + rest


async def fails(served: Served, data: bytes, code: int, *begun: bytes) -> None:
    """`data` is the last that is sent, and the answer is the close, then the end."""
    async with Wire(served) as wire:
        await wire.upgrade("/p")
        if begun:  # in a read of its own
            wire.send(*begun, frame(Opcode.PING))
            assert (await wire.frame()).opcode is Opcode.PONG
        wire.send(data)
        assert (await wire.closing())[0] == code, data
        assert await wire.end() == b""


def closed_by(bolt: Bolt, code: int) -> int:
    return bolt.stats().closed.get(code, 0)


BEGUN = frame(Opcode.TEXT, b"x", fin=False)

GROUPS: dict[str, tuple[int, list[bytes]]] = {
    # All of these break off behind the byte that is wrong: nothing more is waited for.
    "reserved bits": (1002, [head(0x81 | bit, 0x80) for bit in (0x40, 0x20, 0x10, 0x50, 0x70)]),
    "reserved opcodes": (1002, [head(0x80 | op, 0x80) for op in (3, 4, 5, 6, 7, *range(11, 16))]),
    "unmasked": (1002, [head(0x80 | op, size) for op in (1, 2, 8, 9, 10) for size in (0, 5, 126)]),
    "fragmented control frames": (1002, [head(op, 0x80) for op in (8, 9, 10)]),
    "long control frames": (
        1002,
        [head(0x80 | op, 0x80 | s) for op in (8, 9, 10) for s in (126, 127)],
    ),
    "continuations of nothing": (1002, [head(first, 0x85) for first in (0x00, 0x80)]),
    "lengths that are not minimal": (
        1002,
        [head(0x82, 0xFE, struct.pack("!H", size)) for size in (0, 1, 125)]
        + [head(0x82, 0xFF, struct.pack("!Q", size)) for size in (0, 125, 126, 65535)],
    ),
    "lengths above 63 bits": (
        1002,
        [head(0x82, 0xFF, struct.pack("!Q", size)) for size in (2**63, 2**63 + 1, 2**64 - 1)],
    ),
    "lengths above the limit": (
        1009,
        [
            head(first, 0xFF, struct.pack("!Q", size))
            for first in (0x81, 0x82, 0x02)
            for size in (2**20 + 1, 2**32, 2**63 - 1)
        ],
    ),
    "close codes that must not be sent": (
        1002,
        [close(code) for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)],
    ),
    "a close of one byte": (1002, [frame(Opcode.CLOSE, b"\x03")]),
    "close reasons that are no UTF-8": (
        1007,
        [
            frame(Opcode.CLOSE, b"\x03\xe8" + bad)
            for bad in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"ok\xe2\x82", b"x" * 122 + b"\xc3")
        ],
    ),
}


@pytest.mark.parametrize("name", GROUPS)
async def test_violations_are_judged_as_they_come(
    new_bolt: NewBolt, serve: Serve, name: str
) -> None:
    """Each member of a group fails the connection, alone and inside a fragmented message; the
    server waits for no byte behind the one that is wrong, and nobody else notices."""
    code, all_data = GROUPS[name]
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        for data in all_data:
            await fails(served, data, code)
            # There a new message, or one that goes on, breaks another rule.
            if name not in ("continuations of nothing", "lengths above the limit"):
                inside = 1002 if data[0] & 0x0F in (1, 2) else code
                await fails(served, data, inside, BEGUN)
    stats = bolt.stats()
    assert stats.closed.get(1006, 0) == 0
    assert closed_by(bolt, code) >= len(all_data)


BAD_TEXTS = {
    "stray continuation": b"ab\x80cd",
    "overlong slash": b"ab\xc0\xafcd",
    "overlong NUL": b"ab\xe0\x80\x80cd",
    "surrogate": b"ab\xed\xa0\x80cd",
    "above U+10FFFF": b"ab\xf4\x90\x80\x80cd",
    "five bytes": b"ab\xf8\x88\x80\x80\x80cd",
    "cut off": b"ab\xe2\x82",
}


@pytest.mark.parametrize("name", BAD_TEXTS)
@pytest.mark.parametrize("how", ["fragments", "segments"])
async def test_bad_utf8_split_anywhere(
    new_bolt: NewBolt, serve: Serve, name: str, how: str
) -> None:
    """Text that is no UTF-8 is 1007 wherever it is cut, between fragments or between reads."""
    bad = BAD_TEXTS[name]
    bolt = new_bolt()
    ends = echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        for cut in range(len(bad) + 1):
            async with Wire(served) as wire:
                await wire.upgrade("/p")
                if how == "fragments":
                    first = frame(Opcode.TEXT, bad[:cut], fin=False)
                    rest = frame(Opcode.CONT, bad[cut:])
                else:
                    whole = frame(Opcode.TEXT, bad)
                    first, rest = whole[: 6 + cut], whole[6 + cut :]
                wire.send(frame(Opcode.PING), first)
                assert (await wire.frame()).opcode is Opcode.PONG  # it has come, in its own read
                wire.send(rest)
                assert (await wire.closing())[0] == 1007, cut
            assert await ends.next() == 1007
    assert bolt.stats().failed == 0


async def test_bad_utf8_is_not_waited_for(new_bolt: NewBolt, serve: Serve) -> None:
    """A bad byte fails the connection when it comes, however much is still announced."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        long = frame(Opcode.TEXT, b"a" * 100 + b"\xff" + b"a" * 60_000)
        await fails(served, long[:200], 1007)
        await fails(served, frame(Opcode.TEXT, b"\xff", fin=False), 1007)
        await fails(served, frame(Opcode.CONT, b"\x80", fin=False), 1007, BEGUN)


@pytest.mark.parametrize("behind", ["messages", "close", "violation", "ping", "garbage"])
async def test_whatever_comes_behind_a_close(new_bolt: NewBolt, serve: Serve, behind: str) -> None:
    """After the peer's close nothing of it is read: no message, no second answer, no violation."""
    data = {
        "messages": text("late") * 1000,
        "close": close(4002) * 3,
        "violation": b"\xff\xff",
        "ping": frame(Opcode.PING, b"late") * 100,
        "garbage": bytes(range(256)) * 100,
    }[behind]
    bolt = new_bolt()
    ends = echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        for _ in range(10):
            async with Wire(served) as wire:
                await wire.upgrade("/p")
                wire.send(text("in time"), close(4001), data)
                assert await wire.text() == "in time"
                assert (await wire.closing())[0] == 4001
                try:
                    assert await wire.end() == b""
                except ConnectionResetError:
                    pass  # bytes were left unread: the system says so
            assert await ends.next() == 4001
    assert not bolt.stats().dropped_in, "it was read, and taken for messages that came too late"
