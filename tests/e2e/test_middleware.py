"""Befores and afters: their order, and what an abort does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from boltws import Bolt, BoltError, Event, NotAborting

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, eventually, recv, refused
from .servers import everywhere


def noting(journal: Journal, name: str) -> Callable[[Event], None]:
    def note(event: Event) -> None:
        journal.note(event.type, name)

    return note


ORDER = ["bolt 1", "bolt 2", "own 1", "own 2", "handler", "own after", "bolt after"]


@everywhere
async def test_order(new_bolt: NewBolt, serve: Serve) -> None:
    """The Bolt's befores, the endpoint's, the handler, the endpoint's afters, the Bolt's: for
    every event, whether registered by call, chained, or by decorator."""
    bolt = new_bolt()
    seen = Journal()
    handler = noting(seen, "handler")
    endpoint = (
        bolt.before(noting(seen, "bolt 1"))
        .after(noting(seen, "bolt after"))
        .ws("/p", handler, handler, handler)
        .before(noting(seen, "own 1"))
        .after(noting(seen, "own after"))
    )
    bolt.on_before(noting(seen, "bolt 2"))
    endpoint.on_before(noting(seen, "own 2"))
    async with serve(bolt).connect("/p") as client:
        await client.send("x")
        assert await seen.take(14) == [("connect", n) for n in ORDER] + [
            ("message", n) for n in ORDER
        ]
    assert await seen.take(7) == [("disconnect", n) for n in ORDER]


@everywhere
async def test_order_when_some_await(new_bolt: NewBolt, serve: Serve) -> None:
    """Async and blocking ones stand in the same order as the others."""
    bolt = new_bolt()
    seen = Journal()

    def asynchronous(name: str) -> Callable[[Event], Any]:
        async def note(event: Event) -> None:
            seen.note(name)

        return note

    def plain(name: str) -> Callable[[Event], Any]:
        return lambda event: seen.note(name)

    for path, blocking in (("/p", False), ("/b", True)):
        endpoint = bolt.ws(path, None, asynchronous("handler"), blocking=blocking)
        endpoint.before(plain("1")).before(asynchronous("2")).before(plain("3"))
        endpoint.after(plain("4")).after(asynchronous("5")).after(plain("6"))
    served = serve(bolt)
    for path in ("/p", "/b"):
        async with served.connect(path) as client:
            assert await seen.take(6) == list("123456")
            await client.send("x")
            assert await seen.take(7) == ["1", "2", "3", "handler", "4", "5", "6"]
        assert await seen.take(6) == list("123456")


@everywhere
@pytest.mark.parametrize("style", ["def", "async def", "blocking"])
async def test_abort_on_a_message(new_bolt: NewBolt, serve: Serve, style: str) -> None:
    """The rest of the befores, the handler and the afters are skipped; it is counted, and the
    connection lives on."""
    bolt = new_bolt(blocking=style == "blocking")
    seen = Journal()
    endpoint = bolt.ws("/p")

    def check(event: Event) -> None:
        if event.message == "bad":
            bolt.ws_event_abort()
            seen.note("aborting")

    async def check_async(event: Event) -> None:
        check(event)

    endpoint.before(check_async if style == "async def" else check)
    endpoint.before(noting(seen, "second before"))
    endpoint.after(noting(seen, "after"))
    bolt.after(noting(seen, "bolt after"))

    @endpoint.on_message
    def said(event: Event) -> None:
        event.reply(f"handled {event.message}")

    async with serve(bolt).connect("/p") as client:
        await seen.take(3)
        await client.send("bad")
        assert await ask(client, "good") == "handled good"
        assert await seen.take(4) == [
            "aborting",
            ("message", "second before"),
            ("message", "after"),
            ("message", "bolt after"),
        ]
        await eventually(lambda: bolt.stats().handled == 1)
        stats = bolt.stats()
        assert (stats.received, stats.aborted) == (2, 1)


@everywhere
async def test_abort_in_connect(new_bolt: NewBolt, serve: Serve) -> None:
    """The handshake is refused with the status, the reason and the headers given, and there
    never was a client: no handler, no after, no disconnect."""
    bolt = new_bolt()
    seen = Journal()
    endpoint = bolt.ws("/p/:how", seen.note, seen.note, seen.note)
    endpoint.after(seen.note)

    @endpoint.on_before
    async def guard(event: Event) -> None:
        match event.params["how"]:
            case "default":
                event.abort()
            case "login":
                event.abort(401, "log in first", [("WWW-Authenticate", "Basic"), ("X-A", "1")])

    served = serve(bolt)
    answer = await refused(served.connect("/p/default"))
    assert answer.status_code == 403
    answer = await refused(served.connect("/p/login"))
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Basic"
    assert answer.headers["X-A"] == "1"
    assert b"log in first" in (answer.body or b"")
    plain = await served.get("/p/login")  # not a handshake: it never gets to the before
    assert plain[0] == 426
    stats = bolt.stats()
    assert seen.seen == []
    assert stats.connections_opened == 0
    assert stats.refused == {"abort": 2}


async def test_abort_where_the_server_cannot_say_more(new_bolt: NewBolt, serve: Serve) -> None:
    """A server without the extension for refusals answers 403, whatever was asked for."""
    bolt = new_bolt()
    bolt.ws("/p").before(lambda event: event.abort(401, "log in first"))

    async def without(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            scope = {**scope, "extensions": {}}
        await bolt(scope, receive, send)

    answer = await refused(serve(without, "uvicorn").connect("/p"))
    assert answer.status_code == 403
    assert bolt.stats().refused == {"abort": 1}


@everywhere
async def test_abort_elsewhere_raises(
    new_bolt: NewBolt, serve: Serve, expect_error: Callable[[str, str], Any]
) -> None:
    """In a handler or an after there is nothing left to skip: NotAborting."""
    bolt = new_bolt()
    seen = Journal()

    def late(event: Event) -> None:
        for abort in (bolt.ws_event_abort, event.abort):
            try:
                abort()
            except NotAborting as error:
                seen.note(isinstance(error, (BoltError, RuntimeError)))

    async def late_async(event: Event) -> None:
        late(event)

    bolt.ws("/p", late, late_async, late).after(late)
    async with serve(bolt).connect("/p") as client:
        await client.send("x")
        assert await seen.take(8) == [True] * 8
    assert await seen.take(4) == [True] * 4
    assert bolt.stats().aborted == 0


@everywhere
async def test_an_abort_has_a_status_that_refuses(
    new_bolt: NewBolt, serve: Serve, expect_error: Callable[[str, str], Any]
) -> None:
    """abort(200) is a mistake of the before: it fails closed, with 500."""
    expect_error("boltws", "status")
    bolt = new_bolt()
    bolt.ws("/p").before(lambda event: event.abort(200))
    assert (await refused(serve(bolt).connect("/p"))).status_code == 500
    assert bolt.stats().refused == {"error": 1}


@everywhere
async def test_an_endpoint_without_callbacks_is_guarded(new_bolt: NewBolt, serve: Serve) -> None:
    """Befores and afters run for events that have no callback."""
    bolt = new_bolt()
    seen = Journal()
    bolt.ws("/open").before(noting(seen, "before")).after(noting(seen, "after"))
    bolt.ws("/shut").before(lambda event: event.abort())
    served = serve(bolt)
    assert (await refused(served.connect("/shut"))).status_code == 403
    async with served.connect("/open") as client:
        assert await seen.take(2) == [("connect", "before"), ("connect", "after")]
        await client.send("x")
        assert await seen.take(2) == [("message", "before"), ("message", "after")]
    assert await seen.take(2) == [("disconnect", "before"), ("disconnect", "after")]


@everywhere
async def test_connect_befores_run_before_the_client_is_there(
    new_bolt: NewBolt, serve: Serve
) -> None:
    """In a connect before nobody can be sent to yet; in on_connect one can."""
    bolt = new_bolt()
    seen = Journal()

    def look(event: Event) -> None:
        if event.type == "connect":
            seen.note(event.client_id in bolt.ws_client_list(), event.reply("hello"))

    bolt.ws("/p", look).before(look)
    async with serve(bolt).connect("/p") as client:
        assert await seen.take(2) == [(False, False), (True, True)]
        assert await recv(client) == "hello"


@everywhere
async def test_middleware_is_each_endpoints_own(new_bolt: NewBolt, serve: Serve) -> None:
    """An endpoint's before does not touch another endpoint."""
    bolt: Bolt = new_bolt()
    bolt.ws("/a", None, lambda event: event.reply("a")).before(
        lambda event: event.message == "stop" and event.abort()
    )
    bolt.ws("/b", None, lambda event: event.reply("b"))
    served = serve(bolt)
    async with served.connect("/a") as a, served.connect("/b") as b:
        assert await ask(b, "stop") == "b"
        await a.send("stop")
        assert await ask(a, "go") == "a"
