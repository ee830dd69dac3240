"""Sending: to one, to a room, to all; what is taken, what is dropped, and that it is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltws import Bolt

from .flow import Flow, Start, turns


def plain() -> Bolt:
    bolt = Bolt()
    bolt.ws("/p")
    return bolt


# Messages.


async def test_one_message_to_one_client(start: Start) -> None:
    """Text and binary; the books say what went out, in bytes of frames."""
    bolt = plain()
    client = start(bolt).connect()
    assert bolt.ws_send_to(client.id, "hé")
    assert bolt.ws_send_binary_to(client.id, b"\x00\xff")
    assert bolt.ws_send_binary_to(client.id, "AP8=")
    assert client.got == ["hé", b"\x00\xff", b"\x00\xff"]
    stats = bolt.stats()
    assert (stats.sends, stats.handed, stats.bytes_out) == (3, 3, 5 + 4 + 4)


async def test_a_client_that_is_not_there(start: Start) -> None:
    """The call says so, and the ledger."""
    bolt = plain()
    start(bolt)
    assert not bolt.ws_send_to("nobody", "x")
    assert not bolt.ws_send_binary_to("nobody", b"x")
    assert bolt.stats().dropped_out == {"no_client": 2}
    assert bolt.stats().sends == 2


@pytest.mark.parametrize("message", [b"x", None, 1, ["x"]])
async def test_a_text_is_a_str(start: Start, message: Any) -> None:
    """Another type is a TypeError in each operation, and no send."""
    bolt = plain()
    client = start(bolt).connect()
    calls: list[Callable[[], Any]] = [
        lambda: bolt.ws_send_to(client.id, message),
        lambda: bolt.ws_broadcast(message),
        lambda: bolt.ws_room_broadcast("a", message),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()
    assert bolt.stats().sends == 0


async def test_what_cannot_be_encoded(start: Start) -> None:
    """A lone surrogate and bad base64 are ValueErrors, and no send."""
    bolt = plain()
    client = start(bolt).connect()
    calls: list[Callable[[], Any]] = [
        lambda: bolt.ws_send_to(client.id, "\ud800"),
        lambda: bolt.ws_broadcast("\ud800"),
        lambda: bolt.ws_send_binary_to(client.id, "***"),
        lambda: bolt.ws_broadcast_binary("***"),
        lambda: bolt.ws_room_broadcast_binary("a", "***"),
    ]
    for call in calls:
        with pytest.raises(ValueError):  # noqa: PT011  frames says which
            call()
    assert (bolt.stats().sends, client.frames) == (0, [])


async def test_a_mutable_buffer_is_copied(start: Start) -> None:
    """What the caller does to it afterwards, in the same turn too, changes nothing."""
    bolt = plain()
    client = start(bolt).connect()
    buffer = bytearray(b"one")
    bolt.ws_send_binary_to(client.id, buffer)
    buffer[:] = b"two"
    bolt.ws_broadcast_binary(memoryview(buffer))
    buffer[:] = b"end"
    await turns()
    assert client.got == [b"one", b"two"]


async def test_a_message_is_encoded_once(start: Start) -> None:
    """All members get the very same bytes."""
    bolt = plain()
    flow = start(bolt)
    clients = [flow.connect() for _ in range(3)]
    bolt.ws_broadcast("hi")
    assert len({id(client.frames[0]) for client in clients}) == 1


# Broadcasts.


async def test_broadcasts(start: Start) -> None:
    """To a room or to all; the call says how many took it, the ledger counts each of them."""
    bolt = plain()
    flow = start(bolt)
    clients = [flow.connect() for _ in range(3)]
    for client in clients[:2]:
        bolt.ws_room_join("a", client.id)
    assert bolt.ws_room_broadcast("a", "room") == 2
    assert bolt.ws_room_broadcast_binary("a", b"\x01") == 2
    assert bolt.ws_broadcast("all") == 3
    assert bolt.ws_broadcast_binary("AQ==") == 3
    assert bolt.ws_room_broadcast("none", "x") == 0
    assert [client.got for client in clients] == [
        ["room", b"\x01", "all", b"\x01"],
        ["room", b"\x01", "all", b"\x01"],
        ["all", b"\x01"],
    ]
    stats = bolt.stats()
    assert (stats.sends, stats.handed, stats.bytes_out) == (10, 10, 2 * 6 + 5 * 3 + 3 * 5)


@pytest.mark.parametrize(
    ("exclude", "wanted"),
    [
        ((), [0, 1, 2]),
        (None, [0, 1, 2]),
        ("0", [1, 2]),
        (["0", "2"], [1]),
        ({"1"}, [0, 2]),
        ({"1": True}.keys(), [0, 2]),
        (iter(["0", "1", "2"]), []),
        (["nobody"], [0, 1, 2]),
        ("nobody", [0, 1, 2]),
        (["0", "0"], [1, 2]),
        (["outside"], [0, 1, 2]),
    ],
)
async def test_exclude(start: Start, exclude: Any, wanted: list[int]) -> None:
    """One id, or any iterable of ids; those that are not members are nothing to it."""
    bolt = plain()
    flow = start(bolt)
    clients = [flow.connect() for _ in range(3)]
    outside = flow.connect()
    ids = {str(number): client.id for number, client in enumerate(clients)}
    ids["outside"] = outside.id
    for client in clients:
        bolt.ws_room_join("a", client.id)
    if isinstance(exclude, str):
        exclude = ids.get(exclude, exclude)
    elif exclude is not None:
        kind = type(exclude) if isinstance(exclude, (list, set, tuple)) else iter
        exclude = kind([ids.get(e, e) for e in exclude])
    assert bolt.ws_room_broadcast("a", "x", exclude) == len(wanted)
    assert [number for number, client in enumerate(clients) if client.got] == wanted
    assert outside.got == []
    assert bolt.stats().sends == len(wanted)


# Order.

steps = st.lists(
    st.sampled_from(["direct", "room", "all", "binary", "turn"]), min_size=1, max_size=20
)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_what_one_caller_sends_arrives_in_order(steps: list[str]) -> None:
    """Whatever mix of direct, room and global sends it was, over however many turns."""

    async def main() -> None:
        bolt = plain()
        flow = Flow(bolt)
        client, other = flow.connect(), flow.connect()
        bolt.ws_room_join("a", client.id)
        wanted: list[str | bytes] = []
        for number, step in enumerate(steps):
            text = str(number)
            if step == "turn":
                bolt.ws_send_to(other.id, "opens a turn")
                await asyncio.sleep(0)
                continue
            if step == "direct":
                bolt.ws_send_to(client.id, text)
            elif step == "room":
                bolt.ws_room_broadcast("a", text)
            elif step == "all":
                bolt.ws_broadcast(text)
            else:
                bolt.ws_send_binary_to(client.id, text.encode())
            wanted.append(text.encode() if step == "binary" else text)
            assert client.got == wanted
        await turns()
        assert client.got == wanted
        assert client.pending is None
        await flow.end()

    asyncio.run(main())


async def test_all_is_written_at_the_end_of_the_turn(start: Start) -> None:
    """What is gathered waits for nothing else, whoever opened the turn."""
    bolt = plain()
    flow = start(bolt)
    clients = [flow.connect() for _ in range(3)]
    for _ in range(3):
        for number in range(4):
            bolt.ws_send_to(clients[number % 3].id, str(number))
            bolt.ws_broadcast("all")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [client.pending for client in clients] == [None] * 3
    assert sum(len(client.got) for client in clients) == bolt.stats().handed == 3 * (4 + 12)


async def test_a_burst_takes_one_write(start: Start) -> None:
    """A system call costs more than a message: those of one turn go out together."""
    bolt = plain()
    client = start(bolt).connect()
    for number in range(9):
        bolt.ws_send_to(client.id, str(number))
    await turns()
    assert client.got == [str(number) for number in range(9)]
    assert len(client.frames) == 2  # the first at once, as a turn has mostly one


async def test_a_close_comes_behind_what_was_sent(start: Start) -> None:
    """All that a handler sent before it closed goes out first."""
    bolt = plain()
    client = start(bolt).connect()
    for text in "abc":
        bolt.ws_send_to(client.id, text)
    bolt.ws_close_client(client.id)
    assert client.pending is None
    assert client.got == ["a", "b", "c"]
    assert bolt.stats().handed == 3


async def test_lost_in_the_same_turn(start: Start) -> None:
    """What was gathered for a connection that is lost before the turn's end was not handed over,
    and is counted as lost."""
    bolt = plain()
    client = start(bolt).connect()
    for text in "abc":
        assert bolt.ws_send_to(client.id, text)
    client.vanish()
    await turns()
    stats = bolt.stats()
    assert (stats.sends, stats.handed, dict(stats.dropped_out)) == (3, 1, {"lost": 2})
    assert [client.got, len(client.frames)] == [["a"], 1]
    assert stats.imbalance() == ""


def test_a_turn_that_its_loop_did_not_end() -> None:
    """A loop that ended with a turn open leaves nothing of it to the next one."""
    bolt = plain()

    async def first() -> None:
        client = Flow(bolt).connect()
        # The last thing that this loop does: what it calls for the next turn never comes.
        asyncio.get_running_loop().call_soon(bolt.ws_send_to, client.id, "x")

    async def second() -> None:
        flow = Flow(bolt)
        client = flow.connect()
        bolt.ws_send_to(client.id, "a")
        bolt.ws_send_to(client.id, "b")
        await turns()
        assert len(client.frames) == 2
        assert client.got == ["a", "b"]
        await flow.end()

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(first())
    assert bolt.stats().handed == 1
    asyncio.run(second())
