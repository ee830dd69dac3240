"""Rooms and broadcasts: who is in, who hears, and how many took it."""

from __future__ import annotations

from typing import Any

import pytest

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, recv
from .servers import Served, everywhere


def with_ids(bolt: Bolt, *paths: str) -> None:
    """Endpoints that tell each client its id, and then echo."""
    for path in paths or ("/p",):
        bolt.ws(
            path,
            lambda event: event.reply(event.client_id),
            lambda event: event.reply(f"echo {event.message}"),
        )


class Three:
    """Three clients and their ids."""

    def __init__(self, served: Served, path: str = "/p") -> None:
        self._contexts = [served.connect(path) for _ in range(3)]

    async def __aenter__(self) -> list[tuple[Any, str]]:
        clients = [await context.__aenter__() for context in self._contexts]
        return [(client, await recv(client)) for client in clients]

    async def __aexit__(self, *exc: Any) -> None:
        for context in self._contexts:
            await context.__aexit__(*exc)


async def heard(client: Any) -> list[Any]:
    """What has come to a client: all that was sent before the echo of its own message."""
    await client.send("mark")
    messages = []
    while (message := await recv(client)) != "echo mark":
        messages.append(message)
    return messages


@everywhere
async def test_join_members_leave(new_bolt: NewBolt, serve: Serve) -> None:
    """Joining twice is joining once; leaving what one is not in is False."""
    bolt = new_bolt()
    with_ids(bolt)
    async with Three(serve(bolt)) as ((_, a), (_, b), (_, c)):
        assert bolt.ws_room_members("r") == []
        assert bolt.ws_room_count("r") == 0
        assert bolt.ws_room_join("r", b) is True
        assert bolt.ws_room_join("r", a) is True
        assert bolt.ws_room_join("r", b) is True
        assert bolt.ws_room_members("r") == [b, a]
        assert bolt.ws_room_count("r") == 2
        assert bolt.stats().rooms == 1
        assert bolt.ws_room_leave("r", c) is False
        assert bolt.ws_room_leave("other", a) is False
        assert bolt.ws_room_leave("r", b) is True
        assert bolt.ws_room_members("r") == [a]
        assert bolt.ws_room_leave("r", a) is True
        assert bolt.ws_room_count("r") == 0
        assert bolt.stats().rooms == 0


@everywhere
async def test_an_unknown_client(new_bolt: NewBolt, serve: Serve) -> None:
    """Who is not there, or not any more, neither joins nor leaves."""
    bolt = new_bolt()
    with_ids(bolt)
    served = serve(bolt)
    async with served.connect("/p") as client:
        gone = await recv(client)
    async with served.connect("/p") as client:
        await recv(client)
        for client_id in ("nobody", "", gone):
            assert bolt.ws_room_join("r", client_id) is False
            assert bolt.ws_room_leave("r", client_id) is False
        assert bolt.ws_room_count("r") == 0


@everywhere
async def test_broadcast_to_a_room(new_bolt: NewBolt, serve: Serve) -> None:
    """Members hear it, others do not, and the call says how many took it."""
    bolt = new_bolt()
    with_ids(bolt)
    async with Three(serve(bolt)) as ((one, a), (two, b), (three, _)):
        bolt.ws_room_join("r", a)
        bolt.ws_room_join("r", b)
        assert bolt.ws_room_broadcast("r", "text") == 2
        assert bolt.ws_room_broadcast_binary("r", b"\x00\xff") == 2
        assert bolt.ws_room_broadcast_binary("r", "AP8=") == 2
        assert bolt.ws_room_broadcast("empty", "text") == 0
        assert await heard(one) == ["text", b"\x00\xff", b"\x00\xff"]
        assert await heard(two) == ["text", b"\x00\xff", b"\x00\xff"]
        assert await heard(three) == []


@everywhere
async def test_exclude(new_bolt: NewBolt, serve: Serve) -> None:
    """`exclude` is one id or any iterable of ids; unknown ones do no harm."""
    bolt = new_bolt()
    with_ids(bolt)
    async with Three(serve(bolt)) as ((one, a), (two, b), (three, c)):
        for client_id in (a, b, c):
            bolt.ws_room_join("r", client_id)
        assert bolt.ws_room_broadcast("r", "not a", exclude=a) == 2
        assert bolt.ws_room_broadcast("r", "not a, b", exclude=[a, b]) == 1
        assert bolt.ws_room_broadcast("r", "only c", exclude=(i for i in (a, b, "x"))) == 1
        assert bolt.ws_room_broadcast("r", "nobody", exclude={a, b, c}) == 0
        assert bolt.ws_room_broadcast("r", "all", exclude="nobody") == 3
        assert bolt.ws_room_broadcast_binary("r", b"not c", exclude=c) == 2
        assert await heard(one) == ["all", b"not c"]
        assert await heard(two) == ["not a", "all", b"not c"]
        assert await heard(three) == ["not a", "not a, b", "only c", "all"]


@everywhere
async def test_broadcast_to_everybody(new_bolt: NewBolt, serve: Serve) -> None:
    """ws_broadcast reaches the clients of all endpoints."""
    bolt = new_bolt()
    with_ids(bolt, "/p", "/q/:x")
    served = serve(bolt)
    async with served.connect("/p") as one, served.connect("/q/1") as two:
        await recv(one)
        await recv(two)
        assert bolt.ws_broadcast("text") == 2
        assert bolt.ws_broadcast_binary(b"bytes") == 2
        assert await heard(one) == await heard(two) == ["text", b"bytes"]


@everywhere
async def test_the_events_own_room_operations(new_bolt: NewBolt, serve: Serve) -> None:
    """event.join and event.leave are the client's own; event.rooms is in the order it joined."""
    bolt = new_bolt()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    def said(event: Event) -> None:
        verb, _, room = event.message.partition(" ")
        done = event.join(room) if verb == "join" else event.leave(room)
        event.reply(f"{done} {event.rooms}")

    async with serve(bolt).connect("/p") as client:
        assert await ask(client, "join b") == "True ('b',)"
        assert await ask(client, "join a") == "True ('b', 'a')"
        assert await ask(client, "join b") == "True ('b', 'a')"
        assert await ask(client, "leave b") == "True ('a',)"
        assert await ask(client, "leave b") == "False ('a',)"


@everywhere
async def test_rooms_are_left_on_disconnect(new_bolt: NewBolt, serve: Serve) -> None:
    """Before disconnect runs the client is off its rooms and the list; event.rooms still names
    them, and a broadcast in it reaches those who stay."""
    bolt = new_bolt()
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_connect
    def came(event: Event) -> None:
        event.join("z")
        event.join("a")
        event.reply(event.client_id)

    @endpoint.on_message
    def said(event: Event) -> None:
        event.reply("hi")

    @endpoint.on_disconnect
    def left(event: Event) -> None:
        bolt.ws_room_broadcast("a", f"{event.client_id} left")
        seen.note(
            event.rooms,
            event.client_id in bolt.ws_room_members("a"),
            event.client_id in bolt.ws_client_list(),
            bolt.ws_room_join("a", event.client_id),
            event.join("a"),
        )

    served = serve(bolt)
    async with served.connect("/p") as stays:
        await recv(stays)
        async with served.connect("/p") as leaves:
            gone = await recv(leaves)
            assert bolt.ws_room_count("a") == bolt.ws_room_count("z") == 2
        assert await seen.next() == (("z", "a"), False, False, False, False)
        assert await recv(stays) == f"{gone} left"
        assert bolt.ws_room_count("a") == bolt.ws_room_count("z") == 1


@everywhere
async def test_names_of_rooms(new_bolt: NewBolt, serve: Serve) -> None:
    """1 to 1,024 UTF-8 bytes of any characters; anything else raises and changes nothing."""
    bolt = new_bolt()
    with_ids(bolt)
    async with serve(bolt).connect("/p") as client:
        client_id = await recv(client)
        good = ["x", "*", "a.b > c", "x" * 1024, "\N{SNOWMAN}" * 341, "\0\n"]
        for room in good:
            assert bolt.ws_room_join(room, client_id)
            assert bolt.ws_room_broadcast(room, "x") == 1
            assert await recv(client) == "x"
        bad: list[Any] = ["", "x" * 1025, "\N{SNOWMAN}" * 342, "\ud800"]
        for room in bad:
            for operation in operations(bolt, room, client_id):
                with pytest.raises(ValueError):  # noqa: PT011 - that it is one is the promise
                    operation()
        strange: list[Any] = [None, 5, b"bytes"]
        for room in strange:
            for operation in operations(bolt, room, client_id):
                with pytest.raises(TypeError):
                    operation()
        assert bolt.stats().rooms == len(good)


def operations(bolt: Bolt, room: Any, client_id: str) -> list[Any]:
    return [
        lambda: bolt.ws_room_join(room, client_id),
        lambda: bolt.ws_room_leave(room, client_id),
        lambda: bolt.ws_room_broadcast(room, "x"),
        lambda: bolt.ws_room_broadcast_binary(room, b"x"),
        lambda: bolt.ws_room_members(room),
        lambda: bolt.ws_room_count(room),
    ]
