"""A node dies, hangs or leaves: the others know it, and are not held up."""

from __future__ import annotations

import asyncio
import logging
import signal
import time

import pytest

from .conftest import Join, StartNodes
from .nats_server import NatsServer
from .node import Node, until
from .stream import Stream, node_id

pytestmark = pytest.mark.long

logger = logging.getLogger(__name__)

GIVEN_UP = 15.0
"""Seconds until a dead node must be gone from every answer; it is dead after seven."""


async def test_a_killed_node_is_gone_from_every_answer(
    nats: NatsServer,
    start_nodes: StartNodes,
    join: Join,
) -> None:
    """Until it is known to be dead, answers say that it is missing; then they are whole again
    without it, and so are its clients' rooms. Others talk on all the time."""
    one, two, three = await start_nodes(nats.url, nats.url, nats.url)
    stays, goes = await join(two, "room"), await join(three, "room")
    dead = await node_id(three)
    async with Stream(await join(one, "talk"), await join(two, "talk")) as stream:
        await stream.arrives()
        three.kill()
        began = time.monotonic()
        assert await one.cluster("room_count", "room") == (1, False, [dead])
        assert await one.call("ws_send_to", goes.id, "published") is True
        for node in (one, two):
            await until(lambda node=node: _is_whole(node), "a dead node given up", GIVEN_UP)
        logger.info("given up after %.2f s", time.monotonic() - began)
        for node in (one, two):
            assert dead not in await node.nodes()
            assert await node.cluster("room_members", "room") == ([stays.id], True, [])
            assert goes.id not in (await node.cluster("client_list")).value
            assert await node.call("ws_send_to", goes.id, "nobody") is False
        await stream.arrives()
        await stream.stop()
        assert (await two.stats())["backplane_lost"] == 0


async def _is_whole(node: Node) -> bool:
    return (await node.cluster("nodes")).complete


async def test_a_node_that_hangs_is_named(
    nats: NatsServer, start_nodes: StartNodes, join: Join
) -> None:
    """An answer comes without the node that does not answer, and says so; other nodes' clients
    are served meanwhile. When it goes on, nothing was lost."""
    one, two, slow = await start_nodes(nats.url, nats.url, nats.url)
    members = [await join(node, "room") for node in (one, two, slow)]
    name = await node_id(slow)
    slow.send(signal.SIGSTOP)
    try:
        for about in (("room_count", "room"), ("room_members", "room"), ("nodes",)):
            async with asyncio.timeout(10):
                told = await one.cluster(*about)
            assert (told.complete, told.missing) == (False, [name])
        await members[0].send("hello")
        assert [await member.next() for member in members[:2]] == ["hello", "hello"]
        assert (await two.cluster("room_count", "room", timeout=0.2)).value == 2
    finally:
        slow.send(signal.SIGCONT)
    assert await members[2].next() == "hello"
    assert await one.cluster("room_count", "room") == (3, True, [])
    assert (await slow.stats())["backplane_lost"] == 0


async def test_a_node_that_stops_is_gone_at_once(
    nats: NatsServer, start_nodes: StartNodes, join: Join
) -> None:
    """It takes its leave: nobody waits for it, and nobody has to find out that it is dead."""
    one, two = await start_nodes(nats.url, nats.url)
    stays, goes = await join(one, "room"), await join(two, "room")
    gone = await node_id(two)
    leaving = asyncio.create_task(goes.closed())
    assert await asyncio.to_thread(two.served.stop, signal.SIGTERM) == 0
    assert (await leaving)[0] == 1012
    two.served.assert_no_noise()

    async def without() -> bool:
        told = await one.cluster("nodes")
        return told.complete and gone not in [node["node"] for node in told.value]

    # Without a word it would be believed to live for five seconds more at least.
    await until(without, "a node that took its leave", patience=4)
    assert await one.cluster("room_members", "room") == ([stays.id], True, [])
