"""`/healthz` and `/readyz`, over ASGI."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Bolt

from .asgi_peer import AsgiPeer
from .backplane.fleet import FakeLink, Nats
from .flow import Flow, Start, turns

OK = (200, b"ok\n")


async def asked(app: Any, path: str, **scope: Any) -> tuple[int, bytes]:
    """The status and body that a GET is answered with."""
    peer = AsgiPeer(app, path, "http", method="GET", **scope)
    await peer.call
    begin, *bodies = peer.sent
    headers = dict(begin["headers"])
    body: bytes = b"".join(message["body"] for message in bodies)
    if begin["status"] != 299:
        assert headers[b"content-length"] == str(len(body)).encode()
    return begin["status"], body


async def other(scope: Any, receive: Any, send: Any) -> None:
    """An app beside Bolt, which answers whatever it gets with the path."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def healthy(http: Any = None, **options: Any) -> Bolt:
    bolt = Bolt(http=http, health=True, **options)
    bolt.ws("/p")
    return bolt


@pytest.mark.parametrize("http", [None, other])
async def test_alive_and_ready(start: Start, http: Any) -> None:
    """Both are 200, also where another app has all the rest."""
    bolt = healthy(http)
    start(bolt)
    assert await asked(bolt, "/healthz") == OK
    assert await asked(bolt, "/readyz") == OK
    assert (await asked(bolt, "/other"))[0] == (404 if http is None else 299)


async def test_the_answer(start: Start) -> None:
    """Plain text, which no cache keeps."""
    bolt = healthy()
    start(bolt)
    peer = AsgiPeer(bolt, "/readyz", "http")
    await peer.call
    assert dict(peer.sent[0]["headers"]) == {
        b"content-type": b"text/plain; charset=utf-8",
        b"content-length": b"3",
        b"cache-control": b"no-store",
    }


async def test_off_by_default(start: Start) -> None:
    """404, or the other app's business."""
    bolt = Bolt()
    start(bolt)
    beside = Bolt(http=other)
    start(beside)
    for path in ("/healthz", "/readyz"):
        assert (await asked(bolt, path))[0] == 404
        assert await asked(beside, path) == (299, path.encode())


@pytest.mark.parametrize("path", ["/healthz/", "/healthz/x", "/x/healthz", "/Healthz", "/readyz2"])
async def test_other_paths(start: Start, path: str) -> None:
    """Only those two paths."""
    bolt = healthy(other)
    start(bolt)
    assert await asked(bolt, path) == (299, path.encode())


async def test_under_a_mount(start: Start) -> None:
    """The paths are below the mount, however the server writes it."""
    bolt = healthy()
    start(bolt)
    assert await asked(bolt, "/live/readyz", root_path="/live") == OK
    assert await asked(bolt, "/live/healthz", root_path="/live/") == OK
    assert (await asked(bolt, "/live/live/readyz", root_path="/live"))[0] == 404


async def test_an_endpoint_of_that_path(start: Start) -> None:
    """WebSockets of that path are the endpoint's, or none's; a GET is answered with the health."""
    bolt = healthy()
    bolt.ws("/healthz")
    flow = start(bolt)
    assert await asked(bolt, "/healthz") == OK
    peer = AsgiPeer(bolt, "/healthz")
    assert (await peer.connect())["type"] == "websocket.accept"
    await peer.leaves()
    assert flow.bolt.stats().connections_opened == 1
    status, *_ = await AsgiPeer(bolt, "/readyz").refused()
    assert status == 404


async def test_draining(start: Start) -> None:
    """From the moment that the shutdown begins it is alive and not ready; after it, too."""
    gate = asyncio.Event()
    bolt = Bolt(health=True)
    bolt.ws("/p", None, lambda: gate.wait())
    flow = start(bolt)
    client = flow.connect()
    client.says("x")
    drain = asyncio.ensure_future(flow.runtime.drain())
    await turns()
    assert await asked(bolt, "/readyz") == (503, b"draining\n")
    assert await asked(bolt, "/healthz") == OK
    gate.set()
    await drain
    assert await asked(bolt, "/readyz") == (503, b"not started\n")
    assert await asked(bolt, "/healthz") == OK


async def on_nats(start: Start, monkeypatch: pytest.MonkeyPatch) -> tuple[Nats, Flow]:
    """A Bolt on a server that is the test, about to connect."""
    nats = Nats()
    monkeypatch.setattr("boltws.backplane.link.Link", lambda: FakeLink(nats))
    return nats, start(healthy(backplane="nats://secret@nats.example"))


async def test_the_backplane_is_not_heard(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ready: before it is connected, while the server does not answer, while it is cut off.
    Alive all the time, and the answer tells nothing of the backplane's URL."""
    nats, flow = await on_nats(start, monkeypatch)
    bolt = flow.bolt
    unheard = (503, b"the backplane is not heard\n")
    assert await asked(bolt, "/readyz") == unheard
    assert await asked(bolt, "/healthz") == OK
    await flow.runtime.connected()
    assert await asked(bolt, "/readyz") == OK
    link = nats.links[0]
    link.deaf = True
    assert await asked(bolt, "/readyz") == unheard
    link.deaf = False
    assert await asked(bolt, "/readyz") == OK
    await link.cut()
    assert await asked(bolt, "/readyz") == unheard
    assert await asked(bolt, "/healthz") == OK
    await link.mend()
    assert await asked(bolt, "/readyz") == OK


async def test_draining_comes_first(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two reasons the one that stays is told."""
    nats, flow = await on_nats(start, monkeypatch)
    await flow.runtime.connected()
    await nats.links[0].cut()
    flow.runtime.accepting = False
    assert await asked(flow.bolt, "/readyz") == (503, b"draining\n")
    flow.runtime.accepting = True


async def test_a_bolt_that_cannot_start(logged: Any) -> None:
    """Both are 500: the process is of no use."""
    bolt = healthy()
    bolt.ws("/q", "no_such_module:callback")
    for path in ("/healthz", "/readyz"):
        assert (await asked(bolt, path))[0] == 500
    assert len(logged.records) == 2


async def test_the_first_request_starts_it(bolts: list[Bolt]) -> None:
    """In a mount there is no lifespan: a probe starts Bolt as a handshake does."""
    bolt = healthy()
    assert await asked(bolt, "/readyz") == OK
    assert bolt._runtime.started
    bolt._runtime.stop()
