"""Start, stop, and exactly one connect and one disconnect in between."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest

from boltws import Bolt, Event, NotRunning

from .conftest import NewBolt, Serve
from .helpers import Gate, Journal, ask, closed, eventually, recv, refused
from .servers import Kind, everywhere, ours, with_lifespan
from .wire import Wire, handshake, text


def noting(bolt: Bolt) -> Journal:
    seen = Journal()
    bolt.ws(
        "/p",
        lambda event: (seen.note("connect"), event.reply("hello")),
        lambda event: event.reply(event.message),
        lambda event: seen.note("disconnect", event.close_code),
    )
    return seen


def operations(bolt: Bolt) -> list[Any]:
    return [
        lambda: bolt.ws_send_to("x", "y"),
        lambda: bolt.ws_send_binary_to("x", b"y"),
        lambda: bolt.ws_broadcast("y"),
        lambda: bolt.ws_broadcast_binary(b"y"),
        lambda: bolt.ws_room_broadcast("r", "y"),
        lambda: bolt.ws_room_broadcast_binary("r", b"y"),
        lambda: bolt.ws_room_join("r", "x"),
        lambda: bolt.ws_room_leave("r", "x"),
        lambda: bolt.ws_room_members("r"),
        lambda: bolt.ws_room_count("r"),
        lambda: bolt.ws_close_client("x"),
        lambda: bolt.ws_client_list(),
        lambda: bolt.ws_connection_count(),
        lambda: bolt.ws_dropped_count(),
    ]


@with_lifespan
async def test_operations_before_and_after(new_bolt: NewBolt, serve: Serve) -> None:
    """Every ws_* operation raises NotRunning before the start and after the stop; stats() works
    all the time."""
    bolt = new_bolt()
    noting(bolt)
    for operation in operations(bolt):
        with pytest.raises(NotRunning):
            operation()
    assert bolt.stats().connections_opened == 0
    served = serve(bolt)
    async with served.connect("/p") as client:
        assert await recv(client) == "hello"
        for operation in operations(bolt):
            operation()
    await eventually(lambda: bolt.stats().connections_now == 0)
    await asyncio.to_thread(served.stop)
    for operation in operations(bolt):
        with pytest.raises(NotRunning):
            operation()
    assert bolt.stats().connections_opened == 1


@everywhere
async def test_once_each(new_bolt: NewBolt, serve: Serve) -> None:
    """However a connection ends, there is one connect and one disconnect."""
    bolt = new_bolt()
    seen = noting(bolt)
    served = serve(bolt)
    for how in ("client", "server", "both", "lost"):
        async with served.connect("/p") as client:
            assert await recv(client) == "hello"
            if how in ("server", "both"):
                (client_id,) = bolt.ws_client_list()
                assert bolt.ws_close_client(client_id, 4000)
            if how == "lost":
                client.transport.abort()
            if how in ("client", "both"):
                await client.close()
        assert await seen.next() == "connect"
        assert (await seen.next())[0] == "disconnect"
    await eventually(lambda: bolt.stats().closing == 0)
    assert len(seen.seen) == 8


@everywhere
async def test_refused_handshakes_have_no_events(new_bolt: NewBolt, serve: Serve) -> None:
    """No connect and no disconnect where the handshake was not answered with 101."""
    bolt = new_bolt()
    seen = noting(bolt)
    endpoint = bolt.ws("/shut", seen.note, seen.note, seen.note).after(seen.note)
    endpoint.before(lambda event: event.abort())
    served = serve(bolt)
    for path in ("/shut", "/nowhere"):
        await refused(served.connect(path))
    await refused(served.connect("/p", origin="https://evil.example"))
    assert seen.seen == []


@everywhere
async def test_the_peer_goes_during_the_handshake(
    new_bolt: NewBolt, serve: Serve, kind: Kind
) -> None:
    """The TCP connection ends while a connect before awaits: no disconnect without a 101. On
    our own protocol it is known to be gone, and counted."""
    bolt = new_bolt()
    seen = Journal()
    gate = Gate()
    before = Journal()
    endpoint = bolt.ws(
        "/p",
        lambda event: seen.note("connect"),
        None,
        lambda event: seen.note("disconnect"),
    )

    @endpoint.on_before
    async def guard(event: Event) -> None:
        if event.type == "connect":
            before.note("in")
            await gate.passed()
            before.note("out")

    served = serve(bolt)
    async with Wire(served) as wire:
        wire.send(handshake(served, "/p"))
        assert await before.next() == "in"
        wire.abort()
    # The server hears of it before the gate opens: a later connection is served meanwhile.
    assert (await refused(served.connect("/nowhere"))).status_code == 404
    gate.open()
    assert await before.next() == "out"
    if kind.ours:
        await eventually(lambda: bolt.stats().refused == {"no_endpoint": 1, "gone": 1})
        assert seen.seen == []
    else:  # it may have been answered into the void: then the two events belong together
        await eventually(lambda: len(seen.seen) == 2 or "gone" in bolt.stats().refused)
        assert seen.seen in ([], ["connect", "disconnect"])


@everywhere
async def test_the_peer_goes_right_behind_its_message(new_bolt: NewBolt, serve: Serve) -> None:
    """A message and a FIN in one breath: handled, then disconnect."""
    bolt = new_bolt()
    seen = Journal()
    bolt.ws("/p", None, lambda event: seen.note(event.message), lambda: seen.note("left"))
    async with serve(bolt).connect("/p") as client:
        await client.send("last words")
        await client.close()
    assert await seen.take(2) == ["last words", "left"]


@everywhere
async def test_the_server_stops(new_bolt: NewBolt, serve: Serve, kind: Kind) -> None:
    """Clients are told 1012 and get their disconnect; the server ends by itself."""
    # granian sends nothing any more when it tells the app to stop: there the deadline ends it.
    bolt = new_bolt(shutdown_timeout=1)
    seen = noting(bolt)
    served = serve(bolt)
    async with served.connect("/p") as one, served.connect("/p") as two:
        assert await recv(one) == await recv(two) == "hello"
        async with served.stopping():
            codes = {(await closed(client))[0] for client in (one, two)}
    if kind.host in ("boltws", "uvicorn"):
        assert codes == {1012}
    assert seen.seen[:2] == ["connect", "connect"]
    assert [entry[0] for entry in seen.seen[2:]] == ["disconnect", "disconnect"]
    stats = bolt.stats()
    assert stats.imbalance() == ""
    assert (stats.connections_now, stats.running, stats.waiting) == (0, 0, 0)


@ours
async def test_a_stop_lets_running_handlers_end(new_bolt: NewBolt, serve: Serve) -> None:
    """Within shutdown_timeout what runs may end, what waits is handled, then disconnect."""
    bolt = new_bolt()
    gate = Gate()
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    async def said(event: Event) -> None:
        seen.note(event.message)
        await gate.passed()
        seen.note("done")

    @endpoint.on_disconnect
    async def left(event: Event) -> None:
        seen.note("disconnect", event.close_code)

    served = serve(bolt)
    async with served.connect("/p") as client:
        await client.send("one")
        await client.send("two")
        assert await seen.next() == "one"
        await eventually(lambda: bolt.stats().waiting == 1)
        async with served.stopping():
            await eventually(lambda: served_refuses(served.port))
            gate.open()
            assert (await closed(client))[0] == 1012
    assert await seen.take(4) == ["done", "two", "done", ("disconnect", 1012)]
    assert bolt.stats().imbalance() == ""


@ours
async def test_a_stop_does_not_wait_for_ever(
    new_bolt: NewBolt, serve: Serve, expect_error: Any
) -> None:
    """At shutdown_timeout what still runs is cut and counted, what waits is dropped and counted,
    and a client that does not answer is aborted."""
    expect_error("boltws", "/p")
    bolt = new_bolt(shutdown_timeout=0.3, close_timeout=0.2)
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    async def said(event: Event) -> None:
        seen.note(event.message)
        await asyncio.Event().wait()

    @endpoint.on_disconnect
    def left(event: Event) -> None:
        seen.note("disconnect")

    served = serve(bolt)
    async with Wire(served) as wire:
        await wire.upgrade("/p", text("one"), text("two"))
        assert await seen.next() == "one"
        await eventually(lambda: bolt.stats().waiting == 1)
        await asyncio.to_thread(served.stop)
        stats = bolt.stats()
    assert seen.seen[1:] == ["disconnect"]
    assert (stats.timed_out, stats.dropped_in) == (1, {"shutdown": 1})
    assert stats.imbalance() == ""
    assert (stats.connections_now, stats.running, stats.waiting) == (0, 0, 0)


@with_lifespan
async def test_a_bolt_may_start_again(new_bolt: NewBolt, serve: Serve) -> None:
    """After a stop the same Bolt runs on another server; the ledger goes on."""
    bolt = new_bolt()
    seen = noting(bolt)
    for _ in range(2):
        served = serve(bolt)
        async with served.connect("/p") as client:
            assert await recv(client) == "hello"
            assert await ask(client, "x") == "x"
        assert await seen.next() == "connect"
        assert (await seen.next())[0] == "disconnect"
        await eventually(lambda: bolt.stats().closing == 0)
        await asyncio.to_thread(served.stop)
    assert bolt.stats().connections_opened == 2


@with_lifespan
async def test_the_http_apps_lifespan(new_bolt: NewBolt, serve: Serve) -> None:
    """The http app starts before the first client and stops after the last disconnect; its
    state is in the scopes."""
    seen = Journal()

    async def site(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["pool"] = "a pool"
            seen.note("startup")
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            seen.note("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["state"]["pool"].encode()})

    bolt = new_bolt(http=site)
    bolt.ws("/p", lambda: seen.note("connect"), None, lambda: seen.note("disconnect"))
    served = serve(bolt)
    assert (await served.get("/page"))[2] == b"a pool"
    async with served.connect("/p"):
        assert await seen.take(2) == ["startup", "connect"]
    assert await seen.next() == "disconnect"
    await asyncio.to_thread(served.stop)
    assert await seen.next() == "shutdown"


@everywhere
async def test_options_that_will_not_be_enforced(
    new_bolt: NewBolt, serve: Serve, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """On another server Bolt warns of an option that is that server's business, once, by name;
    on its own it does not."""
    bolt = new_bolt(ping_interval=7)
    noting(bolt)
    served = serve(bolt)
    for _ in range(2):
        async with served.connect("/p") as client:
            assert await recv(client) == "hello"
    warned = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("boltws") and record.levelno == logging.WARNING
    ]
    about = [text for text in warned if "ping_interval" in text]
    assert len(about) == (0 if kind.ours else 1), warned


def served_refuses(port: int) -> bool:
    """Whether nobody listens there any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
