"""Handshakes that break RFC 6455 or HTTP: the right refusal, and nothing behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Event

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import eventually
from ..e2e.servers import Served
from ..e2e.wire import KEY, Wire, handshake, text
from .helpers import bystander, echoing

DROP = "-"  # stands for: leave this header out


def request(served: Served, *extra: bytes, start: str = "GET /p HTTP/1.1", **headers: str) -> bytes:
    """A handshake with another first line, headers replaced or left out, and raw lines added."""
    given: Any = {name: None if value == DROP else value for name, value in headers.items()}
    _, _, rest = handshake(served, "/p", **given)[:-2].partition(b"\r\n")
    return start.encode("latin-1") + b"\r\n" + rest + b"".join(x + b"\r\n" for x in extra) + b"\r\n"


# name: (raw header lines added, headers replaced, first line, statuses that are right)
BAD: dict[str, tuple[list[bytes], dict[str, str], str, set[int]]] = {
    "key twice": ([b"Sec-WebSocket-Key: " + KEY.encode()], {}, "", {400}),
    "key of 15 bytes": ([], {"sec_websocket_key": "MTIzNDU2Nzg5MDEyMzQ1"}, "", {400}),
    "key of 17 bytes": ([], {"sec_websocket_key": "MTIzNDU2Nzg5MDEyMzQ1Njc="}, "", {400}),
    "key empty": ([], {"sec_websocket_key": ""}, "", {400}),
    "key with a space": ([], {"sec_websocket_key": "dGhlIHNhbXBs ZSBub25jZQ=="}, "", {400}),
    "key of another alphabet": ([], {"sec_websocket_key": "____IHNhbXBsZSBub25jZQ=="}, "", {400}),
    "key not ASCII": ([], {"sec_websocket_key": "\xff" * 24}, "", {400}),
    "two keys in one": ([], {"sec_websocket_key": f"{KEY}, {KEY}"}, "", {400}),
    "version twice": ([b"Sec-WebSocket-Version: 13"], {}, "", {400, 426}),
    "version list": ([], {"sec_websocket_version": "13, 8"}, "", {426}),
    "version padded": ([], {"sec_websocket_version": "013"}, "", {426}),
    "version not ASCII": ([], {"sec_websocket_version": "13\xb2"}, "", {426}),
    "no upgrade": ([], {"upgrade": DROP}, "", {400, 426}),
    "another upgrade": ([], {"upgrade": "h2c"}, "", {400, 426}),
    "upgrade not ASCII": ([], {"upgrade": "websocket\xe9"}, "", {400, 426}),
    "upgrade empty": ([], {"upgrade": ""}, "", {400, 426}),
    "no connection": ([], {"connection": DROP}, "", {400, 426}),
    "connection close": ([], {"connection": "close"}, "", {400, 426}),
    "connection not ASCII": ([], {"connection": "Upgrade\xe9"}, "", {400, 426}),
    "no host": ([], {"host": DROP}, "", {400}),
    "host twice": ([b"Host: 127.0.0.1"], {}, "", {400}),
    "host empty": ([], {"host": ""}, "", {400, 403}),
    "host not ASCII": ([], {"host": "\xe9.example"}, "", {400, 403}),
    "host garbled": ([], {"host": "[::1"}, "", {400, 403}),
    "host with a bad port": ([], {"host": "evil.example:99999999"}, "", {400, 403}),
    "POST": ([], {}, "POST /p HTTP/1.1", {400}),
    "HEAD": ([], {}, "HEAD /p HTTP/1.1", {400}),
    "OPTIONS": ([], {}, "OPTIONS /p HTTP/1.1", {400}),
    "HTTP/1.0": ([], {}, "GET /p HTTP/1.0", {400}),
    "HTTP/0.9": ([], {}, "GET /p", {400}),
    "HTTP/9.9": ([], {}, "GET /p HTTP/9.9", {400}),
    "no method": ([], {}, "/p HTTP/1.1", {400}),
    "unknown method": ([], {}, "SHAKE /p HTTP/1.1", {400}),
    "no path": ([], {}, "GET  HTTP/1.1", {400}),
    "a path of nothing": ([], {}, "GET ? HTTP/1.1", {400, 404}),
    "an authority as path": ([], {}, "GET http://127.0.0.1 HTTP/1.1", {400, 403, 404}),
    "a path not ASCII": ([], {}, "GET /p\xff HTTP/1.1", {400, 404}),
    "a path with NUL": ([], {}, "GET /p\0 HTTP/1.1", {400, 404}),
    "body": ([b"Content-Length: 5"], {}, "", {400}),
    "body of a negative length": ([b"Content-Length: -1"], {}, "", {400}),
    "two lengths": ([b"Content-Length: 0", b"Content-Length: 5"], {}, "", {400}),
    "chunked": ([b"Transfer-Encoding: chunked"], {}, "", {400}),
    "another coding": ([b"Transfer-Encoding: identity"], {}, "", {400}),
    "both lengths": ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], {}, "", {400}),
    "a header without a name": ([b": x"], {}, "", {400}),
    "a header without a colon": ([b"nothing"], {}, "", {400}),
    "a name with a space": ([b"x y: z"], {}, "", {400}),
    "a name not ASCII": ([b"x\xe9: z"], {}, "", {400}),
    "a value with NUL": ([b"x: a\0b"], {}, "", {400}),
    "a value with CR": ([b"x: a\rb"], {}, "", {400}),
    "a folded line": ([b"x: a", b" b: c"], {}, "", {400}),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_handshakes(new_bolt: NewBolt, serve: Serve, name: str) -> None:
    """Each is refused with its status, makes no client, and what was sent behind it is not taken
    for a message or another request."""
    extra, headers, start, statuses = BAD[name]
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        data = request(served, *extra, start=start or "GET /p HTTP/1.1", **headers)
        async with Wire(served) as wire:
            wire.send(data, text("hello"))
            status, _ = await wire.head()
            assert status in statuses
            wire.abort()
    assert bolt.stats().connections_opened == 1
    assert bolt.stats().closed.keys() <= {1000}


NOT_ASCII = bytes(range(0x80, 0x100))


@pytest.mark.parametrize(
    "name",
    "origin cookie user-agent sec-websocket-protocol sec-websocket-extensions x-forwarded-for "
    "x-forwarded-proto authorization accept-language referer forwarded x-any".split(),
)
async def test_bytes_that_are_no_ascii(new_bolt: NewBolt, serve: Serve, name: str) -> None:
    """Any byte above ASCII may stand in a header that is not ours to judge: it makes no error,
    and the app can read it. In Origin it is no origin that is allowed."""
    bolt = new_bolt(trusted_proxies=["127.0.0.1"], subprotocols=["chat"])
    seen: list[str] = []

    def read(event: Event) -> None:
        asked = event.request
        seen.append(asked.headers.get(name, ""))
        assert asked.client is not None and asked.subprotocol is None
        assert isinstance(asked.cookies, dict)
        assert len(asked.subprotocols) in (0, 2)

    bolt.ws("/p", read, lambda event: event.reply(event.message))
    served = serve(bolt)
    async with bystander(served), Wire(served) as wire:
        wire.send(request(served, name.encode() + b": " + NOT_ASCII + b", " + NOT_ASCII))
        status, answer = await wire.head()
        assert status == (403 if name == "origin" else 101)
        assert "sec-websocket-protocol" not in answer
        if status == 101:
            wire.send(text("x"))
            assert await wire.text() == "x"
            whole = NOT_ASCII.decode("latin-1")
            assert seen[1] == f"{whole}, {whole}"


async def test_a_request_behind_the_upgrade_is_no_http(new_bolt: NewBolt, serve: Serve) -> None:
    """HTTP behind a handshake is read as frames: 1002, and no answer to it."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served), Wire(served) as wire:
        await wire.upgrade("/p", b"GET /secret HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await wire.closing())[0] == 1002
        assert await wire.end() == b""


@pytest.mark.parametrize("why", ["abort", "origin", "version"])
async def test_a_request_behind_a_refused_upgrade(
    new_bolt: NewBolt, serve: Serve, why: str
) -> None:
    """A refusal is the last answer of its connection: what was pipelined behind it is not
    answered, nor handled."""
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            asked.append(scope["path"])
        raise RuntimeError("not reached")

    bolt = new_bolt(http=app)
    echoing(bolt)
    bolt.ws("/no").on_before(lambda event: event.abort(401))
    served = serve(bolt)
    bad: dict[str, Any] = {
        "abort": {},
        "origin": {"origin": "https://evil.example"},
        "version": {"sec_websocket_version": "12"},
    }[why]
    async with bystander(served), Wire(served) as wire:
        behind = b"GET /secret HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        wire.send(handshake(served, "/no" if why == "abort" else "/p", **bad), behind)
        status, _, _ = await wire.answer()
        assert status == {"abort": 401, "origin": 403, "version": 426}[why]
        assert await wire.end() == b""
    assert asked == []


async def test_an_upgrade_behind_a_request_that_is_being_answered(
    new_bolt: NewBolt, serve: Serve
) -> None:
    """A handshake that is pipelined behind a slow request is not answered ahead of it: one
    answer, and the end of the connection."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("none here")
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"slow"})

    bolt = new_bolt(http=app)
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served), Wire(served) as wire:
        slow = b"GET /slow HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        wire.send(slow, handshake(served, "/p"), text("x"))
        await eventually(lambda: bolt.stats().refused == {"bad_request": 1})
        served.loop.call_soon_threadsafe(gate.set)
        assert (await wire.head())[0] == 200
        rest = await wire.end()
        assert b"slow" in rest and b"101" not in rest and b"HTTP/1.1" not in rest


ECHOED = "a\r\nset-cookie: stolen=1\r\n\r\n<script>"


@pytest.mark.parametrize("where", ["response header", "abort header", "abort reason", "protocol"])
async def test_line_breaks_in_what_is_echoed(
    new_bolt: NewBolt, serve: Serve, where: str, expect_error: Any
) -> None:
    """An app that echoes what a peer sent does not let it write headers of its own: what breaks
    a line is a 500, or stays in the body."""
    bolt = new_bolt(subprotocols=["chat"])
    echoing(bolt)
    endpoint = bolt.ws("/echo/:said")

    @endpoint.on_before
    def before(event: Event) -> None:
        said = event.params["said"]
        assert said == ECHOED
        if where == "response header":
            event.response_headers.append(("x-said", said))
        elif where == "abort header":
            event.abort(403, "no", headers=[("x-said", said)])
        elif where == "abort reason":
            event.abort(403, said)

    served = serve(bolt)
    if where.endswith("header"):
        expect_error("boltws", "not a header that can be sent")
    path = "/echo/a%0D%0Aset-cookie%3A%20stolen%3D1%0D%0A%0D%0A%3Cscript%3E"
    offered = "a%0D%0Aset-cookie: x, chat;chat, chat\t\x0b" if where == "protocol" else None
    async with bystander(served), Wire(served) as wire:
        wire.send(handshake(served, path, sec_websocket_protocol=offered))
        status, headers = await wire.head()
        if where == "protocol":
            assert status in (101, 400)
            assert headers.get("sec-websocket-protocol") in (None, "chat")
        else:
            assert status == (403 if where == "abort reason" else 500)
        assert not {"set-cookie", "x-said"} & headers.keys()
        if where == "abort reason":
            assert headers["content-type"].startswith("text/plain")
        if status != 101:
            assert headers["connection"] == "close"
