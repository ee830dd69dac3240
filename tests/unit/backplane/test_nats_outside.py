"""Publishers outside: any NATS client, the payload being the message."""

from __future__ import annotations

import pytest

from boltws.backplane.subjects import Subjects, room_token

from ..flow import FakeClient
from .fleet import Fleet, Node

BINARY = b"NATS/1.0\r\nBoltws-Type: binary\r\n\r\n"
TO = Subjects()


async def published(fleet: Fleet) -> tuple[Node, FakeClient, FakeClient]:
    node = await fleet.node()
    clients = node.client("blue"), node.client()
    await fleet.quiet()
    return node, *clients


def headers(**fields: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


async def test_to_a_room_and_to_all(fleet: Fleet) -> None:
    """Text, or bytes where a header says so; each is counted as received."""
    node, member, other = await published(fleet)
    room = TO.outside_room(room_token("blue"))
    fleet.nats.publish(room, "é".encode())
    fleet.nats.publish(room, b"\xff", BINARY)
    fleet.nats.publish(TO.outside_everyone, b"")
    await fleet.quiet()
    assert member.got == ["é", b"\xff", ""]
    assert other.got == [""]
    assert node.stats.backplane_received == 3


async def test_to_one(fleet: Fleet) -> None:
    """To one client of that node, and to no other."""
    node, client, other = await published(fleet)
    fleet.nats.publish(TO.outside_client("to", node.id, client.id), b"text")
    fleet.nats.publish(TO.outside_client("to", node.id, client.id), b"\xff", BINARY)
    await fleet.quiet()
    assert (client.got, other.got) == (["text", b"\xff"], [])


@pytest.mark.parametrize(
    ("payload", "close"),
    [
        (b"", (1000, "")),
        (b"4000", (4000, "")),
        (b"4000 go away", (4000, "go away")),
        ("1001 é".encode(), (1001, "é")),
    ],
)
async def test_close(fleet: Fleet, payload: bytes, close: tuple[int, str]) -> None:
    """With 1000, with a code, with a code and a reason."""
    node, client, other = await published(fleet)
    fleet.nats.publish(TO.outside_client("close", node.id, client.id), payload)
    await fleet.quiet()
    assert client.closes == [close]
    assert other.closes == []
    assert node.stats.backplane_received == 1


@pytest.mark.parametrize("payload", [b"x", b"0", b"1005", b"5000", b"1000 \xff", b"9" * 5000])
async def test_closes_that_cannot_be(fleet: Fleet, payload: bytes) -> None:
    """A code or a reason that no close may have is counted, and closes nobody."""
    node, client, _ = await published(fleet)
    fleet.nats.publish(TO.outside_client("close", node.id, client.id), payload)
    fleet.nats.publish(TO.outside_client("close", node.id, client.id), b"1000 " + b"x" * 124)
    await fleet.quiet()
    assert client.closes == []
    assert node.stats.backplane_dropped == {"bad_message": 2}


async def test_text_that_is_none(fleet: Fleet) -> None:
    """Bytes that are not UTF-8 and not said to be binary are counted, wherever they are sent."""
    node, client, _ = await published(fleet)
    fleet.nats.publish(TO.outside_room(room_token("blue")), b"\xff")
    fleet.nats.publish(TO.outside_everyone, b"\xed\xa0\x80")
    fleet.nats.publish(TO.outside_client("to", node.id, client.id), b"\xc0")
    await fleet.quiet()
    assert client.got == []
    assert node.stats.backplane_dropped == {"bad_message": 3}
    assert node.stats.backplane_received == 0


async def test_left_out(fleet: Fleet) -> None:
    """A header names clients to leave out of a room's message."""
    node, client, _ = await published(fleet)
    second, third = node.client("blue"), node.client("blue")
    fields = headers(Boltws_Exclude=f"{client.id},{second.id},nobody,,")
    fleet.nats.publish(TO.outside_room(room_token("blue")), b"x", fields)
    await fleet.quiet()
    assert (client.got, second.got, third.got) == ([], [], ["x"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"NATS/1.0",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n: \r\n:\r\n\r\n",
        b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"\0" * 100,
    ],
)
async def test_headers_of_any_kind(fleet: Fleet, raw: bytes) -> None:
    """What says nothing to us changes nothing."""
    node, client, _ = await published(fleet)
    fleet.nats.publish(TO.outside_room(room_token("blue")), b"x", raw)
    fleet.nats.publish(TO.outside_everyone, b"y", raw)
    fleet.nats.publish(TO.outside_client("to", node.id, client.id), b"z", raw)
    await fleet.quiet()
    assert client.got == ["x", "y", "z"]


@pytest.mark.parametrize(
    "raw",
    [
        b"NATS/1.0\r\nboltws-type:binary\r\n\r\n",
        b"NATS/1.0\r\nOther: 1\r\nBOLTWS-TYPE:   binary  \r\n\r\n",
    ],
)
async def test_headers_however_they_are_written(fleet: Fleet, raw: bytes) -> None:
    """Names in any case, spaces around the value or none."""
    _, client, _ = await published(fleet)
    fleet.nats.publish(TO.outside_everyone, b"\xff", raw)
    await fleet.quiet()
    assert client.got == [b"\xff"]


async def test_only_where_the_members_are(fleet: Fleet) -> None:
    """A publish outside is published once: nodes do not hand it on."""
    node, client, _ = await published(fleet)
    other = await fleet.node()
    second = other.client("blue")
    await fleet.quiet()
    fleet.nats.posted.clear()
    fleet.nats.publish(TO.outside_room(room_token("blue")), b"x")
    await fleet.quiet()
    assert (client.got, second.got) == (["x"], ["x"])
    assert fleet.nats.on("") == []
    assert (node.stats.backplane_received, other.stats.backplane_received) == (1, 1)


@pytest.mark.parametrize("verb", ["from", "TO", "é"])
async def test_other_verbs(fleet: Fleet, verb: str) -> None:
    """What asks for something that there is not, or not yet, is counted."""
    node, client, _ = await published(fleet)
    fleet.nats.publish(TO.outside_client(verb, node.id, client.id), b"x")
    await fleet.quiet()
    assert (client.got, client.closes) == ([], [])
    assert node.stats.backplane_dropped == {"bad_message": 1}


async def test_a_subject_that_is_no_text(fleet: Fleet) -> None:
    """Bytes that are not UTF-8 in the client's place are counted, not raised."""
    node, _, _ = await published(fleet)
    receiver = node.receiver
    sub = receiver._by_key[TO.outside_node(node.id)]
    for verb in (b"to", b"close"):
        subject = b"boltws.x." + verb + b"." + node.id.encode() + b".\xff"
        assert sub.handler(sub, subject, b"x" * (verb == b"to"), None) == 0
    assert sum(node.stats.backplane_dropped.values()) + sum(node.stats.dropped_out.values()) >= 1


async def test_a_large_message_to_the_wrong_node(fleet: Fleet) -> None:
    """One that cannot be handed on to the client's node is counted, not raised."""
    node, _, _ = await published(fleet)
    other = await fleet.node()
    client = other.client()
    payload = b"x" * fleet.nats.max_payload  # the most that a publisher outside may send
    fleet.nats.publish(TO.outside_client("to", node.id, client.id), payload)
    await fleet.quiet()
    assert fleet.nats.raised == []
    assert client.got == []


async def test_names_of_rooms(fleet: Fleet) -> None:
    """Each room has its own subject, whatever it is named: none matches another's."""
    node = await fleet.node()
    names = ["*", ">", "a.b", "x.all", "all", "hb", "👍", "y" * 1024]
    clients = {name: node.client(name) for name in names}
    await fleet.quiet()
    for name in names:
        fleet.nats.publish(TO.outside_room(room_token(name)), name.encode())
    await fleet.quiet()
    assert {name: client.got for name, client in clients.items()} == {n: [n] for n in names}
