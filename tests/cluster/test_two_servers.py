"""Two nats-servers in a cluster, and one of them dies."""

from __future__ import annotations

import asyncio

import pytest

from .conftest import Join, StartNodes
from .nats_server import NatsCluster, NatsServer
from .node import Node, acquainted, until
from .stream import Stream, heartbeats, node_id

pytestmark = pytest.mark.long


async def _place(servers: NatsCluster, node: Node) -> tuple[NatsServer, NatsServer]:
    """The server that a node is connected to, and the other one."""
    name = await node_id(node)
    one, two = servers.servers
    return (two, one) if await asyncio.to_thread(two.has_node, name) else (one, two)


async def test_nodes_move_to_the_server_that_lives(
    two_servers: NatsCluster, start_nodes: StartNodes, join: Join
) -> None:
    """Nodes that name both servers go to the other one; what is lost on the way is counted."""
    one, two, three = await start_nodes(two_servers.url, two_servers.url, two_servers.url)
    name = await node_id(one)
    dies, lives = await _place(two_servers, one)
    async with (
        Stream(await join(one, "there"), await join(two, "there")) as there,
        Stream(await join(two, "back"), await join(one, "back")) as back,
    ):
        await asyncio.gather(there.arrives(), back.arrives())
        await asyncio.to_thread(dies.kill)
        await until(lambda: lives.has_node(name), "a node that has moved")
        await asyncio.gather(there.arrives(), back.arrives())
        await asyncio.gather(there.balances(lives.url), back.balances(lives.url))
    await acquainted(one, two, three)
    assert await three.cluster("room_count", "there") == (2, True, [])
    assert await one.health() == 200


async def test_nodes_leave_a_server_that_hangs(
    two_servers: NatsCluster, start_nodes: StartNodes, join: Join
) -> None:
    """A node does not wait until a frozen server has taken the megabytes that it holds for it."""
    one, two = await start_nodes(two_servers.url, two_servers.url, send_buffer_limit=2**27)
    name = await node_id(one)
    listener = await join(two, "room")
    hangs, lives = await _place(two_servers, one)
    numbers = iter(range(400))

    async def say() -> bool:
        text = f"{next(numbers):06}" + "x" * 250_000
        await one.call("ws_room_broadcast", "room", text)
        return bool((await one.stats())["backplane_dropped"])

    assert await one.call("ws_room_broadcast", "room", "begin") == 0
    assert await listener.next() == "begin"
    hangs.freeze()
    await until(say, "a node that holds as much as it may")
    await until(lambda: lives.has_node(name), "a node that has moved")
    heard: list[int] = []

    async def listen() -> None:
        while True:
            heard.append(int((await listener.next())[:6]))

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen())

        async def arrives() -> bool:
            await say()
            return bool(heard) and heard[-1] >= len(heard)

        await until(arrives, "messages that arrive")
        await heartbeats(lives.url, name, 2)
        listening.cancel()
    sent = next(numbers)
    dropped = sum((await one.stats())["backplane_dropped"].values())
    lost = (await two.stats())["backplane_lost"]
    assert heard == sorted(set(heard))
    assert sent == len(heard) + dropped + lost, (sent, len(heard), dropped, lost)
