"""Handshakes that take their time, or more room than they are given."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from boltws import Bolt

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import ask, eventually
from ..e2e.servers import Served
from ..e2e.wire import Wire, handshake
from .helpers import bystander, echoing, last_words, no_descriptor_left


async def ended_without_a_word(wire: Wire) -> None:
    """The server ends the connection, with or without a reset, and has said nothing."""
    try:
        assert await wire.end() == b""
    except ConnectionError:
        pass


async def test_bytes_that_trickle(new_bolt: NewBolt, serve: Serve, leaving: list[Served]) -> None:
    """A handshake that comes byte by byte has handshake_timeout as a whole, not for each byte."""
    bolt = new_bolt(handshake_timeout=0.2)
    echoing(bolt)
    served = serve(bolt)

    async def trickle() -> None:
        async with Wire(served) as wire:
            ended = asyncio.create_task(ended_without_a_word(wire))
            wire.send(handshake(served, "/p")[:-2], b"x: ")
            while not ended.done():
                wire.send(b"a")
                await asyncio.sleep(0.02)  # the pace of the attack
            await ended

    async with bystander(served), no_descriptor_left(leaving):
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(trickle())
        assert bolt.stats().refused == {"timeout": 20}


async def test_500_that_are_never_finished(
    new_bolt: NewBolt, serve: Serve, leaving: list[Served]
) -> None:
    """Five hundred connections that say nothing, or half of a request: meanwhile others shake
    hands, and when their time is up they are gone with all they held."""
    bolt = new_bolt(handshake_timeout=1.5)  # who behaves has no more, on a machine that is busy
    echoing(bolt)
    served = serve(bolt)
    request = handshake(served, "/p")
    beginnings = [b"", b"G", request[:40], request[:-2]]

    async def begin(n: int) -> None:
        async with Wire(served) as wire:
            wire.send(beginnings[n % len(beginnings)])
            await ended_without_a_word(wire)

    async with bystander(served), no_descriptor_left(leaving):
        async with asyncio.TaskGroup() as group:
            for n in range(500):
                group.create_task(begin(n))
            async with served.connect("/p") as client:
                assert await ask(client, "x") == "x"
        assert bolt.stats().refused == {"timeout": 500}
        assert bolt.stats().connections_opened == 2


def too_large(served: Served, what: str) -> bytes:
    """A handshake whose head is above 16 KiB."""
    request = handshake(served, "/p")[:-2]
    if what == "one header":
        return request + b"x: " + b"a" * 17_000 + b"\r\n\r\n"
    if what == "many headers":
        return request + b"a: b\r\n" * 4_000 + b"\r\n"
    if what == "cookies":
        return request + b"cookie: a=%s\r\n" % (b"c" * 4_000) * 5 + b"\r\n"
    if what == "path":
        return handshake(served, "/p" + "x" * 17_000)
    if what == "query":
        return handshake(served, "/p?" + "x" * 17_000)
    raise AssertionError(what)


@pytest.mark.parametrize("what", ["one header", "many headers", "cookies", "path", "query"])
@pytest.mark.parametrize("piece", [1 << 20, 1000], ids=["at once", "in pieces"])
async def test_heads_that_are_too_large(
    new_bolt: NewBolt, serve: Serve, what: str, piece: int
) -> None:
    """431, the end of the connection, and no client; whatever it is that is large."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        data = too_large(served, what)
        pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
        said = await last_words(served, pieces, len(pieces))
        assert said.startswith(b"HTTP/1.1 431 ") and b"connection: close\r\n" in said
        await eventually(lambda: bolt.stats().refused == {"head_too_large": 1})
        assert bolt.stats().connections_opened == 1


@pytest.mark.parametrize("start", [b"x: a", b"a", b"a: b\r\n"], ids=["line", "name", "lines"])
async def test_heads_without_an_end(new_bolt: NewBolt, serve: Serve, start: bytes) -> None:
    """A head that goes on and on is not kept until its end: 431 while it is still coming."""
    bolt = new_bolt(handshake_timeout=60)
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        more = start if start.endswith(b"\n") else b"a"
        begin = handshake(served, "/p")[:-2] + start
        pieces = itertools.chain([begin], itertools.repeat(more * (1200 // len(more))))
        said = await last_words(served, pieces, 1000)
        assert said.startswith(b"HTTP/1.1 431 ")
    assert bolt.stats().refused == {"head_too_large": 1}


async def test_a_head_may_be_as_large_as_the_limit(new_bolt: NewBolt, serve: Serve) -> None:
    """What stays below the limit is served: the refusals above are about size."""
    bolt = new_bolt()
    echoing(bolt)
    served = serve(bolt)
    async with Wire(served) as wire:
        await wire.upgrade("/p", cookie="a" * 15_000)
    await opened(bolt, 1)


async def opened(bolt: Bolt, count: int) -> None:
    await eventually(lambda: bolt.stats().connections_opened == count)
