"""Handshakes that Bolt refuses: origin, host, limits, peers that are gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Bolt

from .asgi_peer import AsgiPeer, FakeSocket
from .flow import Start, turns


def quiet(bolt: Bolt) -> bool:
    """Whether no client ever was."""
    return not (bolt.stats().connections_opened or bolt.stats().closed)


@pytest.mark.parametrize(
    ("header", "options", "cause"),
    [
        ((b"origin", b"https://evil.example"), {}, "origin"),
        ((b"origin", b"http://example.com"), {}, None),
        ((b"origin", b"https://a.example"), {"origins": ["https://a.example"]}, None),
        ((b"origin", b"https://evil.example"), {"origins": ["https://a.example"]}, "origin"),
    ],
)
async def test_origin(
    start: Start, caplog: pytest.LogCaptureFixture, header: Any, options: Any, cause: str | None
) -> None:
    """Checked before any before runs; the log has the line that would allow it."""
    seen: list[str] = []
    bolt = Bolt()
    bolt.ws("/p", **options).before(lambda event: seen.append(event.type))
    start(bolt)
    peer = AsgiPeer(bolt, headers=[header])
    if cause is None:
        assert (await peer.connect())["type"] == "websocket.accept"
        await peer.leaves()
        assert seen == ["connect", "disconnect"]
        return
    status, _, body = await peer.refused()
    assert (status, body) == (403, b"origin not allowed")
    assert seen == []
    assert bolt.stats().refused == {cause: 1}
    assert "/p: Origin 'https://evil.example' is not 'example.com'" in caplog.text
    assert "To allow it" in caplog.text


@pytest.mark.parametrize("socket", [None, FakeSocket(loopback=True)])
async def test_host(start: Start, socket: FakeSocket | None) -> None:
    """On loopback, as our own server says it is bound, or another one's address shows."""
    bolt = Bolt()
    bolt.ws("/p")
    start(bolt)
    peer = AsgiPeer(bolt, server=("127.0.0.1", 80), client=("127.0.0.1", 4711))
    if socket is not None:
        peer.scope.update(extensions=socket.offer(), server=("10.0.0.1", 80))
    status, _, body = await peer.refused()
    assert (status, body) == (403, b"host not allowed")
    assert bolt.stats().refused == {"host": 1}


async def test_an_endpoints_own_origins(start: Start) -> None:
    """They stand over its Bolt's."""
    bolt = Bolt(origins="*")
    bolt.ws("/open")
    bolt.ws("/closed", origins=["https://a.example"])
    start(bolt)
    origin = (b"origin", b"https://b.example")
    peer = AsgiPeer(bolt, "/open", headers=[origin])
    assert (await peer.connect())["type"] == "websocket.accept"
    await peer.leaves()
    assert (await AsgiPeer(bolt, "/closed", headers=[origin]).refused())[0] == 403


@pytest.mark.parametrize("path", ["/live/chat/tea", "/live/nowhere"])
async def test_an_endpoint_with_the_mounts_path(
    start: Start, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Registered with the whole path it is below the mount, where nobody looks: the log says so,
    and nothing of a path that is nobody's."""
    bolt = Bolt()
    bolt.ws("/live/chat/{room}")
    start(bolt)
    status, _, body = await AsgiPeer(bolt, path, root_path="/live").refused()
    assert (status, body) == (404, b"no such endpoint")
    said = (
        "refused a handshake for /live/chat/tea: under the mount /live the endpoint "
        "/live/chat/{room} is at /live/live/chat/{room}; register it without the mount's path"
    )
    assert caplog.messages == ([said] if path == "/live/chat/tea" else [])


async def test_max_connections(start: Start) -> None:
    """Clients and handshakes in progress; above it 503, with when to come back."""
    gate = asyncio.Event()
    bolt = Bolt(max_connections=2)
    bolt.ws("/p")
    bolt.ws("/slow").before(lambda event: gate.wait() if event.type == "connect" else None)
    start(bolt)
    one = AsgiPeer(bolt)
    await one.connect()
    slow = AsgiPeer(bolt, "/slow")
    slow.give("websocket.connect")
    await turns()
    status, headers, _ = await AsgiPeer(bolt).refused()
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert bolt.stats().refused == {"limit": 1}
    await one.leaves()
    again = AsgiPeer(bolt)
    assert (await again.connect())["type"] == "websocket.accept"
    gate.set()
    await slow.answers()
    for peer in (again, slow):
        await peer.leaves()


@pytest.mark.parametrize("first", ["a client", "a handshake in progress"])
async def test_max_connections_per_address(start: Start, first: str) -> None:
    """Each address has its own count, of clients and handshakes in progress."""
    gate = asyncio.Event()
    bolt = Bolt(max_connections_per_address=1)
    bolt.ws("/p").before(lambda event: gate.wait() if event.type == "connect" else None)
    start(bolt)
    one, other = AsgiPeer(bolt), AsgiPeer(bolt, client=("198.51.100.4", 1))
    if first == "a client":
        gate.set()
        await one.connect()
    else:
        one.give("websocket.connect")
    await turns()
    again = AsgiPeer(bolt, client=("203.0.113.7", 9999))
    again.give("websocket.connect")
    await turns()
    gate.set()
    assert (await other.connect())["type"] == "websocket.accept"
    await again.answers()
    assert again.sent[0].get("status") == 503
    await one.leaves()
    await other.leaves()
    assert bolt.stats().refused == {"limit": 1}
    last = AsgiPeer(bolt)
    assert (await last.connect())["type"] == "websocket.accept"
    await last.leaves()


# Gone meanwhile.


async def test_a_peer_that_is_gone_at_once(start: Start) -> None:
    """Before it was asked for anything: counted, and nothing is sent to it."""
    bolt = Bolt()
    bolt.ws("/p")
    start(bolt)
    peer = AsgiPeer(bolt)
    peer.give("websocket.disconnect", code=1006)
    await peer.call
    assert peer.sent == []
    assert bolt.stats().refused == {"gone": 1}
    assert quiet(bolt)


async def test_a_peer_that_is_gone_when_it_is_answered(start: Start) -> None:
    """The server says so with an OSError: there never was a client."""
    seen: list[str] = []
    bolt = Bolt()
    bolt.ws("/p", lambda: seen.append("joined"), None, lambda: seen.append("left"))
    start(bolt)
    peer = AsgiPeer(bolt)
    peer.failure = OSError("gone")
    peer.give("websocket.connect")
    await peer.call
    assert (seen, bolt.stats().refused) == ([], {"gone": 1})
    assert quiet(bolt)


async def test_an_answer_that_the_server_refuses(start: Start) -> None:
    """Its error is the server's to see; the handshake counts as refused."""
    bolt = Bolt()
    bolt.ws("/p")
    start(bolt)
    peer = AsgiPeer(bolt)
    peer.failure = RuntimeError("the server's own")
    peer.give("websocket.connect")
    with pytest.raises(RuntimeError, match="the server's own"):
        await peer.call
    assert bolt.stats().refused == {"error": 1}


async def test_a_call_that_is_cancelled(start: Start) -> None:
    """As servers do when a peer is gone: the cancellation is theirs, and no error of a before."""
    bolt = Bolt()
    bolt.ws("/p").before(lambda: asyncio.sleep(1e9))
    flow = start(bolt)
    peer = AsgiPeer(bolt)
    peer.give("websocket.connect")
    await turns()
    assert len(flow.runtime.handshakes) == 1
    peer.call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await peer.call
    assert bolt.stats().refused == {"gone": 1}
    assert bolt.stats().errors == 0
    assert flow.runtime.handshakes == set()
