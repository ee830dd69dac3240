"""Connections that would be kept too long, answers out of order, what a proxy says or takes off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import PATIENCE, Journal, eventually
from ..e2e.wire import Wire, handshake, request, text
from .helpers import bystander, echoing, reset
from .test_people import Lines, all_logged, lines

__all__ = ["lines"]


async def test_the_query_of_a_request_is_not_logged(
    new_bolt: NewBolt, serve: Serve, lines: Lines
) -> None:
    """A handshake whose Upgrade a proxy took off is a plain request: its tokens stay out of the
    access log like any handshake's."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt, tune=all_logged(lines))
    async with bystander(served), Wire(served) as wire:
        wire.send(request(served, "/p?token=secret"))
        assert (await wire.answer())[0] == 426
    await eventually(lambda: any("426" in line for line in lines.lines), "an access line")
    assert not any("secret" in line for line in lines.lines), lines.lines


def soon_idle(server: Any) -> None:
    server.config.timeout_keep_alive = 1


async def held(wire: Wire, drip: bytes) -> bool:
    """Whether the connection is kept as long as something drips in; ten times longer than any
    limit of the server is."""
    ended = asyncio.create_task(wire.end())
    for _ in range(40):
        wire.send(drip)
        await asyncio.wait([ended], timeout=0.1)
        if ended.done():
            return False
    ended.cancel()
    return True


async def test_line_breaks_between_requests(new_bolt: NewBolt, serve: Serve) -> None:
    """A connection that has had its answer and then sends an empty line now and then is not kept
    for ever: it is neither idle nor a request, and no limit counts it."""
    bolt = new_bolt(handshake_timeout=0.3)
    echoing(bolt)
    served = serve(bolt, tune=soon_idle)
    async with bystander(served), Wire(served) as wire:
        wire.send(request(served, "/nowhere"))
        assert (await wire.answer())[0] == 404
        assert not await held(wire, b"\r\n")


async def test_a_body_that_trickles(new_bolt: NewBolt, serve: Serve) -> None:
    """A request that has had its answer is not kept while its body drips in byte by byte."""
    bolt = new_bolt(handshake_timeout=0.3)
    echoing(bolt)
    served = serve(bolt, tune=soon_idle)
    async with bystander(served), Wire(served) as wire:
        head = request(served, "/nowhere").replace(b"GET", b"POST")
        wire.send(head[:-2] + b"Content-Length: 1000000\r\n\r\n")
        assert (await wire.answer())[0] == 404
        assert not await held(wire, b"x")


async def test_a_refusal_behind_a_request_that_is_being_answered(
    new_bolt: NewBolt, serve: Serve
) -> None:
    """A head that is too large is not answered ahead of the request before it: whoever reads the
    answers in order (a proxy) would take the 431 for that request's."""
    gate = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("none here")
        await asyncio.wait_for(gate.wait(), PATIENCE)
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"slow"})

    bolt = new_bolt(http=app)
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served), Wire(served) as wire:
        wire.send(request(served, "/slow"))
        wire.send(request(served, "/" + "x" * 17_000))
        await eventually(lambda: bolt.stats().refused == {"head_too_large": 1})
        served.loop.call_soon_threadsafe(gate.set)
        assert (await wire.head())[0] == 200


async def test_the_scheme_behind_a_proxy(new_bolt: NewBolt, serve: Serve) -> None:
    """A trusted proxy's X-Forwarded-Proto counts for what the app is told, as its
    X-Forwarded-For does; anybody else's does not."""
    for proxies, scheme in (["127.0.0.1"], "wss"), (["10.0.0.0/8"], "ws"):
        bolt = new_bolt(trusted_proxies=proxies)
        seen = Journal()
        bolt.ws("/p", lambda event, seen=seen: seen.note(event.request.scheme))
        async with Wire(serve(bolt)) as wire:
            await wire.upgrade("/p", x_forwarded_proto="https", x_forwarded_for="198.51.100.7")
            assert await seen.next() == scheme


async def test_a_peer_that_is_gone_while_its_reading_is_on_hold(
    new_bolt: NewBolt, serve: Serve
) -> None:
    """A peer that spends its rate and resets its connection costs it nothing; the server keeps
    its descriptor, and its place among max_connections, until the hold ends. A ping meanwhile
    would show that it is gone."""
    bolt = new_bolt(ping_interval=0.2, ping_timeout=0.2)
    echoing(bolt)
    ends = Journal()
    bolt.ws("/held", None, None, lambda e: ends.note(e.close_code), rate_limit=(1, 60))
    served = serve(bolt)
    async with bystander(served):
        async with Wire(served) as wire:
            await wire.upgrade("/held", text("one"), text("two"))
            await eventually(lambda: bolt.stats().received > 1)
            reset(wire)
        assert await ends.next() == 1006


@pytest.mark.parametrize("values", [["Upgrade", "keep-alive"], ["keep-alive", "Upgrade"]])
async def test_connection_on_two_lines(new_bolt: NewBolt, serve: Serve, values: list[str]) -> None:
    """A list may stand on several lines, which mean what one with commas means (RFC 9110,
    section 5.3): in either order it asks for an upgrade."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served), Wire(served) as wire:
        head = handshake(served, "/p", connection=None)[:-2]
        wire.send(head + "".join(f"Connection: {x}\r\n" for x in values).encode() + b"\r\n")
        assert (await wire.head())[0] == 101
