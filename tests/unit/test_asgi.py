"""Bolt as an ASGI app: what goes where, mounts, and starting by itself."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest

from boltws import Bolt
from boltws.errors import BoltError

from .asgi_peer import AsgiPeer
from .conftest import Errors
from .flow import Start


class Inner:
    """An app beside Bolt: notes its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls.append((scope, receive, send))


def where(**options: Any) -> Bolt:
    """A Bolt that tells where a connection came out: the endpoint and its parameters."""
    bolt = Bolt(**options)
    for path in ("/", "/p", "/chat/:room", "/files/{rest:path}"):
        bolt.ws(path, lambda event: event.reply(f"{event.path} {dict(event.params)}"))
    return bolt


async def http(app: Any, path: str, **scope: Any) -> tuple[int, dict[bytes, bytes], bytes]:
    """The answer to a plain request."""
    peer = AsgiPeer(app, path, "http", scheme="http", **scope)
    await peer.call
    start, body = peer.sent
    assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
    return start["status"], dict(start["headers"]), body["body"]


async def comes_out(bolt: Bolt, path: str, **scope: Any) -> str | int:
    """Where a WebSocket's path leads: the endpoint and parameters, or the status it is refused
    with."""
    peer = AsgiPeer(bolt, path, **scope)
    if (await peer.connect())["type"] != "websocket.accept":
        return int(peer.sent[0]["status"])
    await peer.answers(2)
    await peer.leaves()
    return str(peer.got[0])


# HTTP beside it.


async def test_http_where_there_is_none(start: Start) -> None:
    """404, in plain text."""
    bolt = where()
    start(bolt)
    status, headers, body = await http(bolt, "/other")
    assert (status, body) == (404, b"Not Found")
    assert headers == {
        b"content-type": b"text/plain; charset=utf-8",
        b"content-length": b"9",
    }


async def test_an_http_app_that_mounts_the_bolt(start: Start) -> None:
    """What neither has an answer for is a 404, and goes round once; the mount's endpoints and the
    lifespan work."""
    calls: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(scope["type"])
        await bolt({**scope, "root_path": "/live"}, receive, send)

    bolt = where(http=app)
    start(bolt)
    assert (await http(bolt, "/other"))[0] == 404
    assert await comes_out(bolt, "/other/one") == 404
    assert await comes_out(bolt, "/live/p") == "/p {}"
    assert calls == ["http", "websocket", "websocket"]

    peer = AsgiPeer(bolt, kind="lifespan")
    peer.give("lifespan.startup")
    await peer.answers()
    peer.give("lifespan.shutdown")
    await peer.call
    assert [message["type"] for message in peer.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert calls[3:] == ["lifespan"]


@pytest.mark.parametrize("inner", [None, Inner()])
async def test_http_at_an_endpoint(start: Start, inner: Any) -> None:
    """426, which says what is spoken here, whether or not there is an app for HTTP."""
    bolt = where(http=inner)
    start(bolt)
    status, headers, body = await http(bolt, "/chat/blue")
    assert (status, headers[b"upgrade"]) == (426, b"websocket")
    assert b"WebSocket" in body
    assert inner is None or inner.calls == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_all_else_is_the_http_apps(start: Start, kind: str) -> None:
    """Requests and WebSockets, handed on as they came."""
    inner = Inner()
    bolt = where(http=inner)
    start(bolt)
    peer = AsgiPeer(bolt, "/other", kind)
    await peer.call
    assert inner.calls == [(peer.scope, peer.receive, peer.send)]
    assert (peer.sent, peer.asked) == ([], 0)


@pytest.mark.parametrize(("kind", "scheme"), [("http", "https"), ("websocket", "wss")])
@pytest.mark.parametrize("proxy", ["10.0.0.1", "203.0.113.7"])
async def test_a_trusted_proxy_is_believed_beside_us_too(
    start: Start, kind: str, scheme: str, proxy: str
) -> None:
    """The http app sees whom the proxy speaks for, and can make links that lead back; from
    elsewhere the headers say nothing."""
    inner = Inner()
    bolt = where(http=inner, trusted_proxies=["10.0.0.0/8"])
    start(bolt)
    plain = {"http": "http", "websocket": "ws"}[kind]
    headers = [(b"x-forwarded-for", b"198.51.100.9"), (b"x-forwarded-proto", b"https")]
    await AsgiPeer(bolt, "/other", kind, scheme=plain, client=(proxy, 4711), headers=headers).call
    ((scope, _, _),) = inner.calls
    seen = (scope["client"], scope["scheme"])
    assert seen == (
        (("198.51.100.9", 0), scheme) if proxy == "10.0.0.1" else ((proxy, 4711), plain)
    )


async def test_endpoints_come_first(start: Start) -> None:
    """The http app never sees a WebSocket of ours."""
    inner = Inner()
    bolt = where(http=inner)
    start(bolt)
    assert await comes_out(bolt, "/p") == "/p {}"
    assert inner.calls == []


async def test_a_websocket_elsewhere(start: Start) -> None:
    """404 where the server can say so, else a close before the accept, which is a 403."""
    bolt = where()
    start(bolt)
    status, _, body = await AsgiPeer(bolt, "/other").refused()
    assert (status, body) == (404, b"no such endpoint")
    assert bolt.stats().refused == {"no_endpoint": 1}
    peer = AsgiPeer(bolt, "/other", extensions=())
    assert (await peer.connect())["type"] == "websocket.close"
    await peer.call
    assert len(peer.sent) == 1
    peer = AsgiPeer(bolt, "/other")
    peer.scope["extensions"] = None  # as some servers give it
    assert (await peer.connect())["type"] == "websocket.close"
    await peer.call


async def test_another_kind_of_scope(start: Start) -> None:
    """It raises, as the specification asks."""
    bolt = where()
    start(bolt)
    with pytest.raises(BoltError, match="unknown type 'webtransport'"):
        await AsgiPeer(bolt, "/p", "webtransport").call


# Mounts.


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        # No mount; with a raw path, and without.
        ({"path": "/chat/a b", "raw_path": b"/chat/a%20b"}, "/chat/:room {'room': 'a b'}"),
        ({"path": "/chat/a b"}, "/chat/:room {'room': 'a b'}"),
        ({"path": "/chat/a/b", "raw_path": b"/chat/a%2Fb"}, "/chat/:room {'room': 'a/b'}"),
        ({"path": "/chat/a/b"}, 404),
        # Mounted at /live.
        ({"path": "/live/p", "root_path": "/live", "raw_path": b"/live/p"}, "/p {}"),
        ({"path": "/live/p", "root_path": "/live"}, "/p {}"),
        ({"path": "/live/p", "root_path": "/live/"}, "/p {}"),
        ({"path": "/live/", "root_path": "/live", "raw_path": b"/live/"}, "/ {}"),
        ({"path": "/live", "root_path": "/live", "raw_path": b"/live"}, "/ {}"),
        ({"path": "/live", "root_path": "/live"}, "/ {}"),
        (
            {"path": "/live/chat/a/b", "root_path": "/live", "raw_path": b"/live/chat/a%2Fb"},
            "/chat/:room {'room': 'a/b'}",
        ),
        (
            {"path": "/live/files/a/b", "root_path": "/live", "raw_path": b"/live/files/a%2Fb"},
            "/files/{rest:path} {'rest': 'a/b'}",
        ),
        # Deeper, and with escapes in the mount's own part.
        ({"path": "/a/b/p", "root_path": "/a/b", "raw_path": b"/a/b/p"}, "/p {}"),
        ({"path": "/a b/p", "root_path": "/a b", "raw_path": b"/a%20b/p"}, "/p {}"),
        ({"path": "/grüß/p", "root_path": "/grüß", "raw_path": b"/gr%C3%BC%C3%9F/p"}, "/p {}"),
        ({"path": "/x/y/p", "root_path": "/x/y", "raw_path": b"/x%2Fy/p"}, "/p {}"),
        # The mount's name again, below it, and at the beginning of another name.
        ({"path": "/p/p", "root_path": "/p", "raw_path": b"/p/p"}, "/p {}"),
        ({"path": "/lively/p", "root_path": "/live", "raw_path": b"/lively/p"}, 404),
        # A server that leaves the root out of the path, as older ones did.
        ({"path": "/p", "root_path": "/live", "raw_path": b"/p"}, "/p {}"),
        ({"path": "/chat/live", "root_path": "/live"}, "/chat/:room {'room': 'live'}"),
        # A raw path with its query, as some servers give it.
        ({"path": "/p", "raw_path": b"/p?x=/chat/y"}, "/p {}"),
    ],
)
async def test_mounts(start: Start, scope: dict[str, Any], found: str | int) -> None:
    """An endpoint's path is what stands below the mount, matched before it is decoded."""
    bolt = where()
    start(bolt)
    assert await comes_out(bolt, **scope) == found


async def test_a_long_path_is_not_decoded_over_and_over(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below a mount whose end is no slash, 16 KB took a second and a half."""
    bolt = where()
    start(bolt)
    decoded: list[str] = []

    def noted(text: str) -> str:
        decoded.append(text)
        return unquote(text)

    monkeypatch.setattr("boltws.asgi.unquote", noted)
    raw = "/live%2F" + "/%41" * 100
    path = unquote(raw)
    assert await comes_out(bolt, path, root_path="/live", raw_path=raw.encode()) == 404
    assert len(decoded) == 1


async def test_the_requests_own_path(start: Start) -> None:
    """The mount belongs to it: `event.request` tells what the peer asked for."""
    bolt = Bolt()
    bolt.ws("/p", lambda event: event.reply(f"{event.request.path} {event.request.raw_path}"))
    start(bolt)
    found = await comes_out(bolt, "/a b/p", root_path="/a b", raw_path=b"/a%20b/p")
    assert found == "/a b/p /a%20b/p"


# Starting by itself, where no lifespan reaches.


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_it_starts_at_the_first_call(kind: str) -> None:
    """Under a mount there is no other word of the start."""
    bolt = where()
    assert not bolt._runtime.started
    if kind == "http":
        assert (await http(bolt, "/p"))[0] == 426
    else:
        assert await comes_out(bolt, "/p") == "/p {}"
    assert bolt.ws_client_list() == []
    bolt._runtime.stop()


async def test_it_cannot_start(logged: Errors) -> None:
    """Each call answers 500 and the log says why: the peer is not told."""
    bolt = Bolt()
    bolt.ws("/p", "nowhere")
    status, _, body = await http(bolt, "/p")
    assert status == 500
    assert b"nowhere" not in body
    status, _, body = await AsgiPeer(bolt, "/p").refused()
    assert status == 500
    assert b"nowhere" not in body
    assert all("'nowhere' is not defined" in text for text in logged.texts())
    assert len(logged.records) == 2


async def test_what_a_mount_does_not_enforce(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """On another server, the first handshake warns of options that are that server's business."""
    bolt = Bolt(ping_interval=5)
    bolt.ws("/p", lambda event: event.reply("hi"))
    start(bolt).runtime.own_server = False
    for _ in range(2):
        assert await comes_out(bolt, "/p") == "hi"
    warnings = [text for text in caplog.messages if "not enforced" in text]
    assert len(warnings) == 1
    assert "ping_interval" in warnings[0]


async def test_two_bolts_share_nothing(start: Start) -> None:
    """Each has its clients; one may be the other's http app."""
    inner = Bolt()
    inner.ws("/inner", lambda event: event.reply("inner"))
    outer = Bolt(http=inner)
    outer.ws("/outer", lambda event: event.reply("outer"))
    start(inner)
    start(outer)
    assert await comes_out(outer, "/inner") == "inner"
    assert await comes_out(outer, "/outer") == "outer"
    assert inner.stats().connections_opened == outer.stats().connections_opened == 1
