"""Publishers that are no nodes: any NATS client, on subjects that are documented."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from boltws.backplane.subjects import node_of, room_token

from ..process.harness import PATIENCE
from .conftest import Join, StartNodes
from .nats_server import NatsServer
from .node import Member, Node, until
from .stream import observer

Pair = tuple[Node, Node]
BINARY = {"Boltws-Type": "binary"}


@pytest.fixture
async def outside(shared_nats: NatsServer) -> AsyncIterator[Client]:
    client = await observer(shared_nats.url)
    yield client
    await client.close()


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def to(member: Member, verb: str = "to") -> str:
    """The subject of one client."""
    return f"boltws.x.{verb}.{node_of(member.id)}.{member.id}"


@pytest.mark.parametrize("name", ["plain", "*", "z" * 97])
async def test_to_a_room(pair: Pair, join: Join, outside: Client, name: str) -> None:
    """Text and binary reach the room's members on all nodes; none of it is an echo to anybody."""
    members = [await join(node, name) for node in pair]
    subject = f"boltws.x.{room_token(name)}"
    await outside.publish(subject, "\N{SNOWMAN}".encode())
    await outside.publish(subject, b"\xff", headers=BINARY)
    await outside.publish(subject, b"")
    for member in members:
        assert await member.take(3) == ["\N{SNOWMAN}", b"\xff", ""]


async def test_to_a_room_but_for_some(pair: Pair, join: Join, outside: Client, room: str) -> None:
    """The header names whom to leave out."""
    first, second, third = [await join(node, room) for node in (*pair, pair[1])]
    subject = f"boltws.x.{room_token(room)}"
    await outside.publish(
        subject, b"not all", headers={"Boltws-Exclude": f"{first.id},{second.id}"}
    )
    await outside.publish(subject, b"end")
    assert await third.take(2) == ["not all", "end"]
    assert [await first.next(), await second.next()] == ["end", "end"]


async def test_to_all(pair: Pair, join: Join, outside: Client, room: str) -> None:
    """One message to every client of every node."""
    members = [await join(pair[0], room), await join(pair[1], room + " other")]
    await outside.publish("boltws.x.all", b"to all")
    await outside.publish("boltws.x.all", b"\xff", headers=BINARY)
    for member in members:
        assert await member.take(2) == ["to all", b"\xff"]


async def test_to_one(pair: Pair, join: Join, outside: Client, room: str) -> None:
    """One client alone is sent to."""
    here, there = [await join(node, room) for node in pair]
    await outside.publish(to(there), b"for you")
    await outside.publish(to(there), b"\xff", headers=BINARY)
    assert await there.take(2) == ["for you", b"\xff"]
    await here.send("end")
    assert await here.next() == "end"


@pytest.mark.parametrize(
    ("payload", "close"),
    [(b"", (1000, "")), (b"4001", (4001, "")), (b"4001 go away", (4001, "go away"))],
)
async def test_one_is_closed(
    pair: Pair, join: Join, outside: Client, room: str, payload: bytes, close: tuple[int, str]
) -> None:
    """With a code and a reason, or without."""
    there = await join(pair[1], room)
    await outside.publish(to(there, "close"), payload)
    assert await there.closed() == close


async def test_what_cannot_be_read_is_counted(
    pair: Pair, join: Join, outside: Client, room: str
) -> None:
    """Text that is no UTF-8, a close code that is none: dropped under its cause; the node
    and its connection go on."""
    there = await join(pair[1], room)
    before = await _bad(pair[1])
    bad = [
        (f"boltws.x.{room_token(room)}", b"\xff"),
        ("boltws.x.all", b"\xc3"),
        (to(there), b"\x80"),
        (to(there, "close"), b"1005"),
        (to(there, "close"), b"soon"),
        (f"boltws.r.{room_token(room)}", b"no envelope"),
        ("boltws.hb", b""),
    ]
    for subject, payload in bad:
        await outside.publish(subject, payload)
    await outside.publish(f"boltws.x.{room_token(room)}", b"end")
    assert await there.next() == "end"
    assert await _bad(pair[1]) == before + len(bad)


async def test_garbage_does_not_harm_a_node(
    shared_nats: NatsServer, start_nodes: StartNodes, join: Join, outside: Client, room: str
) -> None:
    """Whatever comes with the head of an envelope before it: the node lives, and hears on."""
    (alone,) = await start_nodes(shared_nats.url, prefix="garbage")
    there = await join(alone, room)
    node = node_of(there.id)
    for subject in ("hb", "all", f"n.{node}", f"r.{room_token(room)}"):
        for operation in range(12):
            for flags in (0, 2, 4, 255):
                head = bytes([1, operation, flags]) + b"other" + bytes(12)
                for body in (b"", b"\xff" * 40, b"[]", b"{}", b'{"sequences": 1, "number": []}'):
                    await outside.publish(f"garbage.{subject}", head + body)
    await outside.publish(f"garbage.x.{room_token(room)}", b"end")
    await until(lambda: _ends(there), "the end")
    assert await alone.health() == 200
    assert "Traceback" not in alone.served.output


async def _ends(member: Member) -> bool:
    async with asyncio.timeout(PATIENCE):
        return await member.connection.recv(decode=False) == b"end"


async def _bad(node: Node) -> int:
    return int((await node.stats())["backplane_dropped"].get("bad_message", 0))
