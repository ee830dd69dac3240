"""Two nodes are one app: what is written on either reaches the clients of both."""

from __future__ import annotations

import base64

import pytest

from .conftest import Join
from .node import Node, Raised, until

Pair = tuple[Node, Node]

NAMES = ["*", ">", "a.b", "a b  c", "\N{SNOWMAN}\N{PILE OF POO}", "x" * 96, "x" * 97, "y" * 1024]


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room that no other test uses."""
    return str(request.node.name)


async def test_a_room_spans_the_nodes(pair: Pair, join: Join, room: str) -> None:
    """A text reaches members on both nodes, once each, the speaker included: no node hears its
    own echo."""
    here, there = [await join(node, room) for node in pair]
    for text in ("hello", "", "\N{SNOWMAN}"):
        await here.send(text)
        assert [await here.next(), await there.next()] == [text, text]
    await there.send("end")
    assert [await here.next(), await there.next()] == ["end", "end"]


async def test_binary_stays_binary(pair: Pair, join: Join, room: str) -> None:
    """Any bytes arrive as they were, in a binary message."""
    here, there = [await join(node, room) for node in pair]
    data = bytes(range(256)) * 100
    await here.send(data)
    assert await there.next() == data
    assert await here.next() == data


async def test_excluded_clients_are_left_out_on_all_nodes(
    pair: Pair, join: Join, room: str
) -> None:
    """`exclude` names clients wherever they are."""
    here, there, third = [await join(node, room) for node in (*pair, pair[1])]
    one = pair[0]
    assert await one.call("ws_room_broadcast", room, "not all", [here.id, there.id]) == 0
    assert await one.call("ws_room_broadcast", room, "not one", there.id) == 1
    assert await one.call("ws_room_broadcast", room, "end") == 1
    assert await third.take(3) == ["not all", "not one", "end"]
    assert await here.take(2) == ["not one", "end"]
    assert await there.next() == "end"


async def test_a_broadcast_reaches_the_clients_of_all_rooms(
    pair: Pair, join: Join, room: str
) -> None:
    """`ws_broadcast`, text and binary, goes to every client of every node."""
    here, there = await join(pair[0], room), await join(pair[1], room + " too")
    await pair[0].call("ws_broadcast", "to all")
    await pair[1].call("ws_broadcast_binary", base64.b64encode(b"\xff").decode())
    for client in (here, there):
        assert sorted(map(repr, await client.take(2))) == ["'to all'", r"b'\xff'"]


async def test_one_client_is_spoken_to_wherever_it_is(pair: Pair, join: Join, room: str) -> None:
    """`send_to` and its binary twin reach a client of another node, and nobody else."""
    here, there = [await join(node, room) for node in pair]
    assert await pair[0].call("ws_send_to", there.id, "for you") is True
    assert await pair[0].call("ws_send_binary_to", there.id, "/w==") is True
    assert await there.take(2) == ["for you", b"\xff"]
    await here.send("end")
    assert await here.next() == "end"


async def test_ids_of_nobody_are_told_apart(pair: Pair, join: Join, room: str) -> None:
    """What no live node has made is no client: False, and nothing is published for it."""
    there = await join(pair[1], room)
    nobody = there.id.translate(str.maketrans("0123456789abcdef", "f0123456789abcde"))
    before = (await pair[0].stats())["backplane_published"]
    for client_id in (nobody, "", "x", "*", f"{there.id[:-1]}*"):
        assert await pair[0].call("ws_send_to", client_id, "hello") is False
    assert (await pair[0].stats())["backplane_published"] == before


async def test_one_client_is_closed_from_elsewhere(pair: Pair, join: Join, room: str) -> None:
    """`ws_close_client` takes code and reason along."""
    there = await join(pair[1], room)
    assert await pair[0].call("ws_close_client", there.id, 4001, "weg \u00e9")
    assert await there.closed() == (4001, "weg \u00e9")


async def test_one_client_is_put_into_a_room_from_elsewhere(
    pair: Pair, join: Join, room: str
) -> None:
    """`ws_room_join` and `ws_room_leave` work on clients of other nodes; both nodes see it."""
    there = await join(pair[1], room)
    other = room + " other"
    assert await pair[0].call("cluster.room_join", other, there.id) is True
    await pair[0].call("ws_room_broadcast", other, "in")
    assert await there.next() == "in"
    assert await pair[0].cluster("room_members", other) == ([there.id], True, [])
    assert await pair[0].call("ws_room_leave", other, there.id) is True
    await until(lambda: _count_is(pair[0], other, 0), "a client that left the room from elsewhere")
    assert await pair[0].call("ws_room_join", other, there.id) is True
    await until(lambda: _count_is(pair[0], other, 1), "a client that came back from elsewhere")


async def _count_is(node: Node, room: str, count: int) -> bool:
    return (await node.cluster("room_count", room)).value == count


async def test_messages_keep_their_order(pair: Pair, join: Join, room: str) -> None:
    """A thousand messages of each of two publishers arrive whole and in the order of each."""
    listener = await join(pair[1], room)
    speakers = [await join(node, room) for node in pair]
    for number in range(1000):
        for name, speaker in zip("ab", speakers, strict=True):
            await speaker.send(f"{name}{number}")
    heard = await listener.take(2000)
    for name in "ab":
        assert [m for m in heard if m[0] == name] == [f"{name}{n}" for n in range(1000)]
    for speaker in speakers:
        assert len(await speaker.take(2000)) == 2000


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:8]) + str(len(name)))
async def test_any_name_is_a_room_of_its_own(pair: Pair, join: Join, name: str) -> None:
    """Wildcards, dots, blanks, long and strange names: a message stays within its room."""
    listeners = {other: await join(pair[1], other) for other in {*NAMES, name}}
    speaker = await join(pair[0], name)
    await speaker.send("here")
    assert await listeners[name].next() == "here"
    for other, listener in listeners.items():
        await pair[0].call("ws_room_broadcast", other, "end")
        assert await listener.next() == "end"


async def test_nodes_without_members_get_nothing(pair: Pair, join: Join, room: str) -> None:
    """A room's messages go to the nodes that have members in it, and to no other."""
    speaker = await join(pair[0], room)
    before = (await pair[1].stats())["backplane_received"]
    for number in range(50):
        await speaker.send(str(number))
    await speaker.take(50)
    marker = await join(pair[1], room + " marker")
    await pair[0].call("ws_room_broadcast", marker.room, "end")
    assert await marker.next() == "end"
    assert (await pair[1].stats())["backplane_received"] == before + 1


async def test_reads_ask_all_nodes(pair: Pair, join: Join, room: str) -> None:
    """`bolt.cluster` adds up what the nodes have, the `ws_*` reads are about their own."""
    members = [await join(node, room) for node in (*pair, pair[1])]
    ids = sorted(member.id for member in members)
    for node, own in zip(pair, (1, 2), strict=True):
        assert await node.cluster("room_count", room) == (3, True, [])
        told = await node.cluster("room_members", room)
        assert sorted(told.value) == ids
        assert await node.call("ws_room_count", room) == own
    first = await pair[0].cluster("client_list", limit=2)
    rest = await pair[1].cluster("client_list", after=first.value[-1])
    everyone = [*first.value, *rest.value]
    assert everyone == sorted(set(everyone)) and set(ids) <= set(everyone)
    assert (await pair[0].cluster("connection_count")).value == len(everyone)
    nodes = (await pair[1].cluster("nodes")).value
    assert sum(node["connections"] for node in nodes) == len(everyone)


async def test_nothing_is_lost_in_peace(pair: Pair) -> None:
    """After all that, no message between the two was lost or dropped."""
    for node in pair:
        books = await node.stats()
        assert (books["backplane_lost"], books["backplane_dropped"]) == (0, {})


async def test_large_names_are_refused(pair: Pair, room: str) -> None:
    """The limits of names are checked before anything travels."""
    with pytest.raises(Raised, match="ValueError: a room's name"):
        await pair[0].call("ws_room_broadcast", "z" * 1025, "hello")
