"""How connections end, of our doing or the peer's: over TLS, while the server stops, for good."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from boltws import Bolt, Event
from boltws.server.run import build_server
from boltws.server.wires import wires_of

from ..fakes import in_virtual_time, passing
from .connection import GET, TICK, UPGRADE, Connection, foreign

HANDSHAKE = GET + UPGRADE + b"\r\n"


@contextmanager
def uncollected() -> Iterator[None]:
    """What is freed meanwhile is freed at once, as nothing refers to it any more."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def not_answering(**options: Any) -> Connection:
    """A connection over TLS whose peer takes no notice of its close."""
    connection = Connection(half_closes=False, close_timeout=5, handshake_timeout=3, **options)
    connection.transport.unsent = 1
    return connection


@pytest.mark.parametrize("request_", [b"", GET + b"\r\n"], ids=["new", "kept"])
@in_virtual_time
async def test_a_tls_peer_that_does_not_answer_does_not_hold_the_exit(request_: bytes) -> None:
    """The stop of a server waits `close_timeout` for it."""
    connection = not_answering()
    connection.send(request_)
    await passing(1)
    connection.protocol.shutdown()
    await passing(4.9)
    assert not connection.transport.lost
    await passing(0.2)
    assert connection.transport.aborted and connection.transport.lost
    await connection.end()


@pytest.mark.parametrize("stops", ["behind the response", "within it"])
@in_virtual_time
async def test_a_tls_peer_whose_response_was_the_last_does_not_hold_the_exit(stops: str) -> None:
    """Closed by its response, before the stop or during it, it has its time from the stop or from
    its response on."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"connection", b"close")] if stops == "behind the response" else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await passing(1)
        await send({"type": "http.response.body", "body": b"x"})

    connection = not_answering(http=app)
    connection.transport.set_write_buffer_limits()
    connection.send(GET.replace(b" / ", b" /x ") + b"\r\n")
    await passing(0.5 if stops == "within it" else 2)
    wires_of(connection.state).stopping = True
    connection.protocol.shutdown()
    await passing(0.6 if stops == "within it" else 0)
    assert connection.transport.is_closing()
    await passing(4.8)
    assert not connection.transport.lost
    await passing(0.2)
    assert connection.transport.aborted and connection.transport.lost
    await connection.end()


@in_virtual_time
async def test_a_silent_tls_connection_is_gone_in_time() -> None:
    """Its descriptor is free `close_timeout` after it was given up."""
    connection = not_answering()
    await passing(3 + 2 * TICK)
    assert connection.transport.is_closing() and not connection.transport.lost
    await passing(5)
    assert connection.transport.aborted and connection.transport.lost
    await connection.end()


@in_virtual_time
async def test_what_is_unsent_has_its_time_without_tls() -> None:
    """A response that goes to a slow peer is not cut by the stop."""
    connection = Connection(close_timeout=5)
    connection.transport.set_write_buffer_limits()
    connection.transport.stall()
    connection.send(GET + b"\r\n")
    await passing(1)
    connection.protocol.shutdown()
    await passing(6)
    assert connection.transport.is_closing() and not connection.transport.aborted
    connection.transport.drain()
    await connection.end()


@in_virtual_time
async def test_tls_handshakes_do_not_count_as_connections() -> None:
    """A protocol hears of one that failed neither then nor later, so it would have taken the place
    of a client until its time was over."""
    first = Connection(max_connections=2, handshake_timeout=3)
    shaking = [first.another(made=False) for _ in range(10)]
    second = first.another()
    second.send(GET + b"\r\n")
    await passing(1)
    assert second.statuses == [426]
    shaking[0].made()
    shaking[0].send(b"G")
    assert shaking[0].statuses == [] and shaking[0].stands()
    shaking[1].made()
    shaking[1].send(b"G")
    assert shaking[1].statuses == [503], "those that stand do count"
    for connection in (first, second, *shaking[:2]):
        connection.transport.lose()
    await passing(10)
    assert wires_of(first.state).unmade == 0
    assert first.bolt.stats().refused == {"limit": 1, "tls": 8}
    await first.end()


@in_virtual_time
async def test_a_tls_handshake_that_ends_when_it_was_given_up_is_timed() -> None:
    """A connection that stands after all has the time of one, and no more."""
    connection = Connection(made=False, handshake_timeout=3)
    await passing(3 + 2 * TICK)
    connection.made()
    await passing(3 + 2 * TICK)
    assert not connection.stands()
    assert connection.bolt.stats().refused == {"tls": 1, "timeout": 1}
    assert wires_of(connection.state).unmade == 0
    await connection.end()


@in_virtual_time
async def test_a_tls_handshake_that_ends_behind_the_stop_is_not_served() -> None:
    """uvicorn's shutdown parts with those that it knows, and this one it did not."""
    connection = Connection(made=False)
    wires_of(connection.state).stopping = True
    connection.made()
    connection.send(HANDSHAKE)
    await passing(1)
    assert connection.statuses == [] and connection.transport.aborted
    assert connection.bolt.stats().refused == {"shutdown": 1}
    await connection.end()


@in_virtual_time
async def test_the_server_says_that_it_stops() -> None:
    """Before uvicorn's shutdown begins."""
    server = build_server(Bolt(), port=0)
    wires = wires_of(server.server_state)
    seen = []

    async def shutdown(self: Any, sockets: Any = None) -> None:
        seen.append(wires.stopping)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.Server, "shutdown", shutdown)
        assert not wires.stopping
        await server.shutdown()
    assert seen == [True]


@in_virtual_time
async def test_a_refusal_that_nobody_got_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that left during its handshake was sent nothing, so no status was."""
    connection = Connection()

    async def before(event: Event) -> None:
        await passing(5)

    connection.bolt.before(before)
    with caplog.at_level(logging.INFO, "uvicorn.error"):
        connection.send(HANDSHAKE)
        await passing(1)
        connection.transport.lose()
        await passing(10)
    assert [r.getMessage() for r in caplog.records if "WebSocket" in r.getMessage()] == []
    await connection.end()


@in_virtual_time
async def test_a_refused_handshake_leaves_no_cycle() -> None:
    """Its memory is free without the garbage collector."""
    connection = Connection()
    connection.bolt.on_before(lambda event: event.abort(403))
    gone = weakref.ref(connection.protocol)
    with uncollected():
        connection.send(HANDSHAKE)
        await passing(1)
        assert connection.statuses == [403]
        await connection.end()
        connection.transport.set_protocol(None)
        del connection.protocol
        assert gone() is None


@in_virtual_time
async def test_a_foreign_websocket_leaves_no_cycle() -> None:
    """Nor does one of an app that is no Bolt."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    transport, state = foreign(app)
    with uncollected():
        transport.receive(HANDSHAKE)
        await passing(1)
        assert b"101 Switching" in transport.sent
        gone = weakref.ref(transport.get_protocol())
        transport.lose()
        await passing(10)
        assert state.connections == set()
        transport.set_protocol(None)
        assert gone() is None
