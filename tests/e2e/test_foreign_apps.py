"""Other people's apps: on our protocol, around a Bolt, and beside one on the same connection."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode

from boltws import Bolt

from .conftest import NewBolt, Serve
from .helpers import Gate, Journal, ask, closed, eventually, recv, refused
from .servers import ours
from .wire import Wire, frame, handshake, request, text


@pytest.fixture
def starlette_app() -> tuple[Any, Journal]:
    """A plain Starlette app: WebSockets in each style, and a page."""
    seen = Journal()

    async def echo(socket: WebSocket) -> None:
        wanted = socket.scope["subprotocols"]
        await socket.accept(
            subprotocol=wanted[-1] if wanted else None, headers=[(b"x-hello", b"there")]
        )
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message["code"], message.get("reason"))
                if message.get("text") is not None:
                    await socket.send_text(f"text {message['text']}")
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect as end:
            seen.note(end.code, end.reason or "")

    async def closes(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("first")
        await socket.close(4001, "enough")

    async def refuses(socket: WebSocket) -> None:
        await socket.close()

    async def denies(socket: WebSocket) -> None:
        await socket.send_denial_response(
            JSONResponse({"why": "no"}, status_code=401, headers={"X-Why": "no"})
        )

    async def returns(socket: WebSocket) -> None:
        await socket.accept()

    async def raises(socket: WebSocket) -> None:
        await socket.accept()
        raise RuntimeError("secret")

    class Endpoint(WebSocketEndpoint):
        encoding = "json"

        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await websocket.send_json({"got": data})

        async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
            seen.note(close_code)

    routes = [
        WebSocketRoute(f"/{function.__name__}", function)
        for function in (echo, closes, refuses, denies, returns, raises)
    ]
    page = Route("/page", lambda request: PlainTextResponse("a page"))
    return Starlette(routes=[*routes, WebSocketRoute("/endpoint", Endpoint), page]), seen


async def test_starlette_echo(starlette_app: tuple[Any, Journal], serve: Serve) -> None:
    """Text and bytes both ways, the subprotocol, headers on the 101, and how it ended."""
    app, seen = starlette_app
    served = serve(app)
    async with served.connect("/echo", subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "b"
        assert client.response is not None
        assert client.response.headers["X-Hello"] == "there"
        assert await ask(client, "hello") == "text hello"
        assert await ask(client, b"\x00\xff") == b"\x00\xff"
        assert await ask(client, "x" * 2**20) == "text " + "x" * 2**20
        for n in range(100):
            await client.send(f"{n}")
        assert [await recv(client) for _ in range(100)] == [f"text {n}" for n in range(100)]
        await client.close(4002, "bye")
    assert await seen.next() == (4002, "bye")
    async with served.connect("/echo") as client:
        assert await ask(client, "hello") == "text hello"
        client.transport.abort()
    assert await seen.next() == (1006, "")


async def test_starlette_endpoint(starlette_app: tuple[Any, Journal], serve: Serve) -> None:
    """Starlette's class style works too."""
    app, seen = starlette_app
    async with serve(app).connect("/endpoint") as client:
        assert await ask(client, '{"a": 1}') == '{"got":{"a":1}}'
    assert await seen.next() == 1000


async def test_starlette_closes(starlette_app: tuple[Any, Journal], serve: Serve) -> None:
    """What it sent before its close arrives, and the close with code and reason; an app that
    returns without one closes with 1000."""
    app, _ = starlette_app
    served = serve(app)
    async with served.connect("/closes") as client:
        assert await recv(client) == "first"
        assert await closed(client) == (4001, "enough")
    async with served.connect("/returns") as client:
        assert (await closed(client))[0] in (1000, 1006)


async def test_starlette_raises(
    starlette_app: tuple[Any, Journal], serve: Serve, expect_error: Any
) -> None:
    """An app that raises is logged, and its client is told 1011 and no more."""
    expect_error("uvicorn.error", "secret")
    app, _ = starlette_app
    async with serve(app).connect("/raises") as client:
        assert (await closed(client))[0] == 1011


async def test_starlette_refusals(starlette_app: tuple[Any, Journal], serve: Serve) -> None:
    """A close before the accept is a 403; a denial response goes out as it is; a path that is
    none, as Starlette refuses it."""
    app, _ = starlette_app
    served = serve(app)
    assert (await refused(served.connect("/refuses"))).status_code == 403
    answer = await refused(served.connect("/denies"))
    assert answer.status_code == 401
    assert answer.headers["X-Why"] == "no"
    assert answer.body == b'{"why":"no"}'
    assert (await refused(served.connect("/nowhere"))).status_code in (403, 404)
    assert (await served.get("/page"))[2] == b"a page"


async def test_a_client_of_starlette_when_the_server_stops(
    starlette_app: tuple[Any, Journal], serve: Serve
) -> None:
    """The client is told 1012, and the app of the disconnect."""
    app, seen = starlette_app
    served = serve(app)
    async with served.connect("/echo") as client:
        assert await ask(client, "x") == "text x"
        async with served.stopping():
            assert (await closed(client))[0] == 1012
            assert (await seen.next())[0] == 1012


@ours
async def test_http_then_upgrade(new_bolt: NewBolt, serve: Serve) -> None:
    """A connection that served HTTP requests may become a WebSocket."""
    bolt = new_bolt(http=PlainTextResponse("page"))
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    served = serve(bolt)
    async with Wire(served) as wire:
        for _ in range(2):
            wire.send(request(served, f"{served.kind.prefix}/page"))
            status, _, body = await wire.answer()
            assert (status, body) == (200, b"page")
        await wire.upgrade("/p")
        wire.send(text("x"))
        assert await wire.text() == "x"


class Slow:
    """An HTTP app that answers when it may."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.started = Journal()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        self.started.note(scope["path"])
        await self.gate.passed()
        await PlainTextResponse("slow")(scope, receive, send)


async def test_a_peer_that_leaves_while_a_middleware_has_the_accept(
    new_bolt: NewBolt, serve: Serve
) -> None:
    """It was answered, so it was there: its events run, and its place is free again."""
    seen = Journal()
    bolt = new_bolt(max_connections=1)
    bolt.ws(
        "/chat",
        lambda event: seen.note("connect"),
        lambda event: seen.note(event.message, event.reply("x")),
        lambda event: seen.note("disconnect", event.close_code),
    )

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        async def wait(message: Any) -> None:
            await send(message)
            if not seen.seen:
                assert (await receive())["type"] == "websocket.disconnect"

        await bolt(scope, receive, wait)

    served = serve(slow)
    async with Wire(served) as wire:
        await wire.upgrade("/chat", text("hello"), frame(Opcode.PING))
    assert await seen.take(3) == ["connect", ("hello", True), ("disconnect", 1006)]
    async with Wire(served) as wire:
        await wire.upgrade("/chat")
        assert await seen.next() == "connect"


@ours
@pytest.mark.parametrize("together", [True, False])
async def test_an_upgrade_while_a_response_is_in_flight(
    new_bolt: NewBolt, serve: Serve, together: bool
) -> None:
    """It gets no answer, which would stand before the other's, and the connection closes."""
    slow = Slow()
    bolt = new_bolt(http=slow)
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    served = serve(bolt)
    async with Wire(served) as wire:
        page = request(served, f"{served.kind.prefix}/slow")
        if together:
            wire.send(page, handshake(served, "/p"), text("smuggled"))
        else:
            wire.send(page)
            await slow.started.next()
            wire.send(handshake(served, "/p"), text("smuggled"))
        slow.gate.open()
        answer = await wire.end()
    assert answer.count(b"HTTP/1.1 ") == answer.count(b" 200 OK") <= 1
    stats = bolt.stats()
    assert (stats.connections_opened, stats.received) == (0, 0)


async def test_limit_concurrency_counts_clients(new_bolt: NewBolt, serve: Serve) -> None:
    """uvicorn's limit_concurrency counts attached clients: above it a handshake and a plain
    request are answered 503, and below it they are served again."""

    def tune(server: Any) -> None:
        server.config.limit_concurrency = 8

    bolt = new_bolt(http=PlainTextResponse("page"))
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    served = serve(bolt, tune=tune)
    assert (await served.get("/page"))[0] == 200
    async with AsyncExitStack() as stack:
        clients: list[Any] = []
        try:
            while len(clients) < 9:
                client = await stack.enter_async_context(served.connect("/p"))
                clients.append(client)
        except InvalidStatus as refusal:
            assert refusal.response.status_code == 503
        assert 5 <= len(clients) < 9
        assert (await served.get("/page"))[0] == 503
        for client in clients:
            assert await ask(client, "x") == "x"
    await eventually(lambda: bolt.stats().connections_now == bolt.stats().closing == 0)
    async with served.connect("/p") as client:
        assert await ask(client, "x") == "x"
    assert (await served.get("/page"))[0] == 200


async def test_max_connections(new_bolt: NewBolt, serve: Serve) -> None:
    """max_connections is Bolt's own limit: above it 503 with Retry-After, counted."""
    bolt = new_bolt(max_connections=2)
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    served = serve(bolt)
    async with served.connect("/p") as one, served.connect("/p") as two:
        assert await ask(one, "x") == await ask(two, "x") == "x"
        answer = await refused(served.connect("/p"))
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
        assert bolt.stats().refused == {"limit": 1}
    await eventually(lambda: bolt.stats().connections_now == bolt.stats().closing == 0)
    async with served.connect("/p") as client:
        assert await ask(client, "x") == "x"


@pytest.mark.parametrize("host", ["boltws", "uvicorn", "hypercorn", "granian"])
async def test_fastapi(new_bolt: NewBolt, serve: Serve, host: str) -> None:
    """FastAPI mounts a Bolt and hands it its lifespan: ws_* works before the first client."""
    bolt: Bolt = new_bolt()
    bolt.ws("/chat/:room", None, lambda event: event.reply(f"{event.params} {event.message}"))
    app = FastAPI(lifespan=bolt.lifespan)
    app.mount("/live", bolt)

    @app.get("/who")
    async def who() -> list[str]:
        return bolt.ws_client_list()

    served = serve(app, host)
    assert (await served.get("/who"))[2] == b"[]"
    async with served.connect("/live/chat/a%2Fb") as client:
        assert await ask(client, "x") == "{'room': 'a/b'} x"
        assert (await served.get("/who"))[2].startswith(b'["')
    assert (await refused(served.connect("/chat/a"))).status_code in (403, 404)
