"""The nats-server fails under load: nobody here notices, and what others missed is counted."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from .conftest import Join, StartNodes
from .nats_server import NatsServer
from .node import Node, acquainted, until
from .stream import Stream

pytestmark = pytest.mark.long

logger = logging.getLogger(__name__)

LONG = 12.0
"""Seconds of an outage: longer than nodes are believed to live in silence."""


async def _comes_back(nats: NatsServer, stream: Stream) -> dict[str, int]:
    """The server is there again and messages arrive; the books, which balance."""
    await asyncio.to_thread(nats.restart)
    began = time.monotonic()
    await stream.arrives()
    logger.info("messages arrive after %.2f s", time.monotonic() - began)
    books = await stream.balances(nats.url)
    logger.info("books: %s", books)
    return books


async def test_a_killed_server_that_comes_back(
    nats: NatsServer,
    start_nodes: StartNodes,
    join: Join,
) -> None:
    """Killed with messages in its hands, and restarted: the speaker's own room goes on all the
    time, the books balance, membership is whole again."""
    one, two = await start_nodes(nats.url, nats.url)
    async with Stream(await join(one, "room"), await join(two, "room")) as stream:
        await stream.arrives()
        nats.freeze()  # what is published now, it takes to the grave
        await stream.goes_on()
        nats.kill()
        await stream.goes_on()
        books = await _comes_back(nats, stream)
    assert books["lost"] > 0 and books["dropped"] > 0
    await acquainted(one, two)
    for node in (one, two):
        assert await node.cluster("room_count", "room") == (2, True, [])
        assert await node.health() == 200
        node.served.assert_no_noise()


async def test_a_server_that_is_killed_again_and_again(
    nats: NatsServer, start_nodes: StartNodes, join: Join
) -> None:
    """Both directions, three deaths in a row, some of them while nodes reconnect."""
    one, two = await start_nodes(nats.url, nats.url)
    async with (
        Stream(await join(one, "there"), await join(two, "there")) as there,
        Stream(await join(two, "back"), await join(one, "back")) as back,
    ):
        for _ in range(3):
            await asyncio.gather(there.arrives(), back.arrives())
            nats.kill()
            await asyncio.gather(there.goes_on(), back.goes_on())
            await asyncio.to_thread(nats.restart)
            await there.goes_on(50)
            await asyncio.to_thread(nats.restart)
        await asyncio.gather(there.arrives(), back.arrives())
        await asyncio.gather(there.balances(nats.url), back.balances(nats.url))


async def test_a_server_that_stays_away_for_long(
    nats: NatsServer,
    start_nodes: StartNodes,
    join: Join,
) -> None:
    """Nodes try for ever; what was lost at the beginning of a long outage is counted at its
    end. Nobody calls an answer complete that it could not ask for."""
    one, two = await start_nodes(nats.url, nats.url)
    async with Stream(await join(one, "room"), await join(two, "room")) as stream:
        await stream.arrives()
        nats.freeze()
        await stream.goes_on()
        nats.kill()
        await asyncio.sleep(LONG)
        for node in (one, two):
            assert await node.health() == 503
            assert await node.health("/healthz") == 200
        told = await one.cluster("room_count", "room")
        assert (told.value, told.complete) == (1, False)
        books = await _comes_back(nats, stream)
    assert books["lost"] > 0 and books["dropped"] > 0
    await acquainted(one, two)
    assert await two.cluster("room_count", "room") == (2, True, [])


@pytest.mark.parametrize("long", [False, True], ids=["shortly", "for-long"])
async def test_a_frozen_server(
    nats: NatsServer,
    start_nodes: StartNodes,
    join: Join,
    long: bool,
) -> None:
    """A server that hangs is found out although its connections stay open; when it wakes up, what
    it still holds is delivered in its order or not at all."""
    one, two = await start_nodes(nats.url, nats.url)
    async with Stream(await join(one, "room"), await join(two, "room")) as stream:
        await stream.arrives()
        nats.freeze()
        if long:
            await until(lambda: _not_ready(one), "a node that is not ready")
            await until(lambda: _not_ready(two), "a node that is not ready")
            await asyncio.sleep(LONG - 5)
        await stream.goes_on()
        nats.thaw()
        began = time.monotonic()
        await stream.arrives()
        logger.info("messages arrive after %.2f s", time.monotonic() - began)
        books = await stream.balances(nats.url)
        logger.info("books: %s", books)
    assert long or books["heard"] == books["sent"]
    await acquainted(one, two)
    for node in (one, two):
        assert await node.cluster("room_count", "room") == (2, True, [])
        assert await node.health() == 200


async def _not_ready(node: Node) -> bool:
    return await node.health() == 503


async def test_what_waits_for_a_frozen_server_is_bounded(
    nats: NatsServer, start_nodes: StartNodes, join: Join
) -> None:
    """A publisher holds some megabytes for a server that takes nothing; more is dropped, and
    counted as such. What was held arrives."""
    one, two = await start_nodes(nats.url, nats.url, send_buffer_limit=2**27)
    listener = await join(two, "room")
    sent = 0
    nats.freeze()
    while not (await one.stats())["backplane_dropped"]:
        await one.call("ws_room_broadcast", "room", f"{sent:06}" + "x" * 250_000)
        sent += 1
        assert sent < 400, "100 MB are held"
    nats.thaw()
    dropped = (await one.stats())["backplane_dropped"]
    assert dropped == {"full": 1}
    heard = [int((await listener.next())[:6]) for _ in range(sent - 1)]
    assert heard == list(range(sent - 1))
    assert (await two.stats())["backplane_lost"] == 0


async def test_rooms_change_while_the_server_is_away(
    nats: NatsServer, start_nodes: StartNodes, join: Join
) -> None:
    """Who joins, leaves, comes and goes meanwhile is where it should be afterwards."""
    one, two = await start_nodes(nats.url, nats.url)
    stays, goes = await join(two, "stays"), await join(two, "goes")
    nats.kill()
    await until(lambda: _not_ready(two), "a node that has noticed")
    comes = await join(two, "comes")
    await goes.close()
    await asyncio.to_thread(nats.restart)
    await acquainted(one, two)
    for room, count in (("stays", 1), ("goes", 0), ("comes", 1)):
        assert await one.cluster("room_count", room) == (count, True, [])
        await one.call("ws_room_broadcast", room, "hello")
    assert [await client.next() for client in (stays, comes)] == ["hello", "hello"]
