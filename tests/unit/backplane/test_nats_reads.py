"""Questions to all nodes."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from boltws import NotRunning
from boltws.backplane import envelope
from boltws.backplane.nats import LISTENED

from ..flow import Clock
from .fleet import Fleet, beat


async def test_rooms(fleet: Fleet) -> None:
    """Members are counted and listed wherever they are; the plain reads stay local."""
    one, two = await fleet.two()
    here, there = one.client("blue"), [two.client("blue"), two.client("blue")]
    cluster = one.bolt.cluster
    assert await cluster.room_count("blue") == (3, True, ())
    members = await cluster.room_members("blue")
    assert (sorted(members.value), members.complete) == (
        sorted([here.id, *(client.id for client in there)]),
        True,
    )
    assert await cluster.room_count("empty") == (0, True, ())
    assert await cluster.room_members("empty") == ([], True, ())
    assert (one.bolt.ws_room_count("blue"), one.bolt.ws_room_members("blue")) == (1, [here.id])


async def test_clients(fleet: Fleet) -> None:
    """Counted, and listed in pages that together are all of them, in order, once."""
    one, two = await fleet.two()
    three = await fleet.node()
    ids = sorted(node.client().id for node in (one, two, three, two, three) for _ in range(5))
    cluster = one.bolt.cluster
    assert await cluster.connection_count() == (25, True, ())
    assert await cluster.client_list() == (ids, True, ())
    for limit in (1, 4, 25, 26):
        found: list[str] = []
        while page := (await cluster.client_list(limit=limit, after=found[-1] if found else "")):
            if not page.value:
                break
            assert len(page.value) <= limit
            found += page.value
        assert found == ids


async def test_a_long_answer(fleet: Fleet) -> None:
    """It comes in parts that the server takes, and is whole."""
    one, two = await fleet.two()
    clients = [two.client("blue").id for _ in range(12_000)]
    await fleet.quiet()
    fleet.nats.posted.clear()
    members = await one.bolt.cluster.room_members("blue", timeout=30)
    assert members == (clients, True, ())
    answers = [message for message in fleet.nats.posted if message.operation == envelope.ANSWER]
    assert len(answers) > 1
    assert max(len(message.payload) for message in answers) < 2**18


async def test_nodes(fleet: Fleet) -> None:
    """Each says what it is."""
    one, two = await fleet.two()
    two.client("blue", "red")
    nodes = await one.bolt.cluster.nodes()
    assert nodes.complete
    common = {"host": socket.gethostname(), "pid": os.getpid()}
    assert nodes.value == sorted(
        [
            {"node": one.id, **common, "connections": 0, "rooms": 0},
            {"node": two.id, **common, "connections": 1, "rooms": 2},
        ],
        key=lambda node: str(node["node"]),
    )


async def test_a_node_that_does_not_answer(fleet: Fleet, clock: Clock) -> None:
    """At the deadline there is what the others say, and it is named."""
    one, two = await fleet.two()
    three = await fleet.node()
    one.client("blue")
    three.client("blue")
    two.link.inbox.hold()
    before = clock.now
    assert await one.bolt.cluster.room_count("blue", timeout=0.5) == (2, False, (two.id,))
    assert clock.now == before + 0.5
    two.link.inbox.release()
    assert await one.bolt.cluster.room_count("blue") == (2, True, ())


async def test_a_node_that_takes_its_leave_meanwhile(fleet: Fleet, clock: Clock) -> None:
    """Nobody waits for it, and it is not missing."""
    one, two = await fleet.two()
    two.client("blue")
    two.link.inbox.hold()
    before = clock.now
    asking = asyncio.ensure_future(one.bolt.cluster.room_count("blue", timeout=5))
    await fleet.quiet()
    await two.stop()
    assert await asking == (0, True, ())
    assert clock.now < before + 1


async def test_a_node_that_dies(fleet: Fleet, clock: Clock) -> None:
    """It is missing from answers for 7 s, and then it is gone from them."""
    one, two = await fleet.two()
    two.client("blue")
    two.link.outbox.hold()  # killed, or cut off: it says no more
    assert await one.bolt.cluster.room_count("blue", timeout=0.1) == (0, False, (two.id,))
    await asyncio.sleep(4.8)
    assert not (await one.bolt.cluster.room_count("blue", timeout=0.1)).complete
    await asyncio.sleep(2.1)  # 7 s since it was heard
    assert await one.bolt.cluster.room_count("blue", timeout=0.1) == (0, True, ())
    nodes = await one.bolt.cluster.nodes()
    assert [node["node"] for node in nodes.value] == [one.id]


async def test_a_node_that_was_only_slow(fleet: Fleet, clock: Clock) -> None:
    """It is back in the answers with its next heartbeat."""
    one, two = await fleet.two()
    two.client("blue")
    two.link.outbox.hold()
    await asyncio.sleep(9)
    assert await one.bolt.cluster.connection_count(timeout=0.1) == (0, True, ())
    two.link.outbox.release()
    await fleet.quiet()
    assert await one.bolt.cluster.connection_count() == (1, True, ())


@pytest.mark.parametrize("seconds", [1, 20])
async def test_a_node_that_is_cut_off(fleet: Fleet, clock: Clock, seconds: float) -> None:
    """What it says of itself is not all, and it knows: never "complete"."""
    one, two = await fleet.two()
    one.client("blue")
    two.client("blue")
    await one.link.cut()
    await asyncio.sleep(seconds)
    count = await one.bolt.cluster.room_count("blue", timeout=0.1)
    assert (count.value, count.complete) == (1, False)


async def test_a_stranger_that_beats_and_never_answers(fleet: Fleet, clock: Clock) -> None:
    """It counts as live, so it is missing; the answer comes at the deadline."""
    one, two = await fleet.two()
    two.client()
    fleet.nats.publish("boltws.hb", beat())
    await fleet.quiet()
    counted = await one.bolt.cluster.connection_count(timeout=0.1)
    assert counted == (1, False, ("ffffffffff",))


async def test_room_join_here(fleet: Fleet) -> None:
    """True when this node is subscribed: what others publish from now on comes."""
    one, two = await fleet.two()
    client = one.client()
    assert await one.bolt.cluster.room_join("blue", client.id) is True
    assert one.subscribed("blue")
    two.bolt.ws_room_broadcast("blue", "x")
    await fleet.quiet()
    assert client.got == ["x"]


async def test_room_join_elsewhere(fleet: Fleet) -> None:
    """True when the client's node is subscribed."""
    one, two = await fleet.two()
    client = two.client()
    assert await one.bolt.cluster.room_join("blue", client.id) is True
    assert two.subscribed("blue")
    assert not one.subscribed("blue")
    one.bolt.ws_room_broadcast("blue", "x")
    await fleet.quiet()
    assert client.got == ["x"]


async def test_room_join_of_nobody(fleet: Fleet, clock: Clock) -> None:
    """False: no such client anywhere, here, or on its node any more."""
    one, two = await fleet.two()
    gone_here, gone_there = one.client(), two.client()
    gone_here.leaves()
    gone_there.leaves()
    for name in ("nobody", gone_here.id, gone_there.id):
        assert await one.bolt.cluster.room_join("blue", name) is False
    assert one.stats.rooms == two.stats.rooms == 0


async def test_room_join_without_an_answer(fleet: Fleet, clock: Clock) -> None:
    """False at the deadline, here and elsewhere; nothing is raised."""
    one, two = await fleet.two()
    here, there = one.client(), two.client()
    one.link.outbox.hold()
    before = clock.now
    assert await one.bolt.cluster.room_join("blue", here.id, timeout=0.5) is False
    assert await one.bolt.cluster.room_join("blue", there.id, timeout=0.5) is False
    assert clock.now == before + 1
    one.link.outbox.release()


async def test_room_join_while_cut_off(fleet: Fleet, clock: Clock) -> None:
    """False at once: the subscription cannot stand."""
    one, _ = await fleet.two()
    client = one.client()
    await one.link.cut()
    before = clock.now
    assert await one.bolt.cluster.room_join("blue", client.id, timeout=5) is False
    assert clock.now == before
    assert one.bolt.ws_room_members("blue") == [client.id]  # which it is, here


async def test_room_join_that_is_left_meanwhile(fleet: Fleet, clock: Clock) -> None:
    """It ends when the room is dropped before the server has answered."""
    one, two = await fleet.two()
    client = two.client()
    two.link.outbox.hold()
    await one.bolt.cluster.room_join("blue", client.id, timeout=0.5)
    two.bolt.ws_room_leave("blue", client.id)
    await asyncio.sleep(12)  # the server is frozen for longer than the room is kept
    two.link.outbox.release()
    for _ in range(200):
        await asyncio.sleep(0)
    joins = [task for task in two.backplane._tasks if "_join" in repr(task)]
    for task in joins:
        task.cancel()  # or the test would wait for ever
    assert joins == []


async def test_not_before_the_start(fleet: Fleet) -> None:
    """There is nobody to ask yet."""
    bolt = fleet.bolt()
    with pytest.raises(NotRunning):
        await bolt.cluster.room_count("blue")
    with pytest.raises(NotRunning):
        await bolt.cluster.room_join("blue", "x")


async def test_not_all_have_been_heard_yet(
    fleet: Fleet, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the time of a heartbeat after it has connected, or connected again, a node may know some
    of the others alone."""
    monkeypatch.setattr("boltws.backplane.nats.LISTENED", LISTENED)
    one, _ = await fleet.two()
    assert not (await one.bolt.cluster.nodes()).complete
    await asyncio.sleep(2.1)
    assert (await one.bolt.cluster.nodes()).complete
    await one.link.cut()
    await one.link.mend()
    assert not (await one.bolt.cluster.nodes()).complete
    await asyncio.sleep(2.1)
    nodes = await one.bolt.cluster.nodes()
    assert (len(nodes.value), nodes.complete) == (2, True)


async def test_a_node_that_was_blocked(
    fleet: Fleet, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What others said meanwhile it has not read: it says so, and buries nobody for it."""
    monkeypatch.setattr("boltws.backplane.nats.LISTENED", LISTENED)
    one, _ = await fleet.two()
    await asyncio.sleep(2.1)
    clock.now += 8
    nodes = await one.bolt.cluster.nodes()
    assert (len(nodes.value), nodes.complete) == (1, False)
    await asyncio.sleep(4.1)
    nodes = await one.bolt.cluster.nodes()
    assert (len(nodes.value), nodes.complete) == (2, True)
    assert "it is gone" not in caplog.text
