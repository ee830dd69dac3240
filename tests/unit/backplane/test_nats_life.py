"""A node comes, is cut off, comes back, takes its leave."""

from __future__ import annotations

import asyncio
import json
import sys

import nats.errors
import pytest

from boltws import BackplaneError, Bolt, StartError
from boltws.backplane import envelope
from boltws.backplane.nats import NatsBackplane
from boltws.backplane.subjects import room_token

from ..conftest import Errors
from ..flow import Clock, Start
from .fleet import Fleet, Posted, beat


def beats(fleet: Fleet, node: str) -> list[Posted]:
    """A node's heartbeats and leaves."""
    hb = [message for message in fleet.nats.posted if message.subject == "boltws.hb"]
    return [message for message in hb if message.payload[3:8].hex() == node]


def told(hello: bool) -> dict[str, object]:
    """What a heartbeat says when there is nothing to tell."""
    return {"hello": hello, "series": 0, "sequences": {}, "more": False, "new": []}


async def test_they_find_each_other(fleet: Fleet) -> None:
    """A node says hello when it is connected; all that live answer, and know it from then on."""
    one, two = await fleet.two()
    three = await fleet.node()
    now = asyncio.get_running_loop().time()
    for node in (one, two, three):
        others = {other.id for other in (one, two, three)} - {node.id}
        assert set(node.backplane.peers.live(now)) == others
    assert json.loads(beats(fleet, three.id)[0].body) == told(hello=True)


@pytest.mark.parametrize("parts", [1, 5])
async def test_many_hellos(
    fleet: Fleet, clock: Clock, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the server comes back all nodes say hello, in many parts each: one answer is for all
    who do so within a moment."""
    one = await fleet.node()
    monkeypatch.setattr("boltws.backplane.nats.MOMENT", 0.1)
    for answers in (1, 2):
        for other in range(20):
            for part in range(parts):
                more = part < parts - 1
                message = beat(node=f"ffffffff{other:02x}", hello=True, more=more)
                fleet.nats.publish("boltws.hb", message)
            await asyncio.sleep(0.004)
        fleet.nats.publish("boltws.hb", beat(node="ffffffff00", hello=True, more=True))
        await asyncio.sleep(0.2)
        assert len(beats(fleet, one.id)) == 1 + answers  # its own hello


async def test_a_stop_with_hellos_to_answer(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its leave is the last that it says."""
    one = await fleet.node()
    monkeypatch.setattr("boltws.backplane.nats.MOMENT", 0.1)
    fleet.nats.publish("boltws.hb", beat(hello=True))
    await fleet.quiet()
    timer = one.backplane._telling
    await one.stop()
    assert timer is not None and timer.cancelled()
    assert beats(fleet, one.id)[-1].operation == envelope.BYE


async def test_heartbeats(fleet: Fleet, clock: Clock) -> None:
    """One every two seconds, nothing else, and no hello."""
    one, _ = await fleet.two()
    fleet.nats.posted.clear()
    await asyncio.sleep(20.5)
    assert [json.loads(message.body) for message in beats(fleet, one.id)] == [
        told(hello=False)
    ] * 10
    assert fleet.nats.on("") == []


async def test_it_takes_its_leave(fleet: Fleet, clock: Clock) -> None:
    """The last it posts is BYE; others forget it at once, and it is disconnected."""
    one, two = await fleet.two()
    link = two.link
    client = two.client()
    await two.stop()
    await fleet.quiet()
    assert beats(fleet, two.id)[-1].operation == envelope.BYE
    assert fleet.nats.posted[-1].operation == envelope.BYE
    assert link.is_closed
    assert two.backplane.link is None
    assert one.backplane.peers.live(clock.now) == []
    assert not one.bolt.ws_send_to(client.id, "x")
    posted = len(beats(fleet, two.id))
    await asyncio.sleep(10)
    assert len(beats(fleet, two.id)) == posted


async def test_a_leave_while_cut_off(fleet: Fleet, clock: Clock) -> None:
    """It cannot be said, and the stop does not wait for it."""
    _, two = await fleet.two()
    await two.link.cut()
    before = clock.now
    await two.stop()
    assert clock.now <= before + 3
    assert not two.backplane.hears


async def test_a_leave_on_a_frozen_server(fleet: Fleet, clock: Clock) -> None:
    """The stop gives up after a heartbeat's time."""
    _, two = await fleet.two()
    two.link.close = asyncio.Event().wait  # type: ignore[assignment]
    before = clock.now
    await two.stop()
    assert clock.now <= before + 3


async def test_a_leave_that_was_never_heard_of(fleet: Fleet) -> None:
    """BYE of an unknown node means nothing."""
    one = await fleet.node()
    unknown = bytes.fromhex("ffffffffff")
    fleet.nats.publish("boltws.hb", envelope.pack_head(1, envelope.BYE, 0, unknown, 0, 0))
    await fleet.quiet()
    assert (await one.bolt.cluster.connection_count()) == (0, True, ())


async def test_a_restart(fleet: Fleet) -> None:
    """The Bolt's next life is another node, which knows nothing of the last one."""
    one, two = await fleet.two()
    first = two.id
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    await fleet.quiet()
    await two.stop()
    two.flow.runtime._parted = None  # as if on a loop of its own
    again = await fleet.node(two.bolt)
    assert again.id != first
    assert not again.subscribed("blue")
    assert not one.bolt.ws_send_to(client.id, "x")
    second = again.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "b")
    assert one.bolt.ws_send_to(second.id, "c")
    await fleet.quiet()
    assert (client.got, second.got) == (["a"], ["b", "c"])
    assert again.stats.backplane_lost == 0
    assert one.backplane.peers.live(asyncio.get_running_loop().time()) == [again.id]
    second.leaves()
    await second.over.wait()


async def test_counters_over_a_restart(fleet: Fleet) -> None:
    """All counts of `stats()` are since construction."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    one.bolt.ws_room_broadcast("blue", "a")
    fleet.nats.loses = lambda message: message.payload.endswith(b"lost")
    one.bolt.ws_room_broadcast("blue", "lost")
    one.bolt.ws_room_broadcast("blue", "b")
    two.bolt.ws_broadcast("x")
    fleet.nats.publish("boltws.all", b"bad")
    await fleet.quiet()
    assert client.got[-1] == "b"

    def counts() -> tuple[int, int, int, int]:
        stats = two.stats
        dropped = sum(stats.backplane_dropped.values())
        return stats.backplane_published, stats.backplane_received, stats.backplane_lost, dropped

    assert counts() == (1, 2, 1, 1)
    await two.stop()
    assert counts() == (1, 2, 1, 1)
    two.flow.runtime._parted = None
    await fleet.node(two.bolt)
    assert counts() == (1, 2, 1, 1)


async def test_no_server_at_the_start(fleet: Fleet, clock: Clock) -> None:
    """The start fails after five seconds, in one line that says where and why."""
    fleet.nats.down = True
    node = fleet.begin()
    before = clock.now
    with pytest.raises(BackplaneError, match="nats.example:4222: connection refused; start it"):
        await node.flow.runtime.connected()
    assert clock.now == before + 5
    assert node.flow.runtime.not_ready() == "the backplane is not heard"


async def test_a_server_that_comes_later(fleet: Fleet, clock: Clock) -> None:
    """It is tried again until it is there."""
    fleet.nats.down = True
    node = fleet.begin()
    await asyncio.sleep(3)
    fleet.nats.down = False
    await node.flow.runtime.connected()
    assert node.flow.runtime.not_ready() == ""


async def test_deaf(fleet: Fleet) -> None:
    """A node that is connected and hears no answer is not ready."""
    node = await fleet.node()
    assert node.flow.runtime.not_ready() == ""
    node.link.deaf = True
    assert node.flow.runtime.not_ready() == "the backplane is not heard"
    node.link.deaf = False
    await node.link.cut()
    assert node.flow.runtime.not_ready() == "the backplane is not heard"
    await node.link.mend()
    assert node.flow.runtime.not_ready() == ""


async def test_a_subscription_that_is_refused(fleet: Fleet, logged: Errors) -> None:
    """A node that may not subscribe is not ready, and promises nobody a room; so until it connects
    again."""
    node = await fleet.node()
    client = node.client()
    await node.link.deny("Publish", "boltws.r.x")
    assert node.flow.runtime.not_ready() == ""
    await node.link.deny("Subscription", "boltws.hb")
    assert node.flow.runtime.not_ready() == "the backplane is not heard"
    assert not await node.bolt.cluster.room_join("blue", client.id)
    await node.link.cut()
    await node.link.mend()
    assert node.flow.runtime.not_ready() == ""
    assert await node.bolt.cluster.room_join("blue", client.id)
    assert len(logged.texts()) == 2
    logged.records.clear()


async def test_permissions_that_are_mended(fleet: Fleet, clock: Clock, logged: Errors) -> None:
    """A server that has read them anew says nothing: what it refused is asked for again until it
    is granted, and the refusal is logged once."""
    node = await fleet.node()
    node.link.refuses = "boltws.hb"
    await node.link.deny("Subscription", "boltws.hb")
    await asyncio.sleep(20)
    assert node.flow.runtime.not_ready() == "the backplane is not heard"
    node.link.refuses = ""
    await asyncio.sleep(10)
    assert node.flow.runtime.not_ready() == ""
    assert len(logged.texts()) == 1
    logged.records.clear()


async def test_what_is_not_permitted_does_not_flood_the_log(fleet: Fleet, logged: Errors) -> None:
    """Each message to a room may be refused: the first few are told, each subject once."""
    node = await fleet.node()
    for number in range(100):
        await node.link.deny("Publish", f"boltws.r.{number}")
        await node.link.deny("Publish", "boltws.r.0")
    assert len(logged.texts()) == 10
    assert logged.texts()[-1].endswith("; more of it is not logged")
    await node.link.cut()
    await node.link.mend()
    await node.link.deny("Publish", "boltws.r.0")
    assert len(logged.texts()) == 11, "another connection, another user perhaps"
    logged.records.clear()


async def test_why_the_server_is_not_back(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    """Once it was there, and then lets nobody in: a token was changed. Each cause is told once."""
    node = await fleet.node()
    await node.link.cut()
    caplog.clear()
    for error in (ConnectionRefusedError(), nats.errors.AuthorizationError()) * 3:
        await node.link.options["error_cb"](error)
    assert [text.rpartition(": ")[2] for text in caplog.messages] == [
        "connection refused",
        "not authorised",
    ]
    await node.link.mend()


async def test_subscriptions_that_are_not_confirmed(fleet: Fleet, clock: Clock) -> None:
    """A server that takes them late: the node goes on, and they stand when it has."""
    one, two = await fleet.two()
    two.link.outbox.hold()
    client = two.client("blue")
    await asyncio.sleep(6)
    sub = two.receiver._by_key[room_token("blue")]
    assert not sub.stood
    released = clock.now
    two.link.outbox.release()
    assert await two.bolt.cluster.room_join("blue", client.id)
    assert sub.stood >= released
    one.bolt.ws_room_broadcast("blue", "x")
    await fleet.quiet()
    assert client.got == ["x"]


async def test_how_it_connects(fleet: Fleet) -> None:
    """It never gives up, wants no echo, and finds a dead connection within six seconds."""
    node = await fleet.node()
    options = node.link.options
    assert options["max_reconnect_attempts"] == -1
    assert options["no_echo"] is True
    assert options["reconnect_time_wait"] <= 1
    assert options["ping_interval"] * (options["max_outstanding_pings"] + 1) <= 6
    assert node.id in options["name"]


async def test_without_nats_py(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start says what is missing: what to install, or what that release has not."""
    bolt = Bolt(backplane=NatsBackplane("nats://nats.example"))
    monkeypatch.setattr("boltws.backplane.link.contract_broken", lambda: "Client._subs")
    with pytest.raises(StartError, match="this nats-py has no Client._subs"):
        bolt._runtime.seal()
    monkeypatch.setitem(sys.modules, "boltws.backplane.link", None)
    with pytest.raises(StartError, match=r"pip install 'nats-py\[nkeys\]'"):
        bolt._runtime.seal()
