"""Compressed messages that are small on the wire and large in memory, and offers to send such."""

from __future__ import annotations

import asyncio
import zlib

import pytest
from websockets.frames import Opcode

from ..e2e.conftest import NewBolt, Serve
from ..e2e.servers import Served
from ..e2e.wire import Wire, frame, handshake, text
from .helpers import bystander, echoing, little_memory, no_descriptor_left

MIB = 2**20
OFFER = "permessage-deflate"


def deflated(data: bytes) -> bytes:
    """A payload as RFC 7692 has it: without the empty block at its end."""
    return block(data).removesuffix(b"\0\0\xff\xff")


def block(data: bytes) -> bytes:
    """Compressed data behind which other such data may stand."""
    codec = zlib.compressobj(9, zlib.DEFLATED, -15)
    return codec.compress(data) + codec.flush(zlib.Z_FULL_FLUSH)


def packed(data: bytes, opcode: Opcode = Opcode.BINARY, fin: bool = True) -> bytes:
    """A frame that says its payload is compressed."""
    plain = frame(opcode, data, fin)
    return bytes([plain[0] | 0x40]) + plain[1:]


ZEROS = (block(bytes(MIB)) * 64).removesuffix(b"\0\0\xff\xff")
"""64 MiB in 64 KB."""


@pytest.mark.parametrize("how", ["frame", "fragments", "one byte more"])
async def test_bombs(new_bolt: NewBolt, serve: Serve, how: str, leaving: list[Served]) -> None:
    """What inflates above max_message_size is 1009 and is never held: thirty at once cost no
    memory, and a message as large as the limit is served."""
    bolt = new_bolt(compression=True, max_message_size=MIB)
    ends = echoing(bolt)
    served = serve(bolt)
    half = len(ZEROS) // 2
    data = {
        "frame": packed(ZEROS),
        "fragments": packed(ZEROS[:half], fin=False) + frame(Opcode.CONT, ZEROS[half:]),
        "one byte more": packed(deflated(bytes(MIB + 1))),
    }[how]

    async def explode() -> None:
        async with Wire(served) as wire:
            await wire.upgrade("/p", sec_websocket_extensions=OFFER)
            wire.send(data)
            assert (await wire.closing())[0] == 1009
            assert await wire.end() == b""

    async with bystander(served), no_descriptor_left(leaving):
        with little_memory(24 * MIB):
            async with asyncio.TaskGroup() as group:
                for _ in range(30):
                    group.create_task(explode())
        assert await ends.take(30) == [1009] * 30
    async with served.connect("/p", compression="deflate") as client:
        await client.send(bytes(MIB))
        assert await client.recv() == bytes(MIB)


OFFERS = [
    "",
    ",",
    ";",
    "permessage-deflate; client_max_window_bits=abc",
    "permessage-deflate; client_max_window_bits=99999999999999999999",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; x=y",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_max_window_bits; client_max_window_bits",
    'permessage-deflate; client_max_window_bits="15',
    "permessage-deflate=1",
    "permessage-bzip2",
    "\xe9\xff\x80; \xb2",
    "permessage-deflate; client_max_window_bits=\xb2\xb3",
    ", ".join(["permessage-deflate; x"] * 600),
]


async def test_offers_that_are_none(new_bolt: NewBolt, serve: Serve) -> None:
    """Extensions that are offered in a way that cannot be read or granted are not agreed on; the
    connection is served without, and a compressed frame is 1002 there."""
    bolt = new_bolt(compression=True)
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        for offer in OFFERS:
            async with Wire(served) as wire:
                wire.send(handshake(served, "/p", sec_websocket_extensions=offer), text("x"))
                status, headers = await wire.head()
                assert status in (101, 400), offer
                if status == 101:
                    assert "sec-websocket-extensions" not in headers, offer
                    assert await wire.text() == "x"
                    wire.send(packed(deflated(b"x")))
                    assert (await wire.closing())[0] == 1002
