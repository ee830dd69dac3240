"""A client: reading on hold for several reasons, its states, its one end."""

from __future__ import annotations

from typing import Any

from boltws import Bolt
from boltws.client import BACKLOG, CLOSED, CLOSING, FULL, OPEN, OPENING, RATE
from boltws.errors import Close

from .flow import FakeClient, Start


class Watched(FakeClient):
    """Notes what its wire is told about reading."""

    __slots__ = ("reading",)

    reading: list[str]

    def pause_reading(self) -> None:
        self.reading.append("pause")

    def resume_reading(self) -> None:
        self.reading.append("resume")


def watched(start: Start) -> Watched:
    bolt = Bolt()
    bolt.ws("/p")
    flow = start(bolt)
    client = Watched(flow.hub, flow.runtime.endpoints[0])
    client.reading = []
    flow.hub.add(client)
    flow.clients.append(client)
    return client


async def test_reading_waits_for_every_reason(start: Start) -> None:
    """The wire is told once at the first reason, and once when the last one is gone."""
    client = watched(start)
    for reason in (FULL, RATE, FULL, BACKLOG):
        client.hold(reason)
    assert client.reading == ["pause"]
    for reason in (RATE, FULL):
        client.release(reason)
    assert client.reading == ["pause"]
    client.release(BACKLOG)
    assert client.reading == ["pause", "resume"]


async def test_releasing_what_does_not_stand(start: Start) -> None:
    """It is nothing: a timer may come late."""
    client = watched(start)
    client.release(RATE)
    client.hold(FULL)
    client.release(RATE)
    assert client.reading == ["pause"]
    client.release(FULL)
    client.release(FULL)
    assert client.reading == ["pause", "resume"]


async def test_a_closed_client_reads_no_more(start: Start) -> None:
    """Its transport is gone: there is nothing to resume."""
    client = watched(start)
    client.hold(FULL)
    client.vanish()
    client.release(FULL)
    assert client.reading == ["pause"]


async def test_its_states(start: Start) -> None:
    """OPENING until the 101, OPEN until an end from either side, CLOSED with its transport."""
    bolt = Bolt()
    bolt.ws("/p")
    flow = start(bolt)
    client, event = flow.client("/p")
    client.silent = True
    states = [client.state]
    flow.hub.add(client)
    client.channel.connected(client, event)
    states.append(client.state)
    client.close(Close(1000))
    states.append(client.state)
    client.vanish()
    states.append(client.state)
    assert states == [OPENING, OPEN, CLOSING, CLOSED]


async def test_nothing_is_sent_before_the_101(start: Start) -> None:
    """Nor can it be closed, joined or slow: there is no client yet."""
    bolt = Bolt()
    bolt.ws("/p")
    client, event = start(bolt).client("/p")
    assert not event.reply("early")
    assert not event.join("room")
    assert not event.close()
    client.pause_writing()
    client.resume_writing()
    assert (client.frames, client.closes, bolt.stats().slow_clients) == ([], [], 0)
    assert bolt.stats().dropped_out == {"no_client": 1}


async def test_the_first_end_counts(start: Start) -> None:
    """Whoever ends it later changes neither its code nor the books."""
    seen: list[Any] = []
    bolt = Bolt()
    bolt.ws("/p", None, None, lambda event: seen.append((event.close_code, event.close_reason)))
    client = start(bolt).connect()
    client.silent = True
    assert bolt.ws_close_client(client.id, 4000, "mine")
    assert not bolt.ws_close_client(client.id, 4001)
    client.leaves(1000, "yours")
    client.vanish()
    await client.over.wait()
    assert seen == [(4000, "mine")]
    assert client.closes == [(4000, "mine")]
    assert bolt.stats().closed == {4000: 1}


async def test_the_peers_end(start: Start) -> None:
    """Its code and reason, 1005 where it gave none, 1006 where it just went."""
    seen: list[Any] = []
    bolt = Bolt()
    bolt.ws("/p", None, None, lambda event: seen.append((event.close_code, event.close_reason)))
    flow = start(bolt)
    clients = [flow.connect() for _ in range(3)]
    clients[0].leaves(4321, "bye")
    clients[1].leaves(1005)
    clients[2].vanish()
    for client in clients:
        await client.over.wait()
    assert seen == [(4321, "bye"), (1005, ""), (1006, "")]
    assert bolt.stats().closed == {4321: 1, 1005: 1, 1006: 1}
    assert bolt.stats().closing == 0
