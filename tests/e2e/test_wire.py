"""Our own protocol, frame by frame: what no well-behaved client shows."""

from __future__ import annotations

import asyncio
import gc
import struct
from functools import partial
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from websockets.frames import Opcode

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, eventually
from .servers import Kind, attached, everywhere, ours
from .wire import ACCEPT, Wire, close, frame, handshake, request, text


def echoing(bolt: Bolt, **options: Any) -> Journal:
    ends = Journal()
    bolt.ws(
        "/p",
        None,
        lambda event: event.reply(event.binary if event.is_binary else event.message),
        lambda event: ends.note(event.close_code, event.close_reason),
        **options,
    )
    return ends


@everywhere
async def test_the_handshake(new_bolt: NewBolt, serve: Serve) -> None:
    """The accept key answers the client's, and no extension is agreed on that was not offered."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with Wire(served) as wire:
        headers = await wire.upgrade("/p")
        assert headers["sec-websocket-accept"] == ACCEPT
        assert headers["upgrade"].lower() == "websocket"
        assert headers["connection"].lower() == "upgrade"
        assert "sec-websocket-extensions" not in headers
        assert "sec-websocket-protocol" not in headers
        wire.send(text("x"))
        assert await wire.text() == "x"


@ours
async def test_bytes_right_behind_the_handshake(
    new_bolt: NewBolt, serve: Serve, kind: Kind
) -> None:
    """Frames in the same TCP segment as the handshake are not lost, the close among them."""
    bolt = new_bolt()
    ends = echoing(bolt)
    served = serve(bolt)
    async with Wire(served) as wire:
        cut = text("three")
        await wire.upgrade("/p", text("one"), text("two"), cut[:4])
        assert await wire.text() == "one"
        assert await wire.text() == "two"
        wire.send(cut[4:])
        assert await wire.text() == "three"
    assert (await ends.next())[0] == 1006
    async with Wire(served) as wire:
        await wire.upgrade("/p", text("last"), close(4000, "bye"))
        if kind.attach:  # over ASGI the app hears of both when the peer has been answered
            assert await wire.text() == "last"
        assert (await wire.closing())[0] == 4000
        assert await wire.end() == b""
    assert await ends.next() == (4000, "bye")
    assert bolt.stats().handled == 4


@ours
async def test_bytes_behind_the_handshake_wait_for_an_async_before(
    new_bolt: NewBolt, serve: Serve
) -> None:
    """They are kept while the handshake is still being decided, and handled after connect."""
    bolt = new_bolt()
    seen = Journal()
    endpoint = bolt.ws("/p", lambda event: seen.note("connect"))

    @endpoint.on_before
    async def guard(event: Event) -> None:
        if event.type == "connect":
            for _ in range(5):
                await asyncio.sleep(0)

    endpoint.on_message(lambda event: seen.note(event.message))
    served = serve(bolt)
    async with Wire(served) as wire:
        wire.send(handshake(served, "/p"), text("one"))
        wire.send(text("two"))
        assert (await wire.head())[0] == 101
        assert await seen.take(3) == ["connect", "one", "two"]


@everywhere
@pytest.mark.parametrize(
    "connection", ["keep-alive, Upgrade", "Upgrade, keep-alive", "upgrade", "UPGRADE"]
)
async def test_the_connection_header(new_bolt: NewBolt, serve: Serve, connection: str) -> None:
    """Firefox sends `Connection: keep-alive, Upgrade`; tokens are compared without case."""
    bolt = new_bolt()
    echoing(bolt)
    async with Wire(serve(bolt)) as wire:
        await wire.upgrade("/p", connection=connection, upgrade="WebSocket")
        wire.send(text("x"))
        assert await wire.text() == "x"


@ours
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec_websocket_version": "12"}, 426),
        ({"sec_websocket_version": None}, 426),
        ({"sec_websocket_key": None}, 400),
        ({"sec_websocket_key": "short"}, 400),
        ({"sec_websocket_key": "!" * 24}, 400),
    ],
)
async def test_a_bad_handshake(
    new_bolt: NewBolt, serve: Serve, headers: dict[str, str | None], status: int
) -> None:
    """A handshake that is none is answered, not served; a wrong version is told the right one."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with Wire(served) as wire:
        wire.send(handshake(served, "/p", **headers))
        answered, answer = await wire.head()
        assert answered == status
        if status == 426:
            assert answer["sec-websocket-version"] == "13"
        assert bolt.stats().connections_opened == 0


@ours
async def test_fragments(new_bolt: NewBolt, serve: Serve) -> None:
    """A message in fragments is one message, control frames between them are answered at once,
    and a character may be cut in two."""
    bolt = new_bolt()
    echoing(bolt)
    async with Wire(serve(bolt)) as wire:
        await wire.upgrade("/p")
        snowman = "\N{SNOWMAN}".encode()
        wire.send(frame(Opcode.TEXT, b"a" + snowman[:1], fin=False))
        wire.send(frame(Opcode.PING, b"now"))
        assert await wire.frame() == (Opcode.PONG, b"now", True)
        wire.send(frame(Opcode.CONT, snowman[1:2], fin=False))
        wire.send(frame(Opcode.CONT, b"", fin=False))
        wire.send(frame(Opcode.PONG, b"unasked"))
        wire.send(frame(Opcode.CONT, snowman[2:] + b"b"))
        assert await wire.text() == "a\N{SNOWMAN}b"
        wire.send(frame(Opcode.BINARY, b"", fin=False), frame(Opcode.CONT, b""))
        assert await wire.frame() == (Opcode.BINARY, b"", True)


def came(bolt: Bolt, size: int) -> bool:
    return bolt.stats().bytes_in >= size


@attached
async def test_any_cut(new_bolt: NewBolt, serve: Serve) -> None:
    """Bytes may come one by one."""
    bolt = new_bolt()
    echoing(bolt)
    async with Wire(serve(bolt)) as wire:
        await wire.upgrade("/p")
        for count, byte in enumerate(text("x" * 200), 1):
            wire.send(bytes([byte]))
            await eventually(partial(came, bolt, count))
        assert await wire.text() == "x" * 200


@ours
@pytest.mark.parametrize("payload", [b"", b"x" * 125])
async def test_ping(new_bolt: NewBolt, serve: Serve, payload: bytes) -> None:
    """A ping is answered by a pong with its payload."""
    bolt = new_bolt()
    echoing(bolt)
    async with Wire(serve(bolt)) as wire:
        await wire.upgrade("/p")
        wire.send(frame(Opcode.PING, payload))
        assert await wire.frame() == (Opcode.PONG, payload, True)


async def test_our_own_ping(new_bolt: NewBolt, serve: Serve) -> None:
    """An idle client is pinged; one that does not answer is closed with 1011."""
    bolt = new_bolt(ping_interval=0.05, ping_timeout=0.05, close_timeout=0.2)
    ends = echoing(bolt)
    async with Wire(serve(bolt)) as wire:
        await wire.upgrade("/p")
        ping = await wire.frame()
        assert ping.opcode is Opcode.PING
        wire.send(frame(Opcode.PONG, ping.data))
        while (received := await wire.frame()).opcode is Opcode.PING:
            pass
        assert received.opcode is Opcode.CLOSE
        assert struct.unpack("!H", received.data[:2]) == (1011,)
    assert (await ends.next())[0] == 1011


@ours
async def test_the_close_handshake(new_bolt: NewBolt, serve: Serve) -> None:
    """The server echoes the peer's code and ends the connection; without a code, without one.
    What follows a close frame is not read."""
    bolt = new_bolt()
    ends = echoing(bolt)
    served = serve(bolt)
    for sent, code, reason in [
        (close(1000), 1000, ""),
        (close(4999, "bye"), 4999, "bye"),
        (frame(Opcode.CLOSE), 1005, ""),
    ]:
        async with Wire(served) as wire:
            await wire.upgrade("/p")
            wire.send(sent, text("too late"))
            assert (await wire.closing())[0] == code
            assert await wire.end() == b""
        assert await ends.next() == (code, reason)
    assert bolt.stats().received == 0


@attached
async def test_a_peer_that_does_not_answer_the_close(new_bolt: NewBolt, serve: Serve) -> None:
    """After close_timeout it is aborted; meanwhile it counts as closing."""
    bolt = new_bolt(close_timeout=0.1)
    ends = echoing(bolt)
    async with Wire(serve(bolt)) as wire:
        await wire.upgrade("/p")
        (client_id,) = bolt.ws_client_list()
        assert bolt.ws_close_client(client_id, 4000)
        assert await ends.next() == (4000, "")
        assert await wire.closing() == (4000, "")
        wire.send(text("I go on"))
        assert await wire.end() == b""
    await eventually(lambda: bolt.stats().closing == 0)
    assert bolt.stats().dropped_in in ({}, {"closed": 1})


VIOLATIONS = {
    "unmasked": (b"\x81\x01x", 1002),
    "reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "reserved opcode": (b"\x83\x80\0\0\0\0", 1002),
    "long ping": (b"\x89\xfe\x00\x7e\0\0\0\0", 1002),
    "fragmented ping": (b"\x09\x80\0\0\0\0", 1002),
    "continuation of nothing": (frame(Opcode.CONT, b"x"), 1002),
    "new message inside fragments": (frame(Opcode.TEXT, b"x", fin=False) + text("y"), 1002),
    "length not minimal": (b"\x82\xfe\x00\x01\0\0\0\0x", 1002),
    "length above 63 bits": (b"\x82\xff\xff" + bytes(7), 1002),
    "close with one byte": (frame(Opcode.CLOSE, b"\x03"), 1002),
    "close with a code nobody sends": (frame(Opcode.CLOSE, struct.pack("!H", 1005)), 1002),
    "close with a reason that is no UTF-8": (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
    "no UTF-8": (frame(Opcode.TEXT, b"\xff"), 1007),
    "surrogate": (frame(Opcode.TEXT, b"\xed\xa0\x80"), 1007),
    "too big": (b"\x82\xff" + struct.pack("!Q", 2**20 + 1), 1009),
    "too big in fragments": (
        frame(Opcode.BINARY, bytes(2**19), fin=False) + frame(Opcode.CONT, bytes(2**19 + 1)),
        1009,
    ),
}


@attached
@pytest.mark.parametrize("name", VIOLATIONS)
async def test_violations(new_bolt: NewBolt, serve: Serve, name: str) -> None:
    """A violation ends the connection with its code, at once; nothing behind it is read, and the
    message before it was handled."""
    data, code = VIOLATIONS[name]
    bolt = new_bolt(close_timeout=0.2)
    ends = echoing(bolt)
    async with Wire(serve(bolt)) as wire:
        await wire.upgrade("/p")
        wire.send(text("before"), data, text("behind"))
        assert await wire.text() == "before"
        assert (await wire.closing())[0] == code
    assert (await ends.next())[0] == code
    stats = bolt.stats()
    assert (stats.received, stats.handled) == (1, 1)
    assert stats.closed == {code: 1}


@ours
async def test_too_many_fragments(new_bolt: NewBolt, serve: Serve) -> None:
    """max_fragments bounds them, 1009; message_timeout bounds their time, 1008."""
    bolt = new_bolt(max_fragments=10, message_timeout=0.1, close_timeout=0.2)
    ends = echoing(bolt)
    served = serve(bolt)
    async with Wire(served) as wire:
        await wire.upgrade("/p")
        wire.send(frame(Opcode.TEXT, b"x", fin=False), frame(Opcode.CONT, b"x", fin=False) * 10)
        assert (await wire.closing())[0] == 1009
    assert (await ends.next())[0] == 1009
    async with Wire(served) as wire:
        await wire.upgrade("/p")
        wire.send(frame(Opcode.TEXT, b"x", fin=False))
        assert (await wire.closing())[0] == 1008
    assert (await ends.next())[0] == 1008


async def test_nothing_of_http_is_left(new_bolt: NewBolt, serve: Serve, leaving: Any) -> None:
    """While clients are attached, no object of uvicorn's HTTP protocol is alive for them, even
    with the garbage collector off: nothing waits in a cycle."""
    for served in leaving:
        served.stop()  # or what an earlier test's server leaves is taken for ours
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    gc.collect()
    gc.disable()
    try:
        async with served.connect("/p") as one, served.connect("/p") as two:
            assert await ask(one, "x") == "x"
            assert await ask(two, "x") == "x"
            kinds = (HttpToolsProtocol, RequestResponseCycle)
            left = [o for o in gc.get_objects() if issubclass(type(o), kinds)]
            assert left == []
    finally:
        gc.enable()


@ours
async def test_no_keep_alive_timer_closes_a_client(new_bolt: NewBolt, serve: Serve) -> None:
    """uvicorn's keep-alive closes idle HTTP connections; clients that are as idle stay, also
    when the connection had served HTTP before."""

    def tune(server: Any) -> None:
        server.config.timeout_keep_alive = 1

    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt, tune=tune)
    async with Wire(served) as fresh, Wire(served) as used, Wire(served) as idle:
        used.send(request(served, "/nowhere"))
        assert (await used.answer())[0] == 404
        await used.upgrade("/p")
        await fresh.upgrade("/p")
        idle.send(request(served, "/nowhere"))
        assert (await idle.answer())[0] == 404
        assert await idle.end() == b"", "the timer of the last connection has run out"
        for wire in (fresh, used):
            wire.send(text("still here"))
            assert await wire.text() == "still here"
