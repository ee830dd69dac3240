"""Bytes that are no message: counted, never raised, and no client gets any of them.

What a handler raises is logged with a traceback and counted by nobody, so every test here ends
with "no handler raised" (see the fixture) and with a count.
"""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

import pytest

from boltws.backplane import envelope
from boltws.backplane.questions import answer_parts
from boltws.backplane.subjects import room_token

from ..flow import FakeClient
from .fleet import Fleet, Node, beat, head

PEER = "ffffffffff"


async def one_node(fleet: Fleet) -> tuple[Node, FakeClient]:
    node = await fleet.node()
    client = node.client("blue", "x" * 200)
    await fleet.quiet()
    return node, client


def subjects(node: Node) -> dict[str, str]:
    """A subject of each subscription that nodes publish to."""
    every = node.backplane.subjects
    return {
        "room": every.room(room_token("blue")),
        "long room": every.room(room_token("x" * 200)),
        "everyone": every.everyone,
        "node": every.node(node.id),
        "heartbeat": every.heartbeats,
    }


WHERE = ["room", "long room", "everyone", "node", "heartbeat"]


async def bad(fleet: Fleet, node: Node, subject: str, *payloads: bytes) -> None:
    """Each is counted as a bad message; the node serves on."""
    for number, payload in enumerate(payloads, 1):
        fleet.nats.publish(subject, payload)
        await fleet.quiet()
        raised, fleet.nats.raised = fleet.nats.raised, []
        assert raised == [], payload
        assert node.stats.backplane_dropped == {"bad_message": number}, payload


@pytest.mark.parametrize("where", WHERE)
async def test_no_envelope(fleet: Fleet, where: str) -> None:
    """Too short for a head, or of another version: a future one too."""
    node, client = await one_node(fleet)
    whole = head(envelope.ROOM)
    future = head(envelope.ROOM, version=envelope.VERSION + 1) + b"x"
    ancient = head(envelope.ROOM, version=0) + b"x"
    short = [whole[:size] for size in range(envelope.SIZE)]
    await bad(fleet, node, subjects(node)[where], future, ancient, b"{}", *short)
    assert client.got == []
    assert node.stats.backplane_received == 0


@pytest.mark.parametrize("where", WHERE)
async def test_operations_of_other_subjects(fleet: Fleet, where: str) -> None:
    """An operation that means nothing there, or nothing yet, is ignored."""
    node, client = await one_node(fleet)
    meant = {"everyone": {2, 7}, "node": {3, 4, 5, 6, 8}, "heartbeat": {9, 10}}.get(where, {1})
    for operation in {0, 11, 99, 255, *range(1, 11)} - meant:
        fleet.nats.publish(subjects(node)[where], head(operation) + b"payload")
    await fleet.quiet()
    assert client.got == []
    assert node.bolt.ws_client_list() == [client.id]
    assert node.backplane.peers.live(asyncio.get_running_loop().time()) == []


@pytest.mark.parametrize("exclude", [False, True])
async def test_extras_cut_off(fleet: Fleet, exclude: bool) -> None:
    """A room broadcast that ends before its payload begins comes to nobody, and is counted."""
    node, client = await one_node(fleet)
    flags = envelope.NAME | envelope.EXCLUDE * exclude
    whole = head(envelope.ROOM, flags)
    whole += envelope.pack_exclude([client.id.replace("0", "1")] * 2) * exclude
    whole += envelope.pack_name("x" * 200)
    cut = [whole[:size] for size in range(envelope.SIZE, len(whole))]
    await bad(fleet, node, subjects(node)["long room"], *cut)
    assert client.got == []


NO_OBJECT = [b"", b"{", b"null", b"[]", b"1", b'"x"', b"\xff", b"{}", b"[" * 100_000]
WHOLE_BEAT: dict[str, Any] = {
    "hello": False,
    "series": 9,
    "sequences": {"all": [3, 9]},
    "more": False,
    "new": [],
}
BEATS: list[Any] = [
    *({key: value for key, value in WHOLE_BEAT.items() if key != left} for left in WHOLE_BEAT),
    *({**WHOLE_BEAT, "series": series} for series in (None, "9", 9.0, True, [], [9], {})),
    *({**WHOLE_BEAT, "sequences": sequences} for sequences in (None, [], [["all", [3, 9]]], 1)),
    *(
        {**WHOLE_BEAT, "sequences": {"all": told}}
        for told in (
            *(1, [], [3], [3, 9, 9], ["3", "9"], [None, 9], [3, 9.5], [3, True], [[], {}]),
            *("xy", None, {"3": 9}),
        )
    ),
]


@pytest.mark.parametrize("told", [*NO_OBJECT, *BEATS], ids=lambda told: str(told)[:80])
async def test_heartbeats(fleet: Fleet, told: Any) -> None:
    """JSON of any other shape is counted, and makes nobody a live node."""
    node, _ = await one_node(fleet)
    fleet.nats.publish("boltws.hb", beat("eeeeeeeeee", all=[3, 4]))  # numbers to compare with
    await fleet.quiet()
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    known = head(envelope.BEAT, node="eeeeeeeeee") + body
    await bad(fleet, node, "boltws.hb", known, head(envelope.BEAT) + body)
    now = asyncio.get_running_loop().time()
    assert node.backplane.peers.live(now) == ["eeeeeeeeee"]
    assert node.stats.backplane_lost == 0


WHOLE_ANSWER: dict[str, Any] = {"to": 1, "value": 1, "part": 0, "more": False}
ANSWERS: list[Any] = [
    *({key: value for key, value in WHOLE_ANSWER.items() if key != left} for left in WHOLE_ANSWER),
    {**WHOLE_ANSWER, "to": []},
    {**WHOLE_ANSWER, "to": {}},
]


@pytest.mark.parametrize("told", [*NO_OBJECT, *ANSWERS], ids=lambda told: str(told)[:80])
async def test_answers(fleet: Fleet, told: Any) -> None:
    """An answer of any other shape is counted."""
    node, _ = await one_node(fleet)
    fleet.nats.publish("boltws.hb", beat())
    await fleet.quiet()
    asking = asyncio.ensure_future(node.bolt.cluster.connection_count(timeout=0.2))
    await fleet.quiet()
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    await bad(fleet, node, subjects(node)["node"], head(envelope.ANSWER) + body)
    assert await asking == (1, False, (PEER,))


@pytest.mark.parametrize(
    ("ask", "value"),
    [
        ("connection_count", "x"),
        ("connection_count", None),
        ("client_list", 1),
        ("client_list", [1]),
        ("client_list", {}),
        ("nodes", 1),
        ("nodes", {}),
    ],
)
async def test_answers_of_another_kind(fleet: Fleet, ask: str, value: Any) -> None:
    """A node that answers something else has not answered; no question raises for it."""
    node, client = await one_node(fleet)
    fleet.nats.publish("boltws.hb", beat())
    await fleet.quiet()
    asking = asyncio.ensure_future(getattr(node.bolt.cluster, ask)(timeout=0.2))
    await fleet.quiet()
    for part in answer_parts(1, value):
        fleet.nats.publish(subjects(node)["node"], head(envelope.ANSWER) + part)
    answered = await asking
    assert (answered.complete, answered.missing) == (False, (PEER,))
    assert answered.value in (1, [client.id], (await node.bolt.cluster.nodes(timeout=0)).value)


QUESTIONS: list[Any] = [
    {"kind": "room_count", "room": "blue"},
    {"number": 1},
    {"number": 1, "kind": []},
    {"number": 1, "kind": "of the future"},
    {"number": 1, "kind": "room_count"},
    {"number": 1, "kind": "room_count", "room": []},
    {"number": 1, "kind": "room_count", "room": "blue", "more": 1},
    {"number": 1, "kind": "client_list", "limit": "x", "after": ""},
    {"number": 1, "kind": "client_list", "limit": 1, "after": 5},
    {"number": 1, "kind": "client_list", "limit": None, "after": None},
    {"number": 1, "kind": "join"},
]


@pytest.mark.parametrize("asked", [*NO_OBJECT, *QUESTIONS], ids=lambda asked: str(asked)[:60])
async def test_questions(fleet: Fleet, asked: Any) -> None:
    """A question of any other shape, or of a newer version, is counted and not answered."""
    node, _ = await one_node(fleet)
    body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    fleet.nats.posted.clear()
    await bad(fleet, node, "boltws.all", head(envelope.ASK) + body)
    assert fleet.nats.on("") == []


@pytest.mark.parametrize(
    "about",
    [{}, {"room": "blue"}, {"room": "", "client_id": 0}, {"room": [], "client_id": 0}, {"room": 5}],
    ids=str,
)
async def test_join_questions(fleet: Fleet, about: dict[str, Any]) -> None:
    """A question to join that lacks what it needs is counted."""
    node, client = await one_node(fleet)
    if "client_id" in about:
        about = {**about, "client_id": client.id}
    asked = {"number": 1, "kind": "join", "node": node.id, **about}
    await bad(fleet, node, "boltws.all", head(envelope.ASK) + json.dumps(asked).encode())


async def test_operations_cut_off(fleet: Fleet) -> None:
    """What is for one client and has no whole id is counted."""
    node, client = await one_node(fleet)
    name = envelope.pack_id(client.id)
    for_one = [envelope.SEND, envelope.CLOSE, envelope.JOIN, envelope.LEAVE]
    cut = [head(operation) + name[:size] for operation in for_one for size in range(16)]
    await bad(fleet, node, subjects(node)["node"], *cut)
    assert (client.got, client.closes) == ([], [])


@pytest.mark.parametrize("room", [b"", b"\xff", b"x" * 1025])
async def test_rooms_that_cannot_be(fleet: Fleet, room: bytes) -> None:
    """A client is put into no room that has no name, or one that cannot be read."""
    node, client = await one_node(fleet)
    body = envelope.pack_id(client.id) + room
    to = subjects(node)["node"]
    await bad(fleet, node, to, head(envelope.JOIN) + body, head(envelope.LEAVE) + body)
    assert node.stats.rooms == 2


@pytest.mark.parametrize(
    "close",
    [b"", b"\x03", b"\0\0", b"\x03\xed", b"\xff\xff", b"\x03\xe8\xff", b"\x03\xe8" + b"x" * 124],
)
async def test_closes_that_cannot_be(fleet: Fleet, close: bytes) -> None:
    """A close that no frame may carry (RFC 6455, section 7.4) reaches no client."""
    node, client = await one_node(fleet)
    body = envelope.pack_id(client.id) + close
    await bad(fleet, node, subjects(node)["node"], head(envelope.CLOSE) + body)
    assert client.closes == []


async def test_anything_from_anybody(fleet: Fleet) -> None:
    """Random bytes, behind a head or not, on every subscription: nothing is raised."""
    node, client = await one_node(fleet)
    every = [*subjects(node).values(), "boltws.x.all", f"boltws.x.close.{node.id}.{client.id}"]
    # Questions, answers and heartbeats have tests of their own, which say what is wrong.
    operations = set(range(256)) - {envelope.ASK, envelope.ANSWER, envelope.BEAT}
    random = Random(1)
    for _ in range(100):
        data = random.randbytes(random.randrange(60))
        for subject in every:
            operation = random.choice([*operations, *range(1, 7), *range(1, 7)])
            if data[1:2] not in (b"\7", b"\10", b"\11"):
                fleet.nats.publish(subject, data)
            fleet.nats.publish(subject, head(operation, random.randrange(8)) + data)
    await fleet.quiet()
    assert fleet.nats.raised == []
