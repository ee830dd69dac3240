"""An event as callbacks get it, the ambient event, refusals, state."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Bolt, NoEvent, NotAborting, State
from boltws.client import OPEN, OPENING
from boltws.event import (
    ConnectEvent,
    DisconnectEvent,
    Event,
    MessageEvent,
    Refusal,
    check_headers,
    current_event,
    reset_current,
    set_current,
)

from .flow import FakeClient, Start

GETTERS: list[tuple[str, tuple[Any, ...]]] = [
    ("ws_client_id", ()),
    ("ws_event_type", ()),
    ("ws_event_message", ()),
    ("ws_event_is_binary", ()),
    ("ws_event_binary", ()),
    ("ws_event_path", ()),
    ("ws_param", ("room",)),
    ("ws_event_abort", ()),
]


@pytest.fixture
async def client(start: Start) -> FakeClient:
    """A client of a path with parameters."""
    bolt = Bolt()
    bolt.ws("/chat/{room}/{n:int}")
    return start(bolt).connect("/chat/a%2Fb/07", query_string=b"q=1")


@pytest.mark.parametrize(("getter", "arguments"), GETTERS)
def test_no_event(getter: str, arguments: tuple[Any, ...]) -> None:
    """Each ambient getter raises where no event is being handled."""
    with pytest.raises(NoEvent):
        getattr(Bolt(), getter)(*arguments)


@pytest.mark.parametrize(
    ("event", "data", "message", "is_binary", "binary", "base64"),
    [
        (MessageEvent, "hé", "hé", False, b"", ""),
        (MessageEvent, "", "", False, b"", ""),
        (MessageEvent, b"\x00\xff", "", True, b"\x00\xff", "AP8="),
        (MessageEvent, b"", "", True, b"", ""),
        (ConnectEvent, None, "", False, b"", ""),
        (DisconnectEvent, None, "", False, b"", ""),
    ],
)
async def test_the_message(
    client: FakeClient,
    event: type[Event],
    data: Any,
    message: str,
    is_binary: bool,
    binary: bytes,
    base64: str,
) -> None:
    """Of each kind, by the event and by the ambient names; empty where there is none."""
    it = event(client) if data is None else event(client, data)
    assert (it.message, it.is_binary, it.binary, it.base64) == (message, is_binary, binary, base64)
    bolt = Bolt()
    token = set_current(it)
    try:
        assert bolt.ws_event_message() == message
        assert bolt.ws_event_is_binary() == is_binary
        assert bolt.ws_event_binary() == base64
        assert bolt.ws_event_type() == it.type
    finally:
        reset_current(token)


@pytest.mark.parametrize(
    ("event", "kind"),
    [(ConnectEvent, "connect"), (MessageEvent, "message"), (DisconnectEvent, "disconnect")],
)
async def test_the_connection(client: FakeClient, event: type[Event], kind: str) -> None:
    """Who and where, the same for each event of a connection."""
    it = event(client)
    assert it.type == kind
    assert it.client_id == client.id
    assert it.path == "/chat/{room}/{n:int}"
    assert it.params == {"room": "a/b", "n": 7}
    assert it.request.query["q"] == "1"
    bolt = Bolt()
    token = set_current(it)
    try:
        assert bolt.ws_client_id() == client.id
        assert bolt.ws_event_path() == it.path
        assert (bolt.ws_param("room"), bolt.ws_param("n")) == ("a/b", "07")
        assert bolt.ws_param("none") == ""
    finally:
        reset_current(token)


async def test_json(client: FakeClient) -> None:
    """Text and binary alike; what is none is a ValueError."""
    assert MessageEvent(client, '{"a": 1}').json() == {"a": 1}
    assert MessageEvent(client, b'["\xc3\xa9"]').json() == ["é"]
    for data in ("", "{", b"\xff"):
        with pytest.raises(ValueError):  # noqa: PT011  its text is the json module's
            MessageEvent(client, data).json()


async def test_state_lasts_as_long_as_the_connection(client: FakeClient) -> None:
    """One State a client, from its first event to its last."""
    ConnectEvent(client).state.user = "ann"
    MessageEvent(client).state["count"] = 1
    assert DisconnectEvent(client).state == {"user": "ann", "count": 1}


def test_state_is_a_dict_with_attributes() -> None:
    """Items are attributes, both ways; what is not there says so."""
    state = State(user="ann")
    assert state.user == "ann"
    state.user = "bob"
    assert state["user"] == "bob"
    del state.user
    assert "user" not in state
    assert not hasattr(state, "user")
    with pytest.raises(AttributeError, match="'user'"):
        _ = state.user
    with pytest.raises(AttributeError, match="'user'"):
        del state.user


def test_state_does_not_hide_what_a_dict_has() -> None:
    """What is kept as `items` would be read as the method: refused, and told what to write."""
    state = State()
    with pytest.raises(AttributeError, match=r"keep it as state\['items'\]"):
        state.items = ["tea"]  # type: ignore[assignment, method-assign]
    state["items"] = ["tea"]
    assert state == {"items": ["tea"]}


async def test_operations_of_an_event(client: FakeClient) -> None:
    """reply, join, leave and close are those of the hub, for the event's own client."""
    event = MessageEvent(client)
    assert event.reply("hé")
    assert event.reply(b"\x00")
    assert event.reply(bytearray(b"\x01"))
    assert event.reply(memoryview(b"\x02"))
    assert client.got == ["hé", b"\x00", b"\x01", b"\x02"]
    assert event.join("b")
    assert event.join("a")
    assert list(event.rooms) == ["b", "a"]
    assert event.leave("b")
    assert not event.leave("b")
    assert list(event.rooms) == ["a"]
    assert (event.close_code, event.close_reason) == (1005, "")
    assert event.close(3000, "over")
    assert (event.close_code, event.close_reason) == (3000, "over")
    assert not event.close()
    assert not event.join("c")
    assert not event.reply("late")
    assert list(event.rooms) == ["a"]


@pytest.mark.parametrize("message", [None, 1, ["x"], {"a": 1}])
async def test_a_reply_that_is_no_message(client: FakeClient, message: Any) -> None:
    """Another type is a TypeError, and nothing goes out."""
    what = f"a message is a str or bytes, not {type(message).__name__}; json.dumps makes a str"
    with pytest.raises(TypeError, match=what):
        MessageEvent(client).reply(message)
    with pytest.raises(ValueError, match="surrogate"):
        MessageEvent(client).reply("\ud800")
    assert client.frames == []


async def test_a_close_that_cannot_go_out(client: FakeClient) -> None:
    """The code is checked before anything happens."""
    with pytest.raises(ValueError, match="1005"):
        MessageEvent(client).close(1005)
    assert client.closes == []


async def test_response_headers(client: FakeClient) -> None:
    """There are some in connect only."""
    client.state = OPENING
    event = ConnectEvent(client)
    event.response_headers.append(("set-cookie", "a=1"))
    assert event.response_headers == [("set-cookie", "a=1")]
    client.state = OPEN  # on_connect runs: the 101 has gone out
    with pytest.raises(AttributeError, match="befores of connect only"):
        _ = event.response_headers
    for other in (MessageEvent(client), DisconnectEvent(client)):
        with pytest.raises(AttributeError, match="befores of connect only"):
            _ = other.response_headers


async def test_the_ambient_event_is_of_its_task(client: FakeClient) -> None:
    """A task sees the event of who started it, and not the one of another task."""
    seen = []

    async def look(event: Event) -> None:
        set_current(event)
        await asyncio.sleep(0)
        seen.append(current_event() is event)

    await asyncio.gather(*[look(MessageEvent(client)) for _ in range(3)])
    assert seen == [True] * 3
    with pytest.raises(NoEvent):
        current_event()


# Abort.


async def test_abort_elsewhere(client: FakeClient) -> None:
    """Unless the pipeline says that a before is running, it raises."""
    event = MessageEvent(client)
    with pytest.raises(NotAborting, match=r"too late; event.close\(code, reason\) ends"):
        event.abort()
    event.abortable = True
    event.abort(status=401, reason="who?", headers=[("WWW-Authenticate", "Basic")])
    assert event.aborted is not None
    assert (event.aborted.status, event.aborted.reason) == (401, "who?")
    assert event.aborted.headers == [(b"www-authenticate", b"Basic")]


@pytest.mark.parametrize("status", [200, 101, 299, 600, "403", 403.0, None, True])
def test_a_refusals_status(status: Any) -> None:
    """Redirects and errors refuse; a success or another type does not."""
    with pytest.raises(ValueError, match="300 to 599"):
        Refusal(status, "", ())


def test_a_refusals_reason() -> None:
    """It is text."""
    with pytest.raises(TypeError, match="not bytes"):
        Refusal(403, b"no", ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers",
    [
        [("x", "a\r\nSet-Cookie: b")],
        [("x", "a\nb")],
        [("x", "a\0b")],
        [("x", "a\x7fb")],
        [("x:", "a")],
        [("x y", "a")],
        [("", "a")],
        [("é", "a")],
        [("x", "€")],
        [("x", 1)],
        [(b"x", "a")],
        [("x", b"a")],
        ["x: a"],
        "x: a",
        [("x",)],
    ],
)
def test_headers_that_cannot_go_out(headers: Any) -> None:
    """Nothing that would end a line or start another gets into an answer."""
    with pytest.raises(ValueError):  # noqa: PT011  latin-1's own error among them
        check_headers(headers)


def test_a_header_is_a_pair() -> None:
    """A line, which is what other libraries take, is said to be none."""
    with pytest.raises(ValueError, match=r"a header is \(name, value\), not 'X: y'"):
        check_headers(["X: y"])  # type: ignore[list-item]


def test_headers_that_can() -> None:
    """Pairs or a mapping; names in lower case, values in latin-1."""
    wanted = [(b"set-cookie", b"a=1"), (b"x", b"\xe9\t")]
    assert check_headers([("Set-Cookie", "a=1"), ("x", "é\t")]) == wanted
    mapping: Any = {"Set-Cookie": "a=1", "x": "é\t"}
    assert check_headers(mapping) == wanted
