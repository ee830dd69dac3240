"""permessage-deflate (RFC 7692), with a client of another make and by hand."""

from __future__ import annotations

import os
import zlib
from typing import Any

import pytest
from websockets.frames import Opcode

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import ask, closed, eventually, recv
from .servers import Served, attached, ours
from .wire import Wire, frame, text

DEFLATE = "permessage-deflate"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def echoing(bolt: Bolt, **options: Any) -> Bolt:
    """An echo at ``/p`` whose clients are all in room ``a``."""
    endpoint = bolt.ws("/p", **options)

    @endpoint.on_connect
    def joined(event: Event) -> None:
        event.join("a")

    @endpoint.on_message
    def said(event: Event) -> None:
        event.reply(event.binary if event.is_binary else event.message)

    return bolt


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def packed(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    """A frame with RSV1 set."""
    plain = frame(opcode, data, fin)
    return bytes([plain[0] | 0x40]) + plain[1:]


async def upgraded(wire: Wire, **headers: str | None) -> str | None:
    answer = await wire.upgrade("/p", sec_websocket_extensions=headers.get("offer", DEFLATE))
    return answer.get("sec-websocket-extensions")


@ours
async def test_messages_of_all_sizes(new_bolt: NewBolt, serve: Serve) -> None:
    """They come back as they went, small ones too, whatever they hold, up to the limit."""
    served = serve(echoing(new_bolt(compression=True)))
    async with served.connect("/p", compression="deflate", max_size=None) as client:
        assert client.response.headers["sec-websocket-extensions"] == AGREED
        messages = ["", "x", "é" * 2**19, b"a" * 2**20, os.urandom(2**20), os.urandom(70_000)]
        for message in messages:
            await client.send(message)
            assert await recv(client) == message
        await client.send(["com" * 100, "pressed" * 100, ""])
        assert await recv(client) == "com" * 100 + "pressed" * 100


@ours
async def test_off_by_default(new_bolt: NewBolt, serve: Serve) -> None:
    """Nothing is agreed on, and a compressed message breaks the protocol."""
    served = serve(echoing(new_bolt()))
    async with Wire(served) as wire:
        assert await upgraded(wire) is None
        wire.send(packed(Opcode.TEXT, deflated(b"x")))
        assert (await wire.closing())[0] == 1002


@pytest.mark.parametrize(
    ("offer", "agreed"),
    [
        (None, None),
        ("x-webkit-deflate-frame", None),
        ("permessage-deflate; nonsense", None),
        ("permessage-deflate; server_max_window_bits=7", None),
        ("permessage-deflate; nonsense, permessage-deflate", AGREED),
        ("permessage-deflate; client_max_window_bits", AGREED),
        ("permessage-deflate; server_max_window_bits=9", f"{AGREED}; server_max_window_bits=9"),
        ("permessage-deflate; server_no_context_takeover", AGREED),
        (";;", None),
    ],
)
async def test_negotiation(
    new_bolt: NewBolt, serve: Serve, offer: str | None, agreed: str | None
) -> None:
    """The first offer that can be met is taken; where there is none, nothing is compressed."""
    served = serve(echoing(new_bolt(compression=True)))
    async with Wire(served) as wire:
        assert await upgraded(wire, offer=offer) == agreed
        wire.send(text("plain"))
        assert await wire.text() == "plain"


async def test_a_broadcast_is_compressed_once(
    new_bolt: NewBolt, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all that take it so; those that do not get it as it is, in the same order."""
    from websockets.extensions.permessage_deflate import PerMessageDeflate

    encoded: list[int] = []
    encode = PerMessageDeflate.encode

    def counting(self: PerMessageDeflate, given: Any) -> Any:
        if not given.data.startswith(b"from a client"):
            encoded.append(len(given.data))
        return encode(self, given)

    monkeypatch.setattr(PerMessageDeflate, "encode", counting)
    bolt = echoing(new_bolt(compression=True))
    served = serve(bolt)
    async with (
        served.connect("/p", compression="deflate") as one,
        served.connect("/p", compression="deflate") as two,
        served.connect("/p", compression=None) as plain,
    ):
        await eventually(lambda: bolt.ws_room_count("a") == 3)
        before = bolt.stats().bytes_out
        assert bolt.ws_room_broadcast("a", "long " * 1000) == 3
        assert bolt.ws_room_broadcast("a", "short") == 3
        for client in (one, two, plain):
            assert await recv(client) == "long " * 1000
            assert await recv(client) == "short"
        assert encoded == [5000]
        assert bolt.stats().bytes_out - before < 5000 + 1000


@attached
async def test_a_bomb(new_bolt: NewBolt, serve: Serve) -> None:
    """What inflates beyond the limit is closed with 1009, and never held: a kilobyte of it would
    be a megabyte."""
    served = serve(echoing(new_bolt(compression=True, max_message_size=100_000)))
    async with Wire(served) as wire:
        await upgraded(wire)
        wire.send(packed(Opcode.BINARY, deflated(bytes(100_001))))
        assert (await wire.closing())[0] == 1009
    async with Wire(served) as wire:
        await upgraded(wire)
        wire.send(packed(Opcode.BINARY, deflated(bytes(50_000_000))))
        assert (await wire.closing())[0] == 1009
    async with served.connect("/p", compression="deflate") as client:
        assert await ask(client, "x" * 100_000) == "x" * 100_000


@attached
@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([packed(Opcode.TEXT, b"\xff\xff\xff")], 1002),
        ([packed(Opcode.TEXT, deflated(b"\xff"))], 1007),
        ([packed(Opcode.PING, b"")], 1002),
        ([packed(Opcode.TEXT, b"\x00", fin=False), packed(Opcode.CONT, b"")], 1002),
        ([frame(Opcode.TEXT, b"a", fin=False), packed(Opcode.CONT, b"b")], 1002),
    ],
)
async def test_violations(new_bolt: NewBolt, serve: Serve, frames: list[bytes], code: int) -> None:
    """RSV1 marks the first frame of a compressed message, and nothing else (section 6)."""
    bolt = echoing(new_bolt(compression=True))
    served: Served = serve(bolt)
    async with Wire(served) as wire:
        await upgraded(wire)
        wire.send(*frames)
        assert (await wire.closing())[0] == code
    assert bolt.stats().received == 0


@attached
async def test_fragments_with_a_ping_between(new_bolt: NewBolt, serve: Serve) -> None:
    """A compressed message in three frames is one message."""
    served = serve(echoing(new_bolt(compression=True)))
    data = deflated(b"in three parts, " * 20)
    async with Wire(served) as wire:
        await upgraded(wire)
        wire.send(packed(Opcode.TEXT, data[:5], fin=False), frame(Opcode.PING, b"?"))
        wire.send(frame(Opcode.CONT, data[5:9], fin=False), frame(Opcode.CONT, data[9:]))
        assert (await wire.frame()).opcode is Opcode.PONG
        wire.send(text("plain"))  # a message may be left alone
        first, second = await wire.raw(2)
        assert first == 0xC1  # final, RSV1, text
        data = await wire.raw(second)
        unpacked = zlib.decompressobj(wbits=-15).decompress(data + b"\x00\x00\xff\xff")
        assert unpacked == b"in three parts, " * 20
        assert await wire.text() == "plain"


async def test_one_endpoint(new_bolt: NewBolt, serve: Serve) -> None:
    """It is an option of an endpoint too."""
    bolt = echoing(new_bolt(), compression=True)
    bolt.ws("/q")
    served = serve(bolt)
    async with (
        served.connect("/p", compression="deflate") as one,
        served.connect("/q", compression="deflate") as other,
    ):
        assert "sec-websocket-extensions" in one.response.headers
        assert "sec-websocket-extensions" not in other.response.headers
        await one.close()
        assert await closed(one) == (1000, "")
