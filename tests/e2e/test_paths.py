"""Which endpoint a path finds, and what its parameters are."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from boltws import Event

from .conftest import NewBolt, Serve
from .helpers import ask, recv, refused
from .servers import everywhere

E = "\N{LATIN SMALL LETTER E WITH ACUTE}"


def tell(event: Event) -> None:
    event.reply(f"{event.path} {sorted(event.params.items())}")


@everywhere
@pytest.mark.parametrize("pattern", ["/chat/:room", "/chat/{room}"])
async def test_a_parameter(new_bolt: NewBolt, serve: Serve, pattern: str) -> None:
    """`:room` and `{room}` take one segment; ws_param gives "" for a name there is none of."""
    bolt = new_bolt()

    def params() -> None:
        bolt.ws_send_to(bolt.ws_client_id(), f"{bolt.ws_event_path()} {bolt.ws_param('room')}")
        bolt.ws_send_to(bolt.ws_client_id(), f"[{bolt.ws_param('other')}]")

    bolt.ws(pattern, params)
    served = serve(bolt)
    async with served.connect("/chat/lobby?room=query") as client:
        assert await recv(client) == f"{pattern} lobby"
        assert await recv(client) == "[]"
    for path in ("/chat/", "/chat", "/chat/a/b", "/chat/lobby/"):
        assert (await refused(served.connect(path))).status_code == 404, path


@everywhere
async def test_percent_encoding(new_bolt: NewBolt, serve: Serve) -> None:
    """Parameters are decoded once; an encoded slash is part of a parameter, never a separator."""
    bolt = new_bolt()
    bolt.ws("/chat/:room", lambda event: event.reply(event.params["room"]))
    bolt.ws("/two/:a/:b", lambda event: event.reply(f"{event.params['a']}|{event.params['b']}"))
    bolt.ws(f"/caf{E}", lambda event: event.reply("literal"))
    served = serve(bolt)
    for path, expected in {
        "/chat/a%2Fb": "a/b",
        "/chat/a%2fb": "a/b",
        "/chat/%25": "%",
        "/chat/%252F": "%2F",
        "/chat/a%20b+c": "a b+c",
        "/chat/%C3%A9t%C3%A9": f"{E}t{E}",
        "/two/a%2Fb/c": "a/b|c",
        "/two/a/b%2Fc": "a|b/c",
        "/caf%C3%A9": "literal",
    }.items():
        async with served.connect(path) as client:
            assert await recv(client) == expected, path


@everywhere
async def test_converters(new_bolt: NewBolt, serve: Serve) -> None:
    """event.params converts, ws_param gives the raw text, and what does not convert is 404."""
    bolt = new_bolt()
    uuid = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

    def tell_both(event: Event) -> None:
        ((name, value),) = event.params.items()
        event.reply(f"{type(value).__name__} {value!r} {bolt.ws_param(name)}")

    for kind in ("int", "float", "uuid", "str"):
        bolt.ws(f"/{kind}/{{x:{kind}}}", tell_both)
    bolt.ws("/files/{rest:path}", tell_both)
    served = serve(bolt)
    for path, expected in {
        "/int/007": "int 7 007",
        "/float/2.50": "float 2.5 2.50",
        f"/uuid/{uuid}": f"UUID {UUID(uuid)!r} {uuid}",
        "/str/7": "str '7' 7",
        "/files/a/b%20c/d": "str 'a/b c/d' a/b c/d",
    }.items():
        async with served.connect(path) as client:
            assert await recv(client) == expected
    for path in ("/int/x", "/int/-1", "/int/1.5", "/float/x", "/uuid/x"):
        assert (await refused(served.connect(path))).status_code == 404, path


@everywhere
async def test_where(new_bolt: NewBolt, serve: Serve) -> None:
    """`where` narrows a parameter; what does not match as a whole goes on to the next endpoint."""
    bolt = new_bolt()
    bolt.ws("/chat/:room", tell).where("room", "[a-z]+")
    bolt.ws("/chat/{n:int}", tell)
    served = serve(bolt)
    async with served.connect("/chat/lobby") as client:
        assert await recv(client) == "/chat/:room [('room', 'lobby')]"
    async with served.connect("/chat/12") as client:
        assert await recv(client) == "/chat/{n:int} [('n', 12)]"
    assert (await refused(served.connect("/chat/lobby1"))).status_code == 404


@everywhere
async def test_which_endpoint_wins(new_bolt: NewBolt, serve: Serve) -> None:
    """Literal paths win over parameters, then the order of registration."""
    bolt = new_bolt()
    bolt.ws("/{first}/x", tell)
    bolt.ws("/chat/{second}", tell)
    bolt.ws("/chat/x", tell)
    served = serve(bolt)
    for path, expected in {
        "/chat/x": "/chat/x []",
        "/chat/y": "/chat/{second} [('second', 'y')]",
        "/other/x": "/{first}/x [('first', 'other')]",
    }.items():
        async with served.connect(path) as client:
            assert await recv(client) == expected


async def test_the_root_path(new_bolt: NewBolt, serve: Serve) -> None:
    """ "/" is an endpoint's path like any other, and it is no prefix."""
    bolt = new_bolt()
    bolt.ws("/", tell)
    served = serve(bolt)
    async with served.connect("/") as client:
        assert await recv(client) == "/ []"
    assert (await refused(served.connect("/x"))).status_code == 404


@everywhere
async def test_an_unknown_path(new_bolt: NewBolt, serve: Serve) -> None:
    """404 for a WebSocket and for plain HTTP, and nothing is counted as a client."""
    bolt = new_bolt()
    bolt.ws("/chat", tell)
    served = serve(bolt)
    assert (await refused(served.connect("/nowhere"))).status_code == 404
    assert (await served.get("/nowhere"))[0] == 404
    assert bolt.stats().connections_opened == 0


@everywhere
async def test_plain_http_on_an_endpoint(new_bolt: NewBolt, serve: Serve) -> None:
    """A plain request to a WebSocket endpoint is told to upgrade: 426, and to what."""
    bolt = new_bolt()
    bolt.ws("/chat/:room", tell)
    status, headers, _ = await serve(bolt).get("/chat/lobby")
    assert status == 426
    assert headers["upgrade"].lower() == "websocket"


@everywhere
async def test_what_fits_no_endpoint_goes_to_http(new_bolt: NewBolt, serve: Serve) -> None:
    """The http app gets other HTTP and other WebSockets, with its path as it came."""

    async def site(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": f"page {path}".encode()})
            return
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        message = await receive()
        await send({"type": "websocket.send", "text": f"{path} {message['text']}"})
        await send({"type": "websocket.close", "code": 4000, "reason": "theirs"})

    bolt = new_bolt(http=site)
    bolt.ws("/chat", tell)
    served = serve(bolt)
    assert (await served.get("/index.html"))[2] == b"page /index.html"
    async with served.connect("/other") as client:
        assert await ask(client, "x") == "/other x"
        await client.wait_closed()
        assert (client.close_code, client.close_reason) == (4000, "theirs")
    async with served.connect("/chat") as client:
        assert await recv(client) == "/chat []"
    assert bolt.stats().connections_opened == 1
