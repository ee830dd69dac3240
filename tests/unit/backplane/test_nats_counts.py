"""Nothing is lost between nodes that no counter tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from boltws.backplane import envelope
from boltws.backplane.subjects import room_token

from ..flow import Clock
from .fleet import Fleet, Posted, beat, head


def losing(*texts: str) -> Callable[[Posted], bool]:
    """For `Nats.loses`: messages that end so."""
    return lambda message: message.payload.endswith(tuple(text.encode() for text in texts))


async def test_published_and_received(fleet: Fleet) -> None:
    """Every operation counts once where it is published and once where it arrives; heartbeats,
    questions and answers are no messages."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "x")
    one.bolt.ws_broadcast("x")
    one.bolt.ws_send_to(client.id, "x")
    one.bolt.ws_room_join("red", client.id)
    one.bolt.ws_room_leave("red", client.id)
    await one.bolt.cluster.room_count("blue")
    one.bolt.ws_close_client(client.id)
    await fleet.quiet()
    assert (one.stats.backplane_published, one.stats.backplane_received) == (6, 0)
    assert (two.stats.backplane_published, two.stats.backplane_received) == (0, 6)
    assert one.stats.backplane_dropped == two.stats.backplane_dropped == {}
    assert one.stats.backplane_lost == two.stats.backplane_lost == 0


async def test_a_gap(fleet: Fleet) -> None:
    """The next message of the room says what is missing before it."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    fleet.nats.loses = losing("2", "3", "5")
    for number in range(7):
        one.bolt.ws_room_broadcast("blue", str(number))
    await fleet.quiet()
    assert client.got == ["0", "1", "4", "6"]
    assert (two.stats.backplane_received, two.stats.backplane_lost) == (4, 3)


@pytest.mark.parametrize("what", ["room", "all", "client"])
async def test_the_end_is_lost(fleet: Fleet, clock: Clock, what: str) -> None:
    """Within a heartbeat it is known, on each subject, though nothing comes after it."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    bolt = one.bolt
    send = {
        "room": lambda text: bolt.ws_room_broadcast("blue", text),
        "all": bolt.ws_broadcast,
        "client": lambda text: bolt.ws_send_to(client.id, text),
    }[what]
    fleet.nats.loses = losing("lost")
    send("first")
    send("lost")
    send("also lost")
    await fleet.quiet()
    assert two.stats.backplane_lost == 0
    await fleet.a_heartbeat()
    assert two.stats.backplane_lost == 2
    await fleet.a_heartbeat()
    send("last")
    await fleet.a_heartbeat()
    assert client.got == ["first", "last"]
    assert (two.stats.backplane_received, two.stats.backplane_lost) == (2, 2)


async def test_lost_for_one_is_not_lost_for_another(fleet: Fleet, clock: Clock) -> None:
    """Each node counts what it has missed itself, of what it is subscribed to."""
    one, two = await fleet.two()
    three = await fleet.node()
    clients = two.client("blue"), three.client("blue"), three.client("red")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    one.bolt.ws_room_broadcast("red", "a")
    await fleet.quiet()
    await three.link.cut()
    one.bolt.ws_room_broadcast("blue", "b")
    one.bolt.ws_room_broadcast("red", "b")
    await fleet.quiet()
    await three.link.mend()
    await fleet.quiet()
    assert [client.got for client in clients] == [["a", "b"], ["a"], ["a"]]
    assert (two.stats.backplane_lost, three.stats.backplane_lost) == (0, 2)


@pytest.mark.parametrize("seconds", [1, 6, 20])
async def test_a_node_that_was_cut_off(fleet: Fleet, clock: Clock, seconds: float) -> None:
    """When it is back it knows how much it has missed, at once, however long it was away."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "before")
    one.bolt.ws_send_to(client.id, "before")
    await fleet.quiet()
    await two.link.cut()
    for _ in range(10):
        one.bolt.ws_room_broadcast("blue", "meanwhile")
        one.bolt.ws_send_to(client.id, "meanwhile")
    await asyncio.sleep(seconds)
    await two.link.mend()
    await fleet.quiet()
    assert client.got == ["before", "before"]
    assert two.stats.backplane_lost == 20


async def test_disconnected(fleet: Fleet) -> None:
    """What cannot go out is dropped and counted, and is no gap later; clients here are served."""
    one, two = await fleet.two()
    here, there = one.client("blue"), two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    await fleet.quiet()
    await one.link.cut()
    assert one.bolt.ws_room_broadcast("blue", "b") == 1
    assert one.bolt.ws_broadcast("c") == 1
    assert not one.bolt.ws_send_to(there.id, "d")
    assert not one.bolt.ws_close_client(there.id)
    assert not one.bolt.ws_room_join("red", there.id)
    assert not one.bolt.ws_room_leave("blue", there.id)
    await one.link.mend()
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "e")
    await fleet.quiet()
    assert here.got == ["a", "b", "c", "e"]
    assert there.got == ["a", "e"]
    assert one.stats.backplane_dropped == {"disconnected": 6}
    assert (one.stats.backplane_published, two.stats.backplane_lost) == (2, 0)


async def test_before_the_connection(fleet: Fleet) -> None:
    """It is the same before there is one."""
    one = fleet.begin()
    client = one.client("blue")
    assert one.bolt.ws_room_broadcast("blue", "x") == 1
    assert client.got == ["x"]
    assert one.stats.backplane_dropped == {"disconnected": 1}
    await one.flow.runtime.connected()


async def test_full(fleet: Fleet, clock: Clock) -> None:
    """So is what comes when too much waits for the network; heartbeats wait for better times."""
    one, two = await fleet.two()
    here, there = one.client("blue"), two.client("blue")
    await fleet.quiet()
    one.link.is_full = True
    posted = len(fleet.nats.posted)
    assert one.bolt.ws_room_broadcast("blue", "a") == 1
    assert not one.bolt.ws_send_to(there.id, "b")
    await fleet.a_heartbeat()
    assert [m for m in fleet.nats.posted[posted:] if one.id in m.payload[3:8].hex()] == []
    one.link.is_full = False
    one.bolt.ws_room_broadcast("blue", "c")
    await fleet.a_heartbeat()
    assert (here.got, there.got) == (["a", "c"], ["c"])
    assert one.stats.backplane_dropped == {"full": 2}
    assert two.stats.backplane_lost == 0


async def test_a_late_message(fleet: Fleet) -> None:
    """One that was counted as lost and comes after all is dropped: order, and the count, stand."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    kept: list[Posted] = []
    fleet.nats.loses = lambda message: message.payload.endswith(b"b") and not kept.append(message)
    for text in "abc":
        one.bolt.ws_room_broadcast("blue", text)
    await fleet.quiet()
    fleet.nats.loses = lambda message: False
    fleet.nats.publish(*kept[0])
    await fleet.quiet()
    assert client.got == ["a", "c"]
    assert (two.stats.backplane_received, two.stats.backplane_lost) == (2, 1)


@pytest.mark.parametrize("missed", [1, 2, 3])
async def test_heartbeats_are_lost(fleet: Fleet, clock: Clock, missed: int) -> None:
    """Up to three in a row: the fourth still tells."""
    one, two = await fleet.two()
    two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    await fleet.quiet()
    fleet.nats.loses = lambda message: True
    one.bolt.ws_room_broadcast("blue", "b")
    for _ in range(missed):
        await fleet.a_heartbeat()
    fleet.nats.loses = lambda message: False
    assert two.stats.backplane_lost == 0
    await fleet.a_heartbeat()
    assert two.stats.backplane_lost == 1


async def test_a_room_that_was_quiet(fleet: Fleet, clock: Clock) -> None:
    """After a minute its numbers begin anew, and nothing is taken for lost."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    for text in ("a", "b", "c"):
        one.bolt.ws_room_broadcast("blue", text)
        for _ in range(40):
            await fleet.a_heartbeat()
        assert one.backplane._outgoing._last == {}
    assert client.got == ["a", "b", "c"]
    assert two.stats.backplane_lost == 0
    fleet.nats.loses = losing("d")
    one.bolt.ws_room_broadcast("blue", "d")
    await fleet.a_heartbeat()
    assert two.stats.backplane_lost == 1


@pytest.mark.parametrize("seconds", [30, 120, 590])
async def test_a_node_that_is_cut_off(fleet: Fleet, clock: Clock, seconds: int) -> None:
    """For minutes: what it has missed is counted when it is back, though nothing more is said."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    await fleet.quiet()
    await two.link.cut()
    for text in "bcd":
        one.bolt.ws_room_broadcast("blue", text)
    await asyncio.sleep(seconds)
    await two.link.mend()
    await fleet.a_heartbeat()
    assert client.got == ["a"]
    assert two.stats.backplane_lost == 3


async def test_a_subscription_that_is_new(fleet: Fleet, clock: Clock) -> None:
    """What was published before it stood is not due."""
    one, two = await fleet.two()
    one.bolt.ws_room_broadcast("blue", "before")
    client = two.client("blue")
    one.bolt.ws_room_broadcast("blue", "perhaps")
    await fleet.a_heartbeat()
    one.bolt.ws_room_broadcast("blue", "after")
    await fleet.a_heartbeat()
    assert client.got[-1] == "after"
    assert two.stats.backplane_lost == 0


async def test_the_first_message_is_lost(fleet: Fleet, clock: Clock) -> None:
    """When the subscription has stood for long, a publisher's first message is due like another."""
    one, two = await fleet.two()
    two.client("blue")
    for _ in range(3):
        await fleet.a_heartbeat()
    fleet.nats.loses = losing("x")
    one.bolt.ws_room_broadcast("blue", "x")
    await fleet.a_heartbeat()
    await fleet.a_heartbeat()
    assert two.stats.backplane_lost == 1


@pytest.mark.parametrize("quiet", [6, 20, 40])
async def test_the_first_message_after_a_quiet_time_is_lost(
    fleet: Fleet, clock: Clock, quiet: int
) -> None:
    """So it is when the publisher had used the room before the subscription stood."""
    one, two = await fleet.two()
    one.bolt.ws_room_broadcast("blue", "before")
    for _ in range(quiet):
        await fleet.a_heartbeat()
    two.client("blue")
    for _ in range(3):
        await fleet.a_heartbeat()
    fleet.nats.loses = losing("x")
    one.bolt.ws_room_broadcast("blue", "x")
    await fleet.a_heartbeat()
    await fleet.a_heartbeat()
    assert two.stats.backplane_lost == 1


async def test_an_old_heartbeat(fleet: Fleet) -> None:
    """One that was stuck on a connection that its node has given up says nothing of what was
    published since: what was before the subscription stood is not due."""
    two = await fleet.node()
    fleet.nats.publish("boltws.hb", beat(series=5))
    two.client("blue")
    await fleet.quiet()
    fleet.nats.publish("boltws.hb", beat(series=3))
    two.client("red")
    await fleet.quiet()
    room = two.backplane.subjects.room(room_token("blue"))
    fleet.nats.publish(room, head(envelope.ROOM, series=4, sequence=3) + b"x")
    await fleet.quiet()
    assert (two.stats.backplane_received, two.stats.backplane_lost) == (1, 0)


async def test_the_last_message_of_a_node_is_lost(fleet: Fleet, clock: Clock) -> None:
    """A node that stops tells its numbers once more: what was lost of the end is known."""
    one, two = await fleet.two()
    two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    await fleet.quiet()
    fleet.nats.loses = losing("b")
    one.bolt.ws_room_broadcast("blue", "b")
    await one.stop()
    await fleet.quiet()
    assert two.stats.backplane_lost == 1


async def test_heartbeats_of_many_rooms(fleet: Fleet, clock: Clock) -> None:
    """All are told, in as many messages as it takes, and none is lost of any."""
    one, two = await fleet.two()
    rooms = ["x" * 90 + str(number) for number in range(4500)]
    two.client(*rooms)
    await fleet.a_heartbeat()
    fleet.nats.loses = losing("lost")
    for text in ("lost", "a", "lost"):
        for room in rooms:
            one.bolt.ws_room_broadcast(room, text)
        await fleet.a_heartbeat()
    assert (two.stats.backplane_received, two.stats.backplane_lost) == (4500, 9000)
    assert max(len(message.payload) for message in fleet.nats.posted) <= 2**20


@pytest.mark.parametrize("limit", [2**16, 2**18])
async def test_a_server_with_a_low_limit(fleet: Fleet, clock: Clock, limit: int) -> None:
    """Heartbeats and answers keep to the server's limit, as messages do."""
    fleet.nats.max_payload = limit
    one, two = await fleet.two()
    rooms = ["x" * 90 + str(number) for number in range(3000)]
    two.client(*rooms)
    for _ in range(3000):
        two.client("blue")
    await fleet.quiet()
    for room in rooms:
        one.bolt.ws_room_broadcast(room, "a")
    await fleet.a_heartbeat()
    members = await one.bolt.cluster.room_members("blue", timeout=30)
    assert (len(members.value), members.complete) == (3000, True)
    assert max(len(message.payload) for message in fleet.nats.posted) <= limit


async def test_a_foreign_node(fleet: Fleet) -> None:
    """One that nobody has heard of is served all the same: its messages are the app's."""
    two = await fleet.node()
    client = two.client("blue")
    await fleet.quiet()
    subject = "boltws.all"
    fleet.nats.publish(subject, head(envelope.EVERYONE, series=1, sequence=7) + b"x")
    fleet.nats.publish(subject, head(envelope.EVERYONE, series=1, sequence=9) + b"y")
    fleet.nats.publish("boltws.hb", beat(all=[1, 12], other=[3, 4]))
    await fleet.quiet()
    assert client.got == ["x", "y"]
    assert (two.stats.backplane_received, two.stats.backplane_lost) == (2, 4)
