"""What comes behind a request's head: bodies, trailers, and more requests."""

from __future__ import annotations

from typing import Any

import pytest

from ..fakes import in_virtual_time, passing
from .connection import Connection

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
