"""What comes behind a request's head: bodies, trailers, and more requests."""

from __future__ import annotations

from typing import Any

import pytest

from boltws import Event

from ..fakes import in_virtual_time, passing
from .connection import GET, UPGRADE, Connection

CHUNKED = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


class App:
    """An HTTP app that takes the whole body, and answers with its size."""

    def __init__(self, starts: bool = False) -> None:
        self.ended: list[str] = []  # how its requests did
        self._starts = starts  # the response is begun before the body is there

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        start = {"type": "http.response.start", "status": 200, "headers": []}
        if self._starts:
            await send(start)
        size, message = 0, {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            size += len(message.get("body", b""))
        self.ended.append(message["type"])
        if not self._starts:
            await send(start)
        await send({"type": "http.response.body", "body": b"%d" % size})


@pytest.mark.parametrize("piece", [b"a: b\r\n" * 100, b"a" * 600], ids=["many", "one"])
@pytest.mark.parametrize("answered", ["not yet", "begun", "done"])
@in_virtual_time
async def test_trailers_have_the_limit_of_headers(piece: bytes, answered: str) -> None:
    """They would pile up for ever, in our list or, one that does not end, in the parser. An answer
    is given where there is a place for one; an app that waits for the body waits no longer."""
    app = App(starts=answered == "begun")
    http = {} if answered == "done" else {"http": app}  # the Bolt itself answers at once
    connection = Connection(max_header_size=4096, **http)
    connection.send(CHUNKED + b"3\r\nabc\r\n0\r\nt: ")
    await passing(1)
    sent = 0
    while connection.stands() and sent < 100_000:
        connection.send(piece)
        sent += len(piece)
        await passing(0)
    await passing(1)
    assert sent <= 4096 + 2 * len(piece)
    assert connection.bolt.stats().refused == {"head_too_large": 1}
    assert connection.statuses == {"not yet": [431], "begun": [200], "done": [404]}[answered]
    assert connection.transport.aborted == (answered != "not yet")
    assert answered == "done" or app.ended == ["http.disconnect"]
    await connection.end()


@pytest.mark.parametrize("starts", [False, True])
@in_virtual_time
async def test_a_body_that_is_none_is_not_waited_for(starts: bool) -> None:
    """A size of a chunk that is no number: the answer is 400, and the app is told that there is
    nobody; where its own answer has begun, that ends there."""
    app = App(starts)
    connection = Connection(http=app, close_timeout=5)
    connection.send(CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    await passing(1)
    connection.send(b"zz\r\n")
    await passing(1)
    assert connection.statuses[-1:] == [200 if starts else 400]
    assert app.ended == ["http.disconnect"] and not connection.stands()
    assert connection.bolt.stats().refused == {"bad_request": 1}
    await connection.end()


@in_virtual_time
async def test_a_body_that_is_none_behind_another_request_is_answered_in_its_turn() -> None:
    """Its app is not run: it would wait for the rest, and nobody would end the connection."""
    app = slow({"/first": 10})
    connection = Connection(http=app)
    connection.send(get(b"/first") + CHUNKED + b"zz\r\n")
    await passing(11)
    assert connection.statuses == [200, 400] and app.seen == ["/first"]
    assert connection.transport.is_closing()
    assert connection.bolt.stats().refused == {"bad_request": 1}
    await connection.end()


@in_virtual_time
async def test_a_target_that_is_none_cuts_no_response() -> None:
    """It is found behind the head, where the body of the request before it would be."""
    app = App()
    connection = Connection(http=app)
    connection.send(
        CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    await passing(1)
    assert connection.statuses == [200] and app.ended == ["http.request"]
    assert connection.transport.is_closing()
    await connection.end()


@in_virtual_time
async def test_trailers_are_allowed_and_not_given_to_the_app() -> None:
    """A few, behind a body of many chunks that is itself larger than the limit; the next request
    on the connection has none of them."""
    app = App()
    connection = Connection(max_header_size=4096, http=app)
    connection.send(CHUNKED)
    for _ in range(100):
        connection.send(b"3e8\r\n" + b"x" * 500)
        connection.send(b"x" * 500 + b"\r\n")
    connection.send(b"0\r\nt: 1\r\nu: 2\r\n\r\n")
    await passing(1)
    assert connection.statuses == [200] and b"100000" in connection.transport.sent
    assert app.ended == ["http.request"]
    names = [name for name, _ in connection.protocol.headers]
    assert names == [b"host", b"transfer-encoding"]
    connection.send(CHUNKED + b"0\r\n\r\n")
    await passing(1)
    assert connection.statuses == [200, 200] and connection.stands()
    await connection.end()


@in_virtual_time
async def test_reads_that_end_behind_the_size_of_a_chunk_are_no_trailers() -> None:
    """What comes between two sizes is data, however the reads cut it."""
    app = App()
    connection = Connection(max_header_size=4096, http=app)
    connection.send(CHUNKED + b"1388\r\n")
    for _ in range(10):
        connection.send(b"x" * 5000 + b"\r\n1388\r\n")
        await passing(0)
    connection.send(b"x" * 5000 + b"\r\n0\r\n")
    connection.send(b"\r\n")
    await passing(1)
    assert connection.statuses == [200] and app.ended == ["http.request"]
    assert b"55000" in connection.transport.sent
    await connection.end()


def slow(seconds: dict[str, float]) -> Any:
    """An HTTP app that takes so long for the second half of the response to a path."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        seen.append(path)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await passing(seconds.get(path, 0))
        await send({"type": "http.response.body", "body": path.encode()})

    seen = app.seen = []  # type: ignore[attr-defined]
    return app


def get(path: bytes) -> bytes:
    return GET.replace(b" / ", b" %s " % path) + b"\r\n"


@in_virtual_time
async def test_a_request_whose_head_came_in_two_parts_has_its_time() -> None:
    """The keep-alive time of the response before it ends where its head is complete, also when the
    head began before that response was done."""
    connection = Connection(http=slow({"/first": 1, "/second": 60}))
    second = get(b"/second")
    connection.send(get(b"/first") + second[:9])
    await passing(1.5)
    connection.send(second[9:])
    await passing(59)
    assert connection.stands() and b"/first" in connection.transport.sent
    await passing(2)
    assert b"/second" in connection.transport.sent and connection.stands()
    await connection.end()


@in_virtual_time
async def test_a_handshake_whose_head_came_in_two_parts_has_its_time() -> None:
    """A slow before too is not cut by the keep-alive time of the response before it."""
    connection = Connection(http=slow({"/first": 1}))

    async def before(event: Event) -> None:
        if event.type == "connect":
            await passing(30)

    connection.bolt.before(before)
    connection.send(get(b"/first") + GET[:9])
    await passing(1.5)
    connection.send(GET[9:] + UPGRADE + b"\r\n")
    await passing(31)
    assert connection.statuses == [200, 101] and connection.stands()
    await connection.end()


@in_virtual_time
async def test_a_head_that_waits_for_a_response_is_not_timed() -> None:
    """While a response is in flight we may not read on; the time of the head behind it begins when
    that is done. It does end."""
    connection = Connection(http=slow({"/first": 60}), handshake_timeout=3)
    third = get(b"/third")
    connection.send(get(b"/first") + get(b"/second") + third[:9])
    connection.send(third[9:])
    await passing(59)
    assert connection.stands() and connection.bolt.stats().refused == {}
    await passing(2)
    sent = bytes(connection.transport.sent)
    assert 0 < sent.find(b"/first") < sent.find(b"/second") < sent.find(b"/third")
    connection.send(third[:9])
    await passing(6)
    assert not connection.stands() and connection.bolt.stats().refused == {"timeout": 1}
    await connection.end()


@pytest.mark.parametrize("behind", [0, 1, 2])
@in_virtual_time
async def test_an_app_is_told_that_its_peer_left(behind: int) -> None:
    """Also where other requests wait behind the one that it answers; those are not run."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append("begins")
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (message := await receive())["type"] != "http.disconnect":
            seen.append(message["type"])
        await send({"type": "http.response.body", "body": b"late"})
        seen.append("ends")

    seen: list[str] = []
    connection = Connection(http=app)
    connection.send(get(b"/first") + get(b"/behind") * behind)
    await passing(1)
    assert seen == ["begins"] and connection.statuses == [200]
    await connection.end()
    assert seen == ["begins", "ends"] and not connection.transport.late


@in_virtual_time
async def test_nothing_behind_a_refused_request_is_run() -> None:
    """Though it came in the same read: the answer has said that the connection ends."""
    app = slow({})
    connection = Connection(http=app, max_header_size=4096)
    large = GET + b"X-Large: " + b"x" * 5000 + b"\r\n\r\n"
    connection.send(large + get(b"/behind"))
    await passing(1)
    assert connection.statuses == [431] and app.seen == []
    await connection.end()
    connection = Connection(http=app)
    connection.send(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n" + get(b"/behind"))
    await passing(1)
    assert connection.statuses == [400] and app.seen == []
    await connection.end()


UPLOAD = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"


@in_virtual_time
async def test_an_answer_that_is_early_is_not_lost_behind_the_upload() -> None:
    """A body that comes on is read, and thrown away; what comes behind it is served."""
    connection = Connection(http=slow({}))
    connection.send(UPLOAD)
    for _ in range(20):
        await passing(1)
        connection.send(b"x" * 5000)
        assert connection.statuses == [200] and connection.stands()
    connection.send(get(b"/next"))
    await passing(1)
    assert connection.statuses == [200, 200] and connection.stands()
    await passing(6)
    assert not connection.stands()
    await connection.end()


@pytest.mark.parametrize(("piece", "seconds"), [(5000, 66), (100, 6), (0, 6)])
@in_virtual_time
async def test_an_answered_upload_may_not_go_on_for_ever(piece: int, seconds: int) -> None:
    """It has about a minute, and where it trickles or rests only the keep-alive time. The end is a
    half close, so that the answer is not lost."""
    connection = Connection(http=slow({}))
    connection.send(UPLOAD.replace(b"100000", b"100000000") + b"x")
    for _ in range(seconds - 2):
        assert connection.stands()
        if piece:
            connection.send(b"x" * piece)
        await passing(1)
    await passing(2)
    assert not connection.stands() and connection.transport.eof_sent
    await connection.end()
