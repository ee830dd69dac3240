"""A node that the network has cut off, and that nobody tells so."""

from __future__ import annotations

import asyncio

import pytest

from .conftest import Join, StartNodes
from .nats_server import NatsServer
from .node import Node, acquainted, until
from .proxy import Direction, Proxy
from .stream import Stream, heartbeats, node_id

pytestmark = pytest.mark.long


async def _answers(node: Node, status: int) -> bool:
    return await node.health() == status


async def _knows(node: Node, count: int) -> bool:
    told = await node.cluster("nodes")
    return len(told.value) == count and told.complete


@pytest.mark.parametrize("until_dead", [False, True], ids=["shortly", "given-up"])
@pytest.mark.parametrize("direction", ["down", "up"])
async def test_a_node_that_is_cut_off(
    nats: NatsServer,
    proxy: Proxy,
    start_nodes: StartNodes,
    join: Join,
    direction: Direction,
    until_dead: bool,
) -> None:
    """It finds out that it hears nothing, or is not heard, is not ready, and reconnects when
    the network is back. Others go on. What it missed, and what they missed of it, is counted."""
    one, two, cut = await start_nodes(nats.url, nats.url, nats.url_at(proxy.port))
    async with (
        Stream(await join(one, "others"), await join(two, "others")) as others,
        Stream(await join(one, "in"), await join(cut, "in")) as inward,
        Stream(await join(cut, "out"), await join(two, "out")) as outward,
    ):
        for stream in (others, inward, outward):
            await stream.arrives()
        proxy.swallow(direction)
        await until(lambda: _answers(cut, 503), "a node that finds out that it is cut off")
        assert await cut.health("/healthz") == 200
        await others.arrives()
        await outward.goes_on(50)
        if until_dead:
            await until(lambda: _knows(one, 2), "a node that is given up")
        proxy.pass_on()
        await until(lambda: _answers(cut, 200), "a node that has come back")
        for stream in (others, inward, outward):
            await stream.arrives()
            await stream.stop()
        await acquainted(one, two, cut)
        assert await one.cluster("room_count", "in") == (2, True, [])
        await asyncio.gather(inward.balances(nats.url), outward.balances(nats.url))
        assert len(others.heard) == others.sent


async def test_messages_that_come_too_late(
    nats: NatsServer, proxy: Proxy, start_nodes: StartNodes, join: Join
) -> None:
    """What was stuck on a connection that the node has given up comes after what it sent on the
    next: it was counted as lost, so nobody gets it, its own node's clients least of all."""
    one, two = await start_nodes(nats.url_at(proxy.port), nats.url)
    async with Stream(await join(one, "room"), await join(two, "room")) as stream:
        await stream.arrives()
        proxy.hold_up()
        await stream.goes_on()
        await until(lambda: _answers(one, 503), "a node that finds out that it is not heard")
        await stream.arrives()
        proxy.release()
        await stream.goes_on()
        await stream.arrives()
        books = await stream.balances(nats.url)
    assert books["lost"] > 0


async def test_the_first_messages_to_a_room_are_counted_too(
    nats: NatsServer, proxy: Proxy, start_nodes: StartNodes, join: Join
) -> None:
    """Members elsewhere have never heard of the speaker's room from it when its first messages
    are lost; they should have had them all the same."""
    speaking, listening = await start_nodes(nats.url_at(proxy.port), nats.url)
    stream = Stream(await join(speaking, "room"), await join(listening, "room"))
    await heartbeats(nats.url, await node_id(speaking), 2)
    proxy.swallow("up")
    async with stream:
        await stream.goes_on()
        proxy.pass_on()
        await stream.arrives()
        books = await stream.balances(nats.url)
    assert books["lost"] > 0


async def test_a_connection_that_breaks(
    nats: NatsServer, proxy: Proxy, start_nodes: StartNodes, join: Join
) -> None:
    """Connections are cut three times under load, both ways, and the books balance."""
    one, two = await start_nodes(nats.url_at(proxy.port), nats.url)
    async with (
        Stream(await join(one, "there"), await join(two, "there")) as there,
        Stream(await join(two, "back"), await join(one, "back")) as back,
    ):
        for _ in range(3):
            await there.arrives()
            await back.arrives()
            proxy.drop()
            await there.goes_on()
        await there.arrives()
        await back.arrives()
        await asyncio.gather(there.balances(nats.url), back.balances(nats.url))
