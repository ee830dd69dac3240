"""The handshake: befores, refusals, the 101; on any ASGI server and on our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from boltws import Bolt, Event

from .asgi_peer import AsgiPeer, FakeSocket
from .conftest import Errors
from .flow import Clock, Gate, Journal, Start, turns

STYLES = ["def", "async def", "blocking"]
styles = pytest.mark.parametrize("style", STYLES)


def styled(style: str, callback: Callable[[Event], Any]) -> Callable[..., Any]:
    """A callback as it is, or awaited; for "blocking", its Bolt must be so."""

    async def slowly(event: Event) -> None:
        await asyncio.sleep(0)
        callback(event)

    return slowly if style == "async def" else callback


def quiet(bolt: Bolt) -> bool:
    """Whether no client ever was."""
    stats = bolt.stats()
    return not (stats.connections_opened or stats.closed or bolt.ws_client_list())


# Accepted.


async def test_accepted(start: Start) -> None:
    """The 101 goes out, then `on_connect` runs, for a client that is on the lists."""
    seen: list[Any] = []
    peer: AsgiPeer
    bolt = Bolt()

    def joined(event: Event) -> None:
        seen.append((len(peer.sent), bolt.ws_client_list() == [event.client_id]))

    bolt.ws("/p/{x}", joined)
    start(bolt)
    peer = AsgiPeer(bolt, "/p/1")
    assert await peer.connect() == {
        "type": "websocket.accept",
        "subprotocol": None,
        "headers": [],
    }
    await turns()
    assert seen == [(1, True)]
    await peer.leaves()
    assert bolt.stats().closed == {1000: 1}


@styles
async def test_befores_run_before_the_answer(start: Start, style: str) -> None:
    """They see the request and the ambient event, and no client yet; what they leave in the state
    is there later, and their response headers go out with the 101."""
    journal = Journal()
    bolt = Bolt(blocking=style == "blocking")

    def check(event: Event) -> None:
        if event.type == "connect":
            event.state.user = event.request.cookies["user"]
            event.response_headers.append(("Set-Cookie", "seen=1"))
            journal.note(bolt.ws_client_id() == event.client_id, bolt.ws_param("x"))
            journal.note(bolt.ws_client_list(), event.join("room"), event.reply("early"))

    chat = bolt.ws("/p/{x}", lambda event: journal.note(event.state.user))
    chat.before(styled(style, check))
    start(bolt)
    peer = AsgiPeer(bolt, "/p/1", headers=[(b"cookie", b"user=ann")])
    assert (await peer.connect())["headers"] == [(b"set-cookie", b"seen=1")]
    await journal.reaches(3)
    assert journal == [(True, "1"), ([], False, False), "ann"]
    await peer.leaves()


@pytest.mark.parametrize(
    ("ours", "offered", "agreed"),
    [
        ((), ["a"], None),
        (("a",), [], None),
        (("a", "b"), ["b", "a"], "a"),
        (("c", "b"), ["a", "b"], "b"),
        (("A",), ["a"], None),
        (("a",), None, None),
    ],
)
async def test_subprotocols(start: Start, ours: Any, offered: Any, agreed: str | None) -> None:
    """The first of ours that the peer offers; none is no error."""
    seen: list[Any] = []
    bolt = Bolt()
    bolt.ws("/p", lambda event: seen.append(event.request.subprotocol), subprotocols=ours)
    start(bolt)
    peer = AsgiPeer(bolt, subprotocols=offered)
    assert (await peer.connect())["subprotocol"] == agreed
    await turns()
    assert seen == [agreed]
    await peer.leaves()


async def test_the_address_behind_a_proxy(start: Start) -> None:
    """A trusted proxy's word is what `event.request.client` says."""
    seen: list[Any] = []
    bolt = Bolt(trusted_proxies=["203.0.113.0/24"])
    bolt.ws("/p", lambda event: seen.append(event.request.client))
    start(bolt)
    peer = AsgiPeer(bolt, headers=[(b"x-forwarded-for", b"198.51.100.4")])
    await peer.connect()
    await peer.leaves()
    assert seen == [("198.51.100.4", 0)]


# Refused by a before.


@styles
async def test_abort(start: Start, style: str) -> None:
    """403 if nothing else is said; what stands behind the before is skipped; there never was a
    client, so nothing of it ends."""
    journal = Journal()
    bolt = Bolt(blocking=style == "blocking")
    chat = bolt.ws("/p", journal.note, journal.note, journal.note)
    chat.before(styled(style, lambda event: bolt.ws_event_abort())).before(journal.note)
    chat.after(journal.note)
    start(bolt)
    status, headers, body = await AsgiPeer(bolt).refused()
    assert (status, body) == (403, b"")
    assert headers[b"content-length"] == b"0"
    await turns()
    assert journal == []
    assert bolt.stats().refused == {"abort": 1}
    assert bolt.stats().errors == bolt.stats().aborted == 0
    assert quiet(bolt)


async def test_an_aborts_own_answer(start: Start) -> None:
    """The status, text and headers that were given."""
    bolt = Bolt()
    header = {"WWW-Authenticate": "Basic"}
    bolt.ws("/p").before(lambda event: event.abort(HTTPStatus(401), "wer da? é", header))
    start(bolt)
    status, headers, body = await AsgiPeer(bolt).refused()
    assert (status, body.decode()) == (401, "wer da? é")
    assert headers[b"www-authenticate"] == b"Basic"
    assert headers[b"content-type"] == b"text/plain; charset=utf-8"
    assert headers[b"content-length"] == str(len(body)).encode()


async def test_an_aborts_headers_stand_once(start: Start) -> None:
    """Its own type of content is the one there is; the length is that of the text, whatever it
    says."""
    given = [("Content-Type", "application/json"), ("Content-Length", "99"), ("Vary", "a")]
    bolt = Bolt()
    bolt.ws("/p").before(lambda event: event.abort(401, "{}", given))
    start(bolt)
    peer = AsgiPeer(bolt)
    await peer.refused()
    headers = peer.sent[0]["headers"]
    assert sorted(headers) == [
        (b"content-length", b"2"),
        (b"content-type", b"application/json"),
        (b"vary", b"a"),
    ]


async def test_an_abort_sends_no_headers_of_a_101(start: Start) -> None:
    """Those that could not go out do not stand in its way: it is refused once, as it asked."""

    def check(event: Event) -> None:
        if event.type == "connect":
            event.response_headers.append(("x", "a\r\nb: c"))
            event.abort(401)

    bolt = Bolt()
    bolt.ws("/p").before(check)
    start(bolt)
    status, _, _ = await AsgiPeer(bolt).refused()
    assert status == 401
    assert bolt.stats().refused == {"abort": 1}


async def test_a_server_that_cannot_say_it(start: Start) -> None:
    """It answers 403, which is what a close before the accept means to it."""
    bolt = Bolt()
    bolt.ws("/p").before(lambda event: event.abort(401, "who?"))
    start(bolt)
    peer = AsgiPeer(bolt, extensions=())
    assert await peer.connect() == {"type": "websocket.close", "code": 1008, "reason": ""}
    await peer.call
    assert len(peer.sent) == 1
    assert bolt.stats().refused == {"abort": 1}


@styles
@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
)
async def test_a_before_that_raises(
    start: Start, logged: Errors, style: str, error: type[BaseException]
) -> None:
    """It fails closed, with 500 and no text of the exception; the log and on_error get it."""
    seen: list[Any] = []
    bolt = Bolt(blocking=style == "blocking")
    bolt.on_error(lambda event, caught: seen.append((event.type, type(caught))))

    def fail(event: Event) -> None:
        raise error("secret")

    bolt.ws("/p").before(styled(style, fail))
    start(bolt)
    status, headers, body = await AsgiPeer(bolt).refused()
    assert status == 500
    assert b"secret" not in body + b"".join(headers.values())
    assert seen == [("connect", error)]
    assert "secret" in logged.texts()[0]
    assert bolt.stats().refused == {"error": 1}
    assert bolt.stats().errors == 1
    assert quiet(bolt)


async def test_on_error_of_a_handshake(start: Start, logged: Errors) -> None:
    """The event is the ambient one in it, as it is when a message's callback has failed."""
    seen: list[str] = []
    bolt = Bolt()

    @bolt.on_error
    def report(event: Event, error: BaseException) -> None:
        seen.append(bolt.ws_event_type())

    bolt.ws("/p").before(lambda: 1 / 0)
    start(bolt)
    await AsgiPeer(bolt).refused()
    assert seen == ["connect"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda event: event.abort(200),
        lambda event: event.abort(403, b"bytes"),
        lambda event: event.abort(403, "", [("x", "a\r\nb: c")]),
        lambda event: event.response_headers.append(("x", "a\r\nb: c")),
        lambda event: event.response_headers.append("nonsense"),
    ],
)
async def test_an_answer_that_cannot_go_out(
    start: Start, logged: Errors, spoil: Callable[[Event], None]
) -> None:
    """It is an error of the before that made it: 500, and nothing of it on the wire."""
    bolt = Bolt()
    bolt.ws("/p").before(spoil)
    start(bolt)
    status, headers, _ = await AsgiPeer(bolt).refused()
    assert status == 500
    assert b"x" not in headers
    assert bolt.stats().refused == {"error": 1}


async def test_a_before_that_takes_too_long(start: Start, clock: Clock, logged: Errors) -> None:
    """handler_timeout holds for the handshake's befores: they are cancelled, and it is refused."""
    bolt = Bolt(handler_timeout=5)
    bolt.ws("/p").before(lambda: asyncio.sleep(1e9))
    start(bolt)
    status, _, _ = await AsgiPeer(bolt).refused()
    assert status == 500
    assert bolt.stats().refused == {"error": 1}
    assert "TimeoutError" in logged.texts()[0]


async def test_a_thread_that_takes_too_long(start: Start, logged: Errors) -> None:
    """The peer gets its answer in time, though the thread cannot be stopped; what it does then
    changes nothing."""
    gate, journal = Gate(), Journal()
    bolt = Bolt(blocking=True, handler_timeout=0.01)

    def check(event: Event) -> None:
        gate.wait()
        event.response_headers.append(("x", "late"))
        journal.note(event.reply("late"))

    bolt.ws("/p").before(check)
    start(bolt)
    status, _, _ = await AsgiPeer(bolt).refused()
    assert status == 500
    gate.open()
    await journal.reaches(1)
    assert journal == [False]
    assert quiet(bolt)


# Our own server's extension.


async def test_attach(start: Start) -> None:
    """Accepted through `send` first, so that what is around Bolt sees the answer; then the client
    goes to the wire and the call is over."""
    seen: list[str] = []
    bolt = Bolt()
    bolt.ws("/p", lambda: seen.append("joined"), lambda event: event.reply(event.message))
    flow = start(bolt)
    socket = FakeSocket()
    peer = AsgiPeer(bolt)
    peer.scope["extensions"] = socket.offer()
    assert (await peer.connect())["type"] == "websocket.accept"
    await peer.call
    (client,) = socket.attached
    assert socket.registered == flow.runtime.endpoints
    assert seen == ["joined"]
    client.says("hi")
    assert client.got == ["hi"]
    assert peer.asked == 1
    client.leaves()
    await client.over.wait()


async def test_attach_false(start: Start) -> None:
    """Plain ASGI on our own server too: middleware sees each message. The server still knows
    whom it serves."""
    bolt = Bolt(attach=False)
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    start(bolt)
    socket = FakeSocket()
    peer = AsgiPeer(bolt)
    peer.scope["extensions"] = socket.offer()
    await peer.connect()
    peer.says("hi")
    await peer.answers(2)
    assert peer.got == ["hi"]
    await peer.leaves()
    assert (socket.attached, len(socket.registered)) == ([], 1)


async def test_a_refused_one_is_not_attached(start: Start) -> None:
    """The wire stays the server's."""
    bolt = Bolt()
    bolt.ws("/p").before(lambda event: event.abort())
    start(bolt)
    socket = FakeSocket()
    peer = AsgiPeer(bolt)
    peer.scope["extensions"] = socket.offer()
    assert (await peer.refused())[0] == 403
    assert socket.attached == []
