"""Requests that do not come to their end, or are too large, over uvicorn's own parser."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Event

from ..fakes import in_virtual_time, passing
from .connection import GET, TICK, UPGRADE, Connection
from .helpers import echo, read_frames, text


@pytest.mark.parametrize("piece", [b"", b"GET", GET, GET + b"X-Long: "])
@in_virtual_time
async def test_a_head_that_does_not_come_is_given_up(piece: bytes) -> None:
    """A connection has `handshake_timeout` from when it was accepted, whatever part has come."""
    connection = Connection(handshake_timeout=10)
    connection.send(piece)
    await passing(9.9)
    assert connection.stands()
    await passing(0.1 + 2 * TICK)
    assert not connection.stands() and connection.statuses == []
    assert connection.bolt.stats().refused == {"timeout": 1}
    await connection.end()


@in_virtual_time
async def test_trickling_gains_nothing() -> None:
    """A byte now and then does not start the time anew."""
    connection = Connection(handshake_timeout=10)
    for byte in GET + b"X-Slow: " + b"x" * 100:
        connection.send(bytes([byte]))
        await passing(0.5)
        if not connection.stands():
            break
    assert asyncio.get_running_loop().time() < 1000 + 10 + 3 * TICK
    assert not connection.stands()
    await connection.end()


@in_virtual_time
async def test_the_next_request_has_the_same_time() -> None:
    """On a connection that is kept the head of each request is timed, from its first byte."""
    connection = Connection(handshake_timeout=3)
    connection.send(GET + b"\r\n")
    await passing(4)  # uvicorn keeps it for five seconds
    assert connection.statuses == [426] and connection.stands()
    connection.send(GET)
    await passing(2.9)
    assert connection.stands()
    await passing(0.1 + 2 * TICK)
    assert not connection.stands() and connection.statuses == [426]
    await connection.end()


@in_virtual_time
async def test_a_handshake_that_takes_its_time_is_not_given_up() -> None:
    """The time is for the request; once it is complete a before may take longer."""
    connection = Connection(echo, handshake_timeout=3)

    async def before(event: Event) -> None:
        if event.type == "connect":
            await passing(60)

    connection.bolt.before(before)
    connection.send(GET + UPGRADE + b"\r\n")
    await passing(59)
    assert connection.statuses == [] and connection.stands()
    await passing(2)
    assert connection.statuses == [101]
    await connection.end()


@pytest.mark.parametrize("upgrade", [b"", UPGRADE])
@pytest.mark.parametrize("pieces", [1, 7, 1000])
@in_virtual_time
async def test_headers_that_are_too_large_are_431(upgrade: bytes, pieces: int) -> None:
    """`max_header_size` is for line and headers together, in however many reads they come; one
    answer is given and the connection closed."""
    head = GET + upgrade + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 50) for n in range(100)) + b"\r\n"
    connection = Connection(max_header_size=4096)
    step = -(-len(head) // pieces)
    for start in range(0, len(head), step):
        connection.send(head[start : start + step])
    await passing(1)
    assert connection.statuses == [431]
    assert connection.bolt.stats().refused == {"head_too_large": 1}
    assert not connection.stands()
    await connection.end()


@pytest.mark.parametrize("start", [b"GET /", GET + b"X-Endless: ", GET + b"X-"])
@in_virtual_time
async def test_a_line_without_an_end_is_431(start: bytes) -> None:
    """What is in the parser and not in a header yet counts too."""
    connection = Connection(max_header_size=4096)
    connection.send(start)
    sent = len(start)
    while connection.stands() and sent < 100_000:
        connection.send(b"a" * 100)
        sent += 100
    await passing(1)
    assert connection.statuses == [431] and sent < 4096 + 300
    assert connection.bolt.stats().refused == {"head_too_large": 1}
    await connection.end()


@in_virtual_time
async def test_what_comes_with_the_request_is_handled_behind_connect() -> None:
    """Frames in the same read as the handshake, and others that come before its answer, are not
    lost and not handled before it is answered."""
    connection = Connection(echo)
    connection.send(GET + UPGRADE + b"\r\n" + text("a") + text("b")[:3])
    connection.send(text("b")[3:])
    assert connection.bolt.stats().received == 0
    await passing(1)
    assert connection.statuses == [101]
    frames = bytes(connection.transport.sent).split(b"\r\n\r\n", 1)[1]
    assert [payload for _, payload in read_frames(frames)] == [b"a", b"b"]
    await connection.end()


@in_virtual_time
async def test_a_peer_that_leaves_during_its_handshake_is_no_client() -> None:
    """It is counted as refused, and nothing is written to it."""
    connection = Connection(echo)

    async def before(event: Event) -> None:
        await passing(5)

    connection.bolt.before(before)
    connection.send(GET + UPGRADE + b"\r\n")
    await passing(1)
    connection.transport.lose()
    await passing(10)
    stats = connection.bolt.stats()
    assert stats.connections_opened == 0 and dict(stats.refused) == {"gone": 1}
    assert not connection.transport.sent and not connection.transport.late
    await connection.end()


@in_virtual_time
async def test_a_request_behind_a_large_body() -> None:
    """The limit is for a head: what came before it in the same read is not part of it."""
    connection = Connection()
    body = b"x" * 20_000
    request = b"POST /no HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.send(request + body + GET)
    connection.send(b"\r\n")
    await passing(1)
    assert connection.statuses == [404, 426]
    await connection.end()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (GET + UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n", 426),
        (GET + UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=") + b"\r\n", 400),
        (GET.replace(b"Host: localhost\r\n", b"") + UPGRADE + b"\r\n", 400),
        (GET + UPGRADE + b"Content-Length: 1\r\n\r\nx", 400),
        (b"nonsense\r\n\r\n", 400),
        (GET.replace(b" / ", b" * ") + UPGRADE + b"\r\n", 400),
        (GET.replace(b" / ", b" /\xff ") + UPGRADE + b"\r\n", 400),
        (GET.replace(b" / ", b" http://[ ") + UPGRADE + b"\r\n", 400),
        (GET.replace(b" / ", b" localhost:1 ") + UPGRADE + b"\r\n", 400),
    ],
)
@in_virtual_time
async def test_a_request_that_cannot_be_granted_is_counted(request_: bytes, status: int) -> None:
    """It never reaches an app, and shows in the books of the Bolt that the server was made for."""
    connection = Connection()
    connection.send(request_)
    await passing(1)
    assert connection.statuses == [status] and not connection.stands()
    assert connection.bolt.stats().refused == {"bad_request": 1}
    await connection.end()


@pytest.mark.parametrize("request_", [b"nonsense\r\n\r\n", GET + UPGRADE + b"\r\n"])
@in_virtual_time
async def test_a_refused_peer_may_still_send(request_: bytes) -> None:
    """Behind the answer the connection is half closed: what still comes is read, so that no reset
    overtakes the answer, and thrown away. Who never leaves is aborted after `close_timeout`."""
    connection = Connection(close_timeout=5)
    connection.bolt.on_before(lambda event: event.abort(403))
    connection.send(request_)
    await passing(1)
    said = connection.statuses
    assert said in ([400], [403]) and connection.transport.eof_sent
    for _ in range(100):
        connection.send(GET + b"x" * 4096)
    assert connection.transport.is_reading() and not connection.transport.lost
    await passing(3.9)
    assert not connection.transport.lost
    await passing(0.2)
    assert connection.transport.aborted and connection.statuses == said
    await connection.end()


@in_virtual_time
async def test_a_refused_peer_without_half_closing() -> None:
    """TLS knows no half close: the connection is closed behind the answer."""
    connection = Connection(half_closes=False)
    connection.send(b"nonsense\r\n\r\n")
    await passing(1)
    assert connection.statuses == [400] and connection.transport.lost
    assert not connection.transport.aborted
    await connection.end()


@in_virtual_time
async def test_connections_that_say_nothing_count() -> None:
    """`max_connections` is for those too whose request has not come. The one above it is told to
    come again when it asks, and is not waited for long; when they have gone there is room."""
    first = Connection(max_connections=2)
    second, third, silent = first.another(), first.another(), first.another()
    third.send(b"G")
    assert third.statuses == [503] and b"retry-after: 1\r\n" in bytes(third.transport.sent)
    await passing(1 + 2 * TICK)
    assert not silent.stands() and silent.statuses == [] and second.stands()
    assert first.bolt.stats().refused == {"limit": 2}
    await third.end(left=2)
    await silent.end(left=2)
    await second.end(left=1)
    fourth = first.another()
    fourth.send(GET + b"\r\n")
    await passing(1)
    assert fourth.statuses == [426]
    await fourth.end(left=1)
    await first.end()


@in_virtual_time
async def test_a_tls_handshake_has_its_part_of_the_time() -> None:
    """A protocol is made when its connection is accepted, and told of it behind the TLS handshake:
    what that took is taken off; one that never came to an end is counted."""
    connection = Connection(made=False, handshake_timeout=10)
    await passing(8)
    connection.made()
    await passing(1.9)
    assert connection.stands()
    await passing(0.1 + 2 * TICK)
    assert not connection.stands()
    connection.another(made=False)
    await passing(10 + 2 * TICK)
    assert connection.bolt.stats().refused == {"timeout": 1, "tls": 1}
    await connection.end()


def large(size: int) -> Any:
    """An app whose response is as large."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * size})

    return app


async def unread(size: int, **options: Any) -> Connection:
    """A client that has not read a response of that size before its handshake."""
    connection = Connection(http=large(size), **options)
    connection.transport.set_write_buffer_limits()
    connection.transport.stall()
    connection.send(GET.replace(b" / ", b" /large ") + b"\r\n")
    await passing(1)
    connection.send(GET + UPGRADE + b"\r\n")
    await passing(1)
    assert connection.statuses == [200, 101]
    return connection


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize(("size", "limit"), [(2**17, 2**20), (2**17, 2**13), (2**14, 2**13)])
@in_virtual_time
async def test_who_has_not_read_a_response_is_a_slow_client(
    size: int, limit: int, reads: bool
) -> None:
    """A transport says once that much is unsent, and had said it to HTTP: the client was never
    slow, and what it did not read piled up without a limit. When it reads it is slow no more."""
    connection = await unread(size, send_buffer_limit=limit)
    bolt = connection.bolt
    assert bolt.stats().slow_clients == 1
    if reads:
        connection.transport.drain()
    assert bolt.ws_broadcast("x") == reads
    assert bolt.stats().closed == ({} if reads else {1013: 1})
    assert bolt.stats().slow_clients == 0
    await connection.end()


@pytest.mark.parametrize("half_closes", [False, True])
@in_virtual_time
async def test_an_unread_response_within_the_limit_is_none_of_a_slow_client(
    half_closes: bool,
) -> None:
    """Over TLS a transport that has got other limits may say at once that it is little."""
    size = 2**17 if not half_closes else 2**15
    connection = await unread(size, half_closes=half_closes, send_buffer_limit=2**20)
    assert connection.bolt.stats().slow_clients == 0
    assert connection.bolt.ws_broadcast("x") == 1
    connection.transport.drain()
    await connection.end()
