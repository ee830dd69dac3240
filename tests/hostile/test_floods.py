"""Messages that are too large, in too many pieces or never whole; floods of control frames."""

from __future__ import annotations

import asyncio
import struct

import pytest
from websockets.frames import Opcode

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import PATIENCE, eventually
from ..e2e.servers import Served
from ..e2e.wire import Wire, frame, text
from .helpers import Flood, bystander, echoing, little_memory, no_descriptor_left, unsent

MIB = 2**20


async def taken(wire: Wire) -> None:
    """All that was sent has been read by the server."""
    wire.send(frame(Opcode.PING, b"?"))
    assert await wire.frame() == (Opcode.PONG, b"?", True)


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
async def test_the_fragment_that_crosses_the_limit(
    new_bolt: NewBolt, serve: Serve, opcode: Opcode
) -> None:
    """A message in fragments may be as large as the limit and no larger: 1009 at the header of
    the fragment that crosses it, however small, and no byte of it is waited for."""
    bolt = new_bolt(max_message_size=1000)
    ends = echoing(bolt)
    served = serve(bolt)
    async with bystander(served), Wire(served) as wire:
        await wire.upgrade("/p")
        full = [frame(opcode, b"a" * 400, fin=False), frame(Opcode.CONT, b"b" * 600, fin=False)]
        wire.send(*full, frame(Opcode.CONT))
        assert await wire.frame() == (opcode, b"a" * 400 + b"b" * 600, True)
        wire.send(*full, frame(Opcode.CONT, fin=False))
        await taken(wire)
        wire.send(b"\x00\x81")  # a fragment of one byte, without its mask
        assert (await wire.closing())[0] == 1009
        assert await wire.end() == b""
        assert await ends.next() == 1009


async def test_a_large_message_is_not_kept(new_bolt: NewBolt, serve: Serve) -> None:
    """Twenty peers that announce a gigabyte each and go on sending cost no memory."""
    bolt = new_bolt(close_timeout=0.5)
    echoing(bolt)
    served = serve(bolt)

    async def announce() -> None:
        async with Wire(served) as wire:
            await wire.upgrade("/p")
            wire.send(b"\x82\xff" + struct.pack("!Q", 2**30))
            assert (await wire.closing())[0] == 1009
            for _ in range(32):  # it is swallowed, or the connection is gone
                wire.send(bytes(2**16))
                try:
                    async with asyncio.timeout(PATIENCE):
                        await wire._writer.drain()
                except ConnectionError:
                    break

    async with bystander(served):
        with little_memory(16 * MIB):
            for _ in range(20):
                await announce()


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["empty", "tiny"])
async def test_a_million_fragments(
    new_bolt: NewBolt, serve: Serve, piece: bytes, leaving: list[Served]
) -> None:
    """A message in a million pieces ends at max_fragments, 1009, though its peer goes on as if
    nothing had been said: the rest is swallowed unparsed, and costs others nothing."""
    bolt = new_bolt()
    ends = echoing(bolt)
    served = serve(bolt)
    async with bystander(served), no_descriptor_left(leaving):
        with little_memory(16 * MIB):
            thousand = frame(Opcode.CONT, piece, fin=False) * 1000
            begin = frame(Opcode.TEXT, piece, fin=False)
            flood = Flood(served, thousand, 1000, begin=begin)
            assert await ends.next() == 1009
            await asyncio.to_thread(flood.thread.join, PATIENCE)
            assert flood.sent == len(thousand) * 1000
        _, _, said = (await asyncio.to_thread(flood.unread)).partition(b"\r\n\r\n")
        assert said[:1] == b"\x88" and said[2:4] == struct.pack("!H", 1009)
        assert bolt.stats().bytes_in < MIB
        flood.end()


async def test_fragments_within_the_limits_are_a_message(new_bolt: NewBolt, serve: Serve) -> None:
    """Up to max_fragments pieces are one message: the refusal above is about their number."""
    bolt = new_bolt(max_fragments=50)
    echoing(bolt)
    served = serve(bolt)
    async with Wire(served) as wire:
        await wire.upgrade("/p")
        middle = frame(Opcode.CONT, b"x", fin=False) * 48
        wire.send(frame(Opcode.TEXT, b"x", fin=False), middle, frame(Opcode.CONT, b"x"))
        assert await wire.text() == "x" * 50


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    # what begins the message, and what then keeps the connection lively
    "silence": (frame(Opcode.TEXT, b"x", fin=False), b""),
    "fragments": (frame(Opcode.TEXT, b"x", fin=False), frame(Opcode.CONT, b"x", fin=False)),
    "empty fragments": (frame(Opcode.TEXT, b"x", fin=False), frame(Opcode.CONT, fin=False)),
    "pings": (frame(Opcode.TEXT, b"x", fin=False), frame(Opcode.PING)),
    "bytes of a frame": (frame(Opcode.BINARY, bytes(60_000))[:100], b"x"),
    "bytes of a short frame": (frame(Opcode.BINARY, bytes(120))[:10], b"x"),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_message_that_is_never_finished(new_bolt: NewBolt, serve: Serve, name: str) -> None:
    """message_timeout is the whole message's: what trickles in, pings too, does not renew it."""
    begin, drip = ENDLESS[name]
    bolt = new_bolt(message_timeout=0.1, close_timeout=0.3)
    ends = echoing(bolt)
    served = serve(bolt)
    async with bystander(served), Wire(served) as wire:
        await wire.upgrade("/p")
        wire.send(begin)
        ended = asyncio.create_task(ends.next())
        while not ended.done():
            wire.send(drip)
            await asyncio.sleep(0.05)  # the pace of the attack
        assert await ended == 1008
        while (received := await wire.frame()).opcode is Opcode.PONG:
            pass
        assert received.opcode is Opcode.CLOSE and received.data[:2] == struct.pack("!H", 1008)


@pytest.mark.parametrize(
    "data",
    [frame(Opcode.PING, b"x" * 125), frame(Opcode.PING), frame(Opcode.PONG, b"x" * 125)],
    ids=["full pings", "empty pings", "pongs"],
)
async def test_a_flood_of_pings(
    new_bolt: NewBolt, serve: Serve, data: bytes, leaving: list[Served]
) -> None:
    """A million pings from a peer that reads no pong: what the server keeps for it stays within
    its limit, all of them are read, and others are served."""
    limit = 2**16
    bolt = new_bolt(send_buffer_limit=limit)
    echoing(bolt)
    served = serve(bolt)
    burst = data * 1000
    async with bystander(served), no_descriptor_left(leaving):
        most = 0
        flood = Flood(served, burst, 1000)
        with little_memory(8 * MIB):
            while flood.thread.is_alive():
                most = max([most, *await asyncio.to_thread(unsent, served, bolt)])
                await asyncio.sleep(0.01)
        assert flood.sent == len(burst) * 1000
        await eventually(lambda: bolt.stats().bytes_in >= flood.sent)
        assert most <= limit + 1000
        flood.end()


@pytest.mark.parametrize("policy", ["close", "drop"])
async def test_answers_that_are_not_read(
    new_bolt: NewBolt, serve: Serve, policy: str, leaving: list[Served]
) -> None:
    """A peer that asks and asks and reads no answer is parted with, or misses answers: its
    unsent bytes stay within eight times its limit, which is what one turn may add."""
    limit = 2**12
    bolt = new_bolt(send_buffer_limit=limit, slow_consumer=policy, close_timeout=0.2)
    ends = echoing(bolt)
    served = serve(bolt)
    async with bystander(served), no_descriptor_left(leaving):
        most = 0
        flood = Flood(served, text("x" * 1000) * 100, 100)
        while flood.thread.is_alive():
            most = max([most, *await asyncio.to_thread(unsent, served, bolt)])
            await asyncio.sleep(0.005)
        # The peer has sent all; the server may still have some of it to read.
        await eventually(lambda: bolt.stats().dropped_out.get("slow", 0) > 0)
        assert most <= 8 * limit + 2000
        if policy == "close":
            assert await ends.next() == 1013
        flood.end()
