"""What belongs to one connection: its id, its request, its state, its handshake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from boltws import Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, recv, refused
from .servers import Kind, everywhere, ours


@everywhere
async def test_ids(new_bolt: NewBolt, serve: Serve) -> None:
    """Every client has its own UUID of version 8, and all share the part that names the process."""
    bolt = new_bolt()
    bolt.ws("/a", lambda event: event.reply(event.client_id))
    bolt.ws("/b", lambda event: event.reply(event.client_id))
    served = serve(bolt)
    ids = []
    for path in ["/a", "/b"] * 10:
        async with served.connect(path) as client:
            ids.append(await recv(client))
    assert len(set(ids)) == 20
    assert {UUID(client_id).version for client_id in ids} == {8}
    assert {str(UUID(client_id)) for client_id in ids} == set(ids)
    assert len({UUID(client_id).int >> 88 for client_id in ids}) == 1


@everywhere
async def test_lists(new_bolt: NewBolt, serve: Serve) -> None:
    """ws_client_list and ws_connection_count tell who is there, of all endpoints, in order."""
    bolt = new_bolt()
    bolt.ws("/a", lambda event: event.reply(event.client_id))
    bolt.ws("/b", lambda event: event.reply(event.client_id))
    served = serve(bolt)
    async with served.connect("/a") as one:
        first = await recv(one)
        async with served.connect("/b") as two:
            second = await recv(two)
            assert bolt.ws_client_list() == [first, second]
            assert bolt.ws_connection_count() == 2
        async with served.connect("/b") as three:
            third = await recv(three)
            assert [c for c in bolt.ws_client_list() if c != second] == [first, third]
    assert bolt.stats().connections_opened == 3


@everywhere
async def test_the_request(new_bolt: NewBolt, serve: Serve, kind: Kind) -> None:
    """Headers, query, cookies, path, address and subprotocols are there in every event."""
    bolt = new_bolt()
    seen = Journal()

    def look(event: Event) -> None:
        request = event.request
        assert request.client is not None
        seen.note(
            {
                "header": request.headers["X-Name"],
                "case": request.headers["x-name"],
                "missing": request.headers.get("x-missing"),
                "query": dict(request.query),
                "all": request.query.getlist("a"),
                "cookies": request.cookies,
                "path": request.path,
                "host": request.client[0],
                "subprotocols": list(request.subprotocols),
            }
        )

    bolt.ws("/p/:x", look, look, look).before(look)
    served = serve(bolt)
    async with served.connect(
        "/p/a%20b?a=1&a=2&b=x%20y&c=",
        additional_headers={"X-Name": "value", "Cookie": "s=abc; t=1=2"},
        subprotocols=["one", "two"],
    ) as client:
        await client.send("x")
        looks = await seen.take(4)
    looks += await seen.take(2)
    expected = {
        "header": "value",
        "case": "value",
        "missing": None,
        "query": {"a": "2", "b": "x y", "c": ""},
        "all": ["1", "2"],
        "cookies": {"s": "abc", "t": "1=2"},
        "path": f"{kind.prefix}/p/a b",
        "host": "127.0.0.1",
        "subprotocols": ["one", "two"],
    }
    assert looks == [expected] * 6


@everywhere
async def test_state_lives_as_long_as_the_connection(new_bolt: NewBolt, serve: Serve) -> None:
    """What the connect before keeps, the others find; another client has its own; it is a dict
    whose items are attributes."""
    bolt = new_bolt()
    seen = Journal()
    endpoint = bolt.ws("/p/:who")

    @endpoint.on_before
    def first(event: Event) -> None:
        if event.type == "connect":
            event.state.who = event.params["who"]
            event.state["count"] = 0

    @endpoint.on_message
    def said(event: Event) -> None:
        event.state.count += 1
        event.reply(f"{event.state['who']} {event.state.count}")
        with pytest.raises(AttributeError):
            event.state.nothing  # noqa: B018 - the look-up is the test

    @endpoint.on_disconnect
    def left(event: Event) -> None:
        seen.note(dict(event.state))

    served = serve(bolt)
    async with served.connect("/p/ann") as ann, served.connect("/p/ben") as ben:
        assert await ask(ann, "x") == "ann 1"
        assert await ask(ben, "x") == "ben 1"
        assert await ask(ann, "x") == "ann 2"
    left_states = await seen.take(2)
    assert {"who": "ann", "count": 2} in left_states
    assert {"who": "ben", "count": 1} in left_states


@everywhere
async def test_response_headers(new_bolt: NewBolt, serve: Serve, kind: Kind) -> None:
    """Headers that a connect before gives go out with the 101, each of them."""
    bolt = new_bolt()
    endpoint = bolt.ws("/p")

    @endpoint.on_before
    def greet(event: Event) -> None:
        if event.type == "connect":
            event.response_headers.append(("Set-Cookie", "a=1; HttpOnly"))
            event.response_headers.append(("Set-Cookie", "b=2"))
            event.response_headers.append(("X-Hello", "there"))

    async with serve(bolt).connect("/p") as client:
        assert client.response is not None
        headers = client.response.headers
        if kind.accept_headers:
            assert headers.get_all("Set-Cookie") == ["a=1; HttpOnly", "b=2"]
            assert headers["X-Hello"] == "there"
        if kind.mounted:
            assert headers["X-Signed"] == "yes", "middleware around a mount sees the answer"


@everywhere
async def test_a_header_that_cannot_be_sent(
    new_bolt: NewBolt, serve: Serve, expect_error: Callable[[str, str], Any]
) -> None:
    """A line break in a response header is not let through: the handshake fails, 500."""
    expect_error("boltws", "raised")
    bolt = new_bolt()
    endpoint = bolt.ws("/p")

    @endpoint.on_before
    def split(event: Event) -> None:
        event.response_headers.append(("X-Hello", "there\r\nX-Evil: yes"))

    answer = await refused(serve(bolt).connect("/p"))
    assert answer.status_code == 500
    assert "X-Evil" not in answer.headers
    assert bolt.stats().connections_opened == 0


NEGOTIATIONS = [
    (["v2", "v1"], ["v1", "v2"], "v2"),
    (["v2", "v1"], ["v1"], "v1"),
    (["v2", "v1"], ["v3"], None),
    (["v2", "v1"], None, None),
    ([], ["v1"], None),
]


@everywhere
@pytest.mark.parametrize(("offered", "wanted", "agreed"), NEGOTIATIONS)
async def test_subprotocols(
    new_bolt: NewBolt,
    serve: Serve,
    offered: list[str],
    wanted: list[Any] | None,
    agreed: str | None,
) -> None:
    """The first of ours that the client wants, or none; the event tells which."""
    bolt = new_bolt(subprotocols=offered)
    bolt.ws("/p", lambda event: event.reply(str(event.request.subprotocol)))
    async with serve(bolt).connect("/p", subprotocols=wanted) as client:
        assert client.subprotocol == agreed
        assert await recv(client) == str(agreed)


async def test_an_endpoint_has_its_own_subprotocols(new_bolt: NewBolt, serve: Serve) -> None:
    """The endpoint's option wins over the Bolt's."""
    bolt = new_bolt(subprotocols=["all"])
    bolt.ws("/p", subprotocols=["mine"])
    async with serve(bolt).connect("/p", subprotocols=["all", "mine"]) as client:
        assert client.subprotocol == "mine"


@ours
async def test_two_bolts_in_one_server(new_bolt: NewBolt, serve: Serve) -> None:
    """A Bolt may be the http app of another: each has its own clients."""
    inner = new_bolt()
    inner.ws("/inner", None, lambda event: event.reply(f"inner {event.message}"))
    outer = new_bolt(http=inner)
    outer.ws("/outer", None, lambda event: event.reply(f"outer {event.message}"))
    served = serve(outer)
    async with served.connect("/inner") as one, served.connect("/outer") as two:
        assert await ask(one, "x") == "inner x"
        assert await ask(two, "x") == "outer x"
        assert (inner.ws_connection_count(), outer.ws_connection_count()) == (1, 1)
        assert outer.ws_broadcast("to all of outer") == 1
        assert await recv(two) == "to all of outer"
        assert await ask(one, "y") == "inner y"
