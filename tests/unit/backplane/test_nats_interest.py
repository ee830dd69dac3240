"""A node is subscribed to a room exactly while it has members there, and five seconds more."""

from __future__ import annotations

import asyncio

from boltws.backplane.interest import LINGER
from boltws.backplane.subjects import room_token

from ..flow import Clock
from .fleet import Fleet, Node

BLUE = f"boltws.*.{room_token('blue')}"


def commands(node: Node) -> list[tuple[str, str]]:
    """What was subscribed to and unsubscribed from, but for what every node is subscribed to."""
    return [command for command in node.link.commands if f".*.{room_token('')}" in command[1]]


async def test_what_every_node_is_subscribed_to(fleet: Fleet) -> None:
    """Five subjects, and no room."""
    node = await fleet.node()
    assert sorted(sub._subject for sub in node.link.interest.values()) == [
        "boltws.all",
        "boltws.hb",
        f"boltws.n.{node.id}",
        f"boltws.x.*.{node.id}.*",
        "boltws.x.all",
    ]


async def test_while_it_has_members(fleet: Fleet, clock: Clock) -> None:
    """From the first join until five seconds after the last leave, whoever comes and goes."""
    assert LINGER == 5.0
    node = await fleet.node()
    one, two = node.client("blue"), node.client()
    await fleet.quiet()
    assert node.subscribed("blue")
    node.bolt.ws_room_join("blue", two.id)
    node.bolt.ws_room_leave("blue", one.id)
    await asyncio.sleep(20)
    assert node.subscribed("blue")
    node.bolt.ws_room_leave("blue", two.id)
    await asyncio.sleep(4.9)
    assert node.subscribed("blue")
    await asyncio.sleep(0.2)
    assert not node.subscribed("blue")
    assert commands(node) == [("SUB", BLUE), ("UNSUB", BLUE)]


async def test_back_within_the_linger(fleet: Fleet, clock: Clock) -> None:
    """Nothing is sent to the server; the five seconds begin anew with the next leave."""
    node = await fleet.node()
    client = node.client("blue")
    for _ in range(5):
        node.bolt.ws_room_leave("blue", client.id)
        await asyncio.sleep(4)
        node.bolt.ws_room_join("blue", client.id)
        await asyncio.sleep(1)
    await asyncio.sleep(30)
    assert commands(node) == [("SUB", BLUE)]
    node.bolt.ws_room_leave("blue", client.id)
    await asyncio.sleep(3)
    node.bolt.ws_room_join("blue", client.id)
    node.bolt.ws_room_leave("blue", client.id)
    await asyncio.sleep(4)
    assert node.subscribed("blue")
    await asyncio.sleep(1.1)
    assert not node.subscribed("blue")


async def test_each_room_has_its_own_time(fleet: Fleet, clock: Clock) -> None:
    """Those left at different times are dropped at different times."""
    node = await fleet.node()
    client = node.client(*"abc")
    for room in "bca":
        node.bolt.ws_room_leave(room, client.id)
        await asyncio.sleep(1)
    for rooms in ("abc", "ac", "a", ""):  # 3, 5.5, 6.5 and 7.5 s since the first was left
        await fleet.quiet()
        assert [room for room in "abc" if node.subscribed(room)] == list(rooms)
        await asyncio.sleep(2.5 if rooms == "abc" else 1)


async def test_a_client_that_is_lost(fleet: Fleet, clock: Clock) -> None:
    """Its rooms are left with it."""
    node = await fleet.node()
    client = node.client("blue", "red")
    await fleet.quiet()
    client.vanish()
    await asyncio.sleep(5.1)
    assert not node.subscribed("blue") and not node.subscribed("red")


async def test_nothing_comes_to_a_node_without_members(fleet: Fleet, clock: Clock) -> None:
    """The server routes no message of the room to it."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("red", "x")
    await fleet.quiet()
    assert two.stats.backplane_received == 0
    two.bolt.ws_room_leave("blue", client.id)
    await asyncio.sleep(5.1)
    one.bolt.ws_room_broadcast("blue", "x")
    await fleet.quiet()
    assert two.stats.backplane_received == 0
    assert client.got == []


async def test_back_after_the_linger(fleet: Fleet, clock: Clock) -> None:
    """It is subscribed again, and what was published meanwhile is not missed."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    await fleet.quiet()
    two.bolt.ws_room_leave("blue", client.id)
    await asyncio.sleep(6.5)  # no heartbeat is under way
    one.bolt.ws_room_broadcast("blue", "to nobody")
    two.bolt.ws_room_join("blue", client.id)
    await fleet.a_heartbeat()
    one.bolt.ws_room_broadcast("blue", "b")
    await fleet.a_heartbeat()
    assert client.got == ["a", "b"]
    assert two.stats.backplane_lost == 0


async def test_rooms_before_the_connection(fleet: Fleet) -> None:
    """Those joined while it is still connecting are subscribed to when it has."""
    one = await fleet.node()
    two = fleet.begin()
    client = two.client("blue")
    await two.flow.runtime.connected()
    await fleet.quiet()
    assert two.subscribed("blue")
    one.bolt.ws_room_broadcast("blue", "x")
    await fleet.quiet()
    assert client.got == ["x"]


async def test_rooms_while_cut_off(fleet: Fleet, clock: Clock) -> None:
    """Joined and left meanwhile: when it is back it is subscribed to what has members."""
    one, two = await fleet.two()
    client = two.client("left", "kept")
    await fleet.quiet()
    await two.link.cut()
    two.bolt.ws_room_leave("left", client.id)
    two.bolt.ws_room_join("joined", client.id)
    await asyncio.sleep(6)
    await two.link.mend()
    await fleet.quiet()
    assert [room for room in ("left", "kept", "joined") if two.subscribed(room)] == [
        "kept",
        "joined",
    ]
    one.bolt.ws_room_broadcast("joined", "x")
    await fleet.quiet()
    assert client.got == ["x"]


async def test_a_link_that_is_given_up(fleet: Fleet, clock: Clock) -> None:
    """nats-py closes for good where the server lets it in no more: a new link takes its place,
    with all subscriptions."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    old = two.link
    await old.close()
    assert not two.backplane.hears
    client2 = two.client("red")
    await asyncio.sleep(3)
    assert two.link is not old
    assert two.subscribed("blue") and two.subscribed("red")
    one.bolt.ws_room_broadcast("blue", "x")
    one.bolt.ws_room_broadcast("red", "y")
    await fleet.quiet()
    assert (client.got, client2.got) == (["x"], ["y"])


async def test_rooms_while_cut_off_for_long(fleet: Fleet) -> None:
    """Nothing waits for each of them: they are settled when the link is back."""
    node = await fleet.node()
    client = node.client()
    await node.link.cut()
    tasks = len(node.backplane._tasks)
    for number in range(100):
        node.bolt.ws_room_join(str(number), client.id)
        await asyncio.sleep(0)
        assert len(node.backplane._tasks) == tasks
    await node.link.mend()
    await fleet.quiet()
    assert all(sub.stood for sub in node.receiver._by_key.values())


async def test_one_confirmation_at_a_time(fleet: Fleet) -> None:
    """What is subscribed to meanwhile waits for the next, which is for all of it."""
    node = await fleet.node()
    settled, asked = node.link.settled, 0

    async def count() -> None:
        nonlocal asked
        asked += 1
        await settled()

    node.link.settled = count  # type: ignore[method-assign]
    node.link.outbox.hold()
    client = node.client("first")
    joins = [asyncio.ensure_future(node.bolt.cluster.room_join("first", client.id))]
    for number in range(100):
        joins.append(
            asyncio.ensure_future(node.bolt.cluster.room_join(str(number), client.id, timeout=9))
        )
        await asyncio.sleep(0)
    assert asked == 1
    node.link.outbox.release()
    assert await asyncio.gather(*joins) == [True] * 101
    assert asked == 2


async def test_a_confirmation_that_fails(fleet: Fleet, clock: Clock) -> None:
    """It is asked for again, while the link lives."""
    node = await fleet.node()
    settled, results = node.link.settled, iter([TimeoutError(), OSError()])

    async def fail() -> None:
        for error in results:
            raise error
        await settled()

    node.link.settled = fail  # type: ignore[method-assign]
    client = node.client()
    assert await node.bolt.cluster.room_join("blue", client.id)
    assert next(results, None) is None


async def test_a_join_while_cut_off(fleet: Fleet) -> None:
    """A room that has stood stands no more: what is published there now does not come."""
    node = await fleet.node()
    client, other = node.client(), node.client()
    assert await node.bolt.cluster.room_join("blue", client.id)
    await node.link.cut()
    assert not await node.bolt.cluster.room_join("blue", other.id)
    await node.link.mend()
    assert await node.bolt.cluster.room_join("blue", other.id)


async def test_many_rooms(fleet: Fleet, clock: Clock) -> None:
    """One subscription for each, however many members, and one confirmation for all of a turn."""
    node = await fleet.node()
    rooms = [f"room {number}" for number in range(500)]
    clients = [node.client(*rooms) for _ in range(3)]
    await fleet.quiet()
    assert len(node.link.interest) == 505
    assert len(node.link.commands) == 505
    for client in clients:
        client.leaves()
    await asyncio.sleep(5.1)
    assert len(node.link.interest) == 5
    assert len(node.receiver._by_key) == 5
    assert node.backplane._interest._emptied == {}
