"""Clients and rooms, both ways."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from boltws import Bolt, Event
from boltws.client import OPEN

from .flow import FakeClient, Flow, Start, turns


def plain() -> Bolt:
    bolt = Bolt()
    bolt.ws("/p")
    bolt.ws("/q")
    return bolt


async def test_clients(start: Start) -> None:
    """Listed and counted in the order they came, whatever their endpoint."""
    bolt = plain()
    flow = start(bolt)
    assert (bolt.ws_client_list(), bolt.ws_connection_count()) == ([], 0)
    clients = [flow.connect(path) for path in ("/p", "/q", "/p")]
    assert bolt.ws_client_list() == [client.id for client in clients]
    assert bolt.ws_connection_count() == 3
    clients[1].leaves()
    assert bolt.ws_client_list() == [clients[0].id, clients[2].id]
    flow.connect()
    stats = bolt.stats()
    assert (stats.connections_opened, stats.connections_now, stats.connections_peak) == (4, 3, 3)


async def test_rooms(start: Start) -> None:
    """Joined, listed, counted, left; a room is there while it has members."""
    bolt = plain()
    flow = start(bolt)
    one, other = flow.connect(), flow.connect("/q")
    assert bolt.ws_room_join("blue", other.id)
    assert bolt.ws_room_join("blue", one.id)
    assert bolt.ws_room_join("blue", other.id)  # again: it is in
    assert bolt.ws_room_join("red", one.id)
    assert bolt.ws_room_members("blue") == [other.id, one.id]
    assert (bolt.ws_room_count("blue"), bolt.ws_room_count("red")) == (2, 1)
    assert (bolt.ws_room_members("none"), bolt.ws_room_count("none")) == ([], 0)
    assert bolt.stats().rooms == 2
    assert bolt.ws_room_leave("blue", other.id)
    assert not bolt.ws_room_leave("blue", other.id)
    assert not bolt.ws_room_leave("none", other.id)
    assert bolt.ws_room_leave("red", one.id)
    assert bolt.ws_room_members("blue") == [one.id]
    assert bolt.stats().rooms == 1


async def test_an_unknown_client(start: Start) -> None:
    """It joins, leaves and closes nothing."""
    bolt = plain()
    start(bolt)
    assert not bolt.ws_room_join("blue", "nobody")
    assert not bolt.ws_room_leave("blue", "nobody")
    assert not bolt.ws_close_client("nobody")
    assert bolt.stats().rooms == 0


@pytest.mark.parametrize("room", ["", "x" * 1025, "é" * 513, "\ud800"])
async def test_no_name_of_a_room(start: Start, room: str) -> None:
    """1 to 1,024 UTF-8 bytes; every operation on rooms says so."""
    bolt = plain()
    client = start(bolt).connect()
    with pytest.raises(ValueError, match="a room's name"):
        bolt.ws_room_join(room, client.id)
    with pytest.raises(ValueError, match="a room's name"):
        bolt.ws_room_leave(room, client.id)
    with pytest.raises(ValueError, match="a room's name"):
        bolt.ws_room_members(room)
    with pytest.raises(ValueError, match="a room's name"):
        bolt.ws_room_count(room)
    with pytest.raises(ValueError, match="a room's name"):
        bolt.ws_room_broadcast(room, "x")
    with pytest.raises(ValueError, match="a room's name"):
        bolt.ws_room_broadcast_binary(room, b"x")


@pytest.mark.parametrize("room", [None, 1, b"blue", ("blue",)])
async def test_a_room_is_named_by_a_str(start: Start, room: Any) -> None:
    """Anything else is a TypeError, None included: that is not "all clients"."""
    bolt = plain()
    client = start(bolt).connect()
    for call in (
        lambda: bolt.ws_room_join(room, client.id),
        lambda: bolt.ws_room_leave(room, client.id),
        lambda: bolt.ws_room_members(room),
        lambda: bolt.ws_room_count(room),
        lambda: bolt.ws_room_broadcast(room, "x"),
        lambda: bolt.ws_room_broadcast_binary(room, b"x"),
    ):
        with pytest.raises(TypeError, match="a room's name is a str"):
            call()
    assert client.frames == []


@pytest.mark.parametrize("room", ["x", "*", ">", "a.b", "é" * 512, "\n", " "])
async def test_any_name_of_a_room(start: Start, room: str) -> None:
    """No character means anything: `*` is a room like another."""
    bolt = plain()
    flow = start(bolt)
    one, other = flow.connect(), flow.connect()
    bolt.ws_room_join(room, one.id)
    bolt.ws_room_join("other", other.id)
    assert bolt.ws_room_broadcast(room, "hi") == 1
    assert (one.got, other.got) == (["hi"], [])


# The end of a client.


@pytest.mark.parametrize("how", ["server", "peer", "lost"])
async def test_off_the_lists_at_once(start: Start, how: str) -> None:
    """When a connection ends it is in no list and no room any more, before what still waits is
    handled; the rooms it was in are told to the events behind that."""
    gate = asyncio.Event()
    seen: list[Any] = []
    bolt = Bolt()

    def note(event: Event) -> Any:
        if event.message == "wait":
            return gate.wait()
        lists = bolt.ws_client_list(), bolt.ws_room_members("a"), bolt.ws_room_count("b")
        seen.append((event.message or event.type, event.rooms, *lists))
        return None

    bolt.ws("/p", None, note, note)
    flow = start(bolt)
    client, other = flow.connect(), flow.connect()
    for room in ("b", "a"):
        bolt.ws_room_join(room, client.id)
    bolt.ws_room_join("a", other.id)
    client.says("wait", "behind")
    if how == "server":
        assert bolt.ws_close_client(client.id)
    else:
        client.leaves() if how == "peer" else client.vanish()
    assert bolt.ws_client_list() == [other.id]
    assert not bolt.ws_send_to(client.id, "late")
    assert not bolt.ws_room_join("c", client.id)
    assert not bolt.ws_room_leave("a", client.id)
    assert bolt.ws_room_members("a") == [other.id]
    gate.set()
    await client.over.wait()
    after = ("b", "a"), [other.id], [other.id], 0
    assert seen == [("behind", *after), ("disconnect", *after)]
    assert bolt.stats().rooms == 1


async def test_a_disconnect_has_no_context_of_another_client(start: Start) -> None:
    """Whoever closes a client keeps their context variables to themselves."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[str] = []
    bolt = Bolt()

    def said(event: Event) -> None:
        user.set("alice")
        bolt.ws_close_client(event.message)

    bolt.ws("/p", None, said, lambda event: seen.append(user.get()))
    flow = start(bolt)
    alice, bob = flow.connect(), flow.connect()
    alice.says(bob.id)
    await bob.over.wait()
    assert seen == ["nobody"]


async def test_a_disconnect_has_no_context_of_the_first_client(start: Start) -> None:
    """Without a lifespan the first request starts the Bolt: what it set is not what others see."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[str] = []
    bolt = Bolt()
    bolt.ws("/p", None, None, lambda event: seen.append(user.get()))

    async def first() -> Flow:
        user.set("alice")
        return start(bolt)

    flow = await asyncio.create_task(first())
    bob = flow.connect()
    bob.leaves()
    await bob.over.wait()
    assert seen == ["nobody"]


async def test_a_disconnect_has_the_context_of_the_lifespan() -> None:
    """What the app set at its start is there."""
    level: ContextVar[str] = ContextVar("level", default="none")
    seen: list[str] = []
    bolt = Bolt()
    bolt.ws("/p", None, None, lambda event: seen.append(level.get()))

    async def serve() -> None:
        level.set("app's")
        async with bolt.lifespan():
            client = await asyncio.create_task(connected(), context=Context())
            client.leaves()
            await client.over.wait()

    async def connected() -> FakeClient:
        return Flow(bolt).connect()

    await asyncio.create_task(serve())
    assert seen == ["app's"]


async def test_all_in_a_room_leave_together(start: Start) -> None:
    """A handler that closes the members of a room meets none of them twice."""
    left: list[str] = []
    bolt = Bolt()

    def clear(event: Event) -> None:
        for client_id in bolt.ws_room_members("a"):
            assert bolt.ws_close_client(client_id)
        assert bolt.ws_room_members("a") == []
        assert left == []

    bolt.ws("/p", None, clear, lambda event: left.append(event.client_id))
    flow = start(bolt)
    clients = [flow.connect() for _ in range(5)]
    for client in clients:
        bolt.ws_room_join("a", client.id)
    clients[2].says("clear")
    for client in clients:
        await client.over.wait()
    assert sorted(left) == sorted(client.id for client in clients)


# Any order of operations.

ROOMS = ["a", "b", "c"]


class Operations(RuleBasedStateMachine):
    """A hub against a model: the rooms of each client, and the messages each must have got."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bolt = Bolt()
        self.bolt.ws("/p", None, None, self.left)
        self.flow = self.loop.run_until_complete(self.begin())
        self.rooms: dict[FakeClient, list[str]] = {}
        self.wanted: dict[FakeClient, list[str]] = {}
        self.gone: dict[str, list[str]] = {}  # by client: its rooms when it ended
        self.told: dict[str, list[str]] = {}  # by client: the rooms its `disconnect` saw
        self.sent = 0

    async def begin(self) -> Flow:
        return Flow(self.bolt)

    def left(self, event: Event) -> None:
        assert event.client_id not in self.told
        self.told[event.client_id] = list(event.rooms)

    def some(self, data: st.DataObject) -> FakeClient | None:
        """A client, of those that are gone too."""
        return data.draw(st.sampled_from(list(self.wanted))) if self.wanted else None

    def message(self) -> str:
        self.sent += 1
        return str(self.sent)

    def end(self, client: FakeClient) -> None:
        self.gone[client.id] = self.rooms.pop(client)

    @rule()
    def connect(self) -> None:
        client = self.flow.connect()
        self.rooms[client] = []
        self.wanted[client] = []

    @rule(data=st.data(), room=st.sampled_from(ROOMS))
    def join(self, data: st.DataObject, room: str) -> None:
        if client := self.some(data):
            assert self.bolt.ws_room_join(room, client.id) == (client in self.rooms)
            if room not in self.rooms.get(client, ROOMS):
                self.rooms[client].append(room)

    @rule(data=st.data(), room=st.sampled_from(ROOMS))
    def leave(self, data: st.DataObject, room: str) -> None:
        if client := self.some(data):
            within = room in self.rooms.get(client, [])
            assert self.bolt.ws_room_leave(room, client.id) == within
            if within:
                self.rooms[client].remove(room)

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        if client := self.some(data):
            message = self.message()
            assert self.bolt.ws_send_to(client.id, message) == (client in self.rooms)
            if client in self.rooms:
                self.wanted[client].append(message)

    @rule(data=st.data(), room=st.sampled_from([None, *ROOMS]), but=st.booleans())
    def broadcast(self, data: st.DataObject, room: str | None, but: bool) -> None:
        client = self.some(data) if but and room else None
        message = self.message()
        members = [
            member
            for member, rooms in self.rooms.items()
            if (room is None or room in rooms) and member is not client
        ]
        if room is None:
            taken = self.bolt.ws_broadcast(message)
        else:
            taken = self.bolt.ws_room_broadcast(room, message, client.id if client else ())
        assert taken == len(members)
        for member in members:
            self.wanted[member].append(message)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if client := self.some(data):
            assert self.bolt.ws_close_client(client.id) == (client in self.rooms)
            if client in self.rooms:
                self.end(client)

    @rule(data=st.data())
    def peer_leaves(self, data: st.DataObject) -> None:
        if (client := self.some(data)) and client in self.rooms:
            client.leaves()
            self.end(client)

    @rule(count=st.integers(1, 3))
    def turn(self, count: int) -> None:
        self.loop.run_until_complete(turns(count))

    @invariant()
    def both_ways(self) -> None:
        """What rooms say of their members is what clients say of their rooms."""
        hub = self.flow.hub
        assert list(hub.clients.values()) == list(self.rooms)
        for client, rooms in self.rooms.items():
            assert client.state == OPEN
            assert list(client.rooms or ()) == rooms
        wanted = {
            room: {client for client, rooms in self.rooms.items() if room in rooms}
            for room in ROOMS
        }
        found = {room: set(members) for room, members in hub.rooms.items()}
        assert found == {room: members for room, members in wanted.items() if members}

    @invariant()
    def nothing_lost(self) -> None:
        """Each client got its messages in order; the books balance."""
        for client, messages in self.wanted.items():
            assert client.got == messages
        stats = self.bolt.stats()
        assert stats.imbalance() == ""
        assert stats.handed == sum(map(len, self.wanted.values()))
        assert stats.sends == stats.handed + stats.dropped_out.get("no_client", 0)

    def teardown(self) -> None:
        for client in list(self.rooms):
            self.end(client)
        self.loop.run_until_complete(self.flow.end())
        self.loop.close()
        assert self.told == self.gone
        assert self.bolt.stats().imbalance() == ""


TestOperations = Operations.TestCase
TestOperations.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
