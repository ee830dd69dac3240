"""Handshakes around a shutdown."""

from __future__ import annotations

import asyncio
import logging

import pytest

from boltws import Bolt

from .asgi_peer import AsgiPeer, FakeSocket
from .flow import Clock, Start, turns


async def test_a_handshake_after_the_shutdown_began(start: Start, clock: Clock) -> None:
    """503: come back. It reaches no before."""
    seen: list[str] = []
    gate = asyncio.Event()
    bolt = Bolt()
    bolt.ws("/p", None, lambda: gate.wait()).before(lambda event: seen.append(event.type))
    flow = start(bolt)
    client = flow.connect()
    client.says("x")
    drain = asyncio.ensure_future(flow.runtime.drain())
    await turns()
    seen.clear()
    status, headers, _ = await AsgiPeer(bolt).refused()
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert (seen, bolt.stats().refused) == ([], {"shutdown": 1})
    gate.set()
    await drain
    status, *_ = await AsgiPeer(bolt).refused()  # after it, too
    assert status == 503


async def test_a_handshake_in_progress_at_the_shutdown(start: Start, clock: Clock) -> None:
    """It is waited for, and refused with 503 when its befores are done."""
    gate = asyncio.Event()
    bolt = Bolt()
    bolt.ws("/p").before(lambda: gate.wait())
    flow = start(bolt)
    peer = AsgiPeer(bolt)
    peer.give("websocket.connect")
    await turns()
    drain = asyncio.ensure_future(flow.runtime.drain())
    await asyncio.sleep(1)
    assert not drain.done()
    gate.set()
    await drain
    await peer.call
    assert peer.sent[0]["status"] == 503
    assert bolt.stats().refused == {"shutdown": 1}
    assert bolt.stats().connections_opened == 0


async def test_a_handshake_that_hangs_at_the_shutdown(
    start: Start, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is cancelled at the deadline, and counted."""
    bolt = Bolt()
    bolt.ws("/p").before(lambda: asyncio.sleep(1e9))
    flow = start(bolt)
    peer = AsgiPeer(bolt)
    peer.give("websocket.connect")
    await turns()
    with caplog.at_level(logging.WARNING, "boltws"):
        await flow.runtime.drain()
    assert "0 pipelines and 1 handshakes" in caplog.text
    assert peer.call.cancelled()
    assert bolt.stats().refused == {"shutdown": 1}


@pytest.mark.parametrize("attach", [True, False])
async def test_an_answer_under_way_at_the_shutdown(
    start: Start, clock: Clock, attach: bool
) -> None:
    """The 101 is being sent, through whatever is around Bolt, when the shutdown begins: the client
    that comes of it is parted with like all others, with 1012 and its `disconnect`."""
    seen: list[str] = []
    bolt = Bolt()
    bolt.ws("/p", lambda: seen.append("joined"), None, lambda: seen.append("left"))
    flow = start(bolt)
    socket = FakeSocket()
    peer = AsgiPeer(bolt)
    if attach:
        peer.scope["extensions"] = socket.offer()
    peer.flows.clear()
    peer.give("websocket.connect")
    await turns()
    drain = asyncio.ensure_future(flow.runtime.drain())
    await asyncio.sleep(1)
    peer.flows.set()
    await peer.answers()
    await turns()
    if not attach:
        await asyncio.sleep(1)
        peer.give("websocket.disconnect", code=1012)
    await drain
    await turns()
    assert seen == ["joined", "left"]
    assert bolt.stats().connections_now == 0
    closes = socket.attached[0].closes if attach else peer.closes
    assert closes == [(1012, "service restart")]
