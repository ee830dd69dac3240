"""The event channel's bounds: what happens when it is full, or fed too fast."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boltws import Bolt, Event
from boltws.client import FULL
from boltws.options import Overflow

from .flow import Flow, Start, turns_until

POLICIES: list[Overflow] = ["drop", "drop_oldest", "pause", "close"]
_HOLD = "hold"


class Held:
    """A client whose handler waits at its first message until the test lets it go on."""

    def __init__(self, **options: Any) -> None:
        self.gate = asyncio.Event()
        self.seen: list[Any] = []
        self.bolt = Bolt(**options)
        self.bolt.ws("/p", None, self.said, lambda event: self.seen.append("left"))
        self.flow = Flow(self.bolt)
        self.client = self.flow.connect()
        self.client.says(_HOLD)

    async def said(self, event: Event) -> None:
        if event.message == _HOLD:
            await self.gate.wait()
        else:
            self.seen.append(event.data)

    async def let_go(self) -> None:
        self.gate.set()
        await self.client.quiet()


@asynccontextmanager
async def held(**options: Any) -> AsyncIterator[Held]:
    it = Held(**options)
    try:
        yield it
    finally:
        it.gate.set()
        await it.flow.end()


async def test_drop() -> None:
    """The newest is dropped and counted; what waits is handled in order."""
    async with held(channel_capacity=3) as it:
        it.client.says(*"abcdef")
        assert it.bolt.ws_dropped_count() == 3
        stats = it.bolt.stats()
        assert (stats.waiting, stats.running, stats.received) == (3, 1, 7)
        await it.let_go()
        assert it.seen == ["a", "b", "c"]
        assert it.bolt.stats().dropped_in == {"overflow": 3}
        it.client.says("g")  # there is room again
        await it.client.quiet()
        assert it.seen[3:] == ["g"]


async def test_drop_oldest() -> None:
    """The oldest that waits makes room for the newest; what runs is not touched."""
    async with held(channel_capacity=3, overflow="drop_oldest") as it:
        it.client.says(*"abcdef")
        assert it.bolt.ws_dropped_count() == 3
        await it.let_go()
        assert it.seen == ["d", "e", "f"]


async def test_close() -> None:
    """The connection ends with 1013; what waited is handled, then `disconnect`."""
    async with held(channel_capacity=2, overflow="close") as it:
        it.client.says(*"abcd")
        assert it.client.closes == [(1013, "event channel full")]
        assert it.bolt.ws_client_list() == []
        await it.let_go()
        assert it.seen == ["a", "b", "left"]
        assert it.bolt.stats().dropped_in == {"overflow": 1, "closed": 1}
        assert it.bolt.stats().closed == {1013: 1}


async def test_pause() -> None:
    """Reading stops when the channel is full and goes on when it is half empty: nothing is
    lost, and the peer is not started and stopped for each message."""
    async with held(channel_capacity=4, overflow="pause") as it:
        it.client.says(*"abcdefghij")
        assert it.client.held == FULL
        assert it.bolt.stats().waiting == 4
        assert list(it.client.inbox) == list("efghij")
        await it.let_go()
        assert it.seen == list("abcdefghij")
        assert it.client.held == 0
        assert (it.bolt.ws_dropped_count(), it.bolt.stats().received) == (0, 11)


@pytest.mark.parametrize(("capacity", "released_at"), [(4, 2), (5, 2), (2, 1), (1, 0), (256, 128)])
async def test_the_pause_ends_at_half(start: Start, capacity: int, released_at: int) -> None:
    """The hold stands until no more than half of the capacity waits."""
    steps = asyncio.Queue[None]()
    bolt = Bolt()
    bolt.ws("/p", None, lambda: steps.get(), channel_capacity=capacity, overflow="pause")
    client = start(bolt).connect()
    client.says(*["x"] * (capacity + 1))
    assert client.held == FULL
    for waiting in range(capacity, 0, -1):
        assert bolt.stats().waiting == waiting
        assert (client.held == FULL) == (waiting > released_at)
        steps.put_nowait(None)
        await turns_until(partial(has_less, bolt, waiting))
    assert client.held == 0
    steps.put_nowait(None)
    await client.quiet()


def has_less(bolt: Bolt, waiting: int) -> bool:
    return bolt.stats().waiting < waiting


def has_handled(bolt: Bolt, count: int) -> bool:
    return bolt.stats().handled >= count


async def test_the_pause_ends_at_half_of_the_bytes_too() -> None:
    """Both bounds must leave room: few but big messages keep reading on hold."""
    steps = asyncio.Queue[None]()
    bolt = Bolt()
    bolt.ws("/p", None, lambda: steps.get(), channel_bytes=10, overflow="pause")
    flow = Flow(bolt)
    client = flow.connect()
    client.says("x", "aa", "bb", "cccccc", "not read")
    held = []
    for _ in range(5):
        held.append((client.held, client.waiting_bytes))
        handled = bolt.stats().handled
        steps.put_nowait(None)
        await turns_until(partial(has_handled, bolt, handled + 1))
    assert held[:3] == [(FULL, 10), (FULL, 8), (FULL, 6)]
    assert held[3][0] == 0
    assert bolt.stats().handled == 5
    await flow.end()


# Bytes.


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        (["12345", "67890", "x"], ["12345", "67890"]),
        (["é" * 5, "x"], ["é" * 5]),  # counted as they travel, in UTF-8
        (["é" * 4, "€"], ["é" * 4]),
        ([b"12345", "67890", b"x"], [b"12345", "67890"]),
        (["x" * 11], ["x" * 11]),  # one that is too big for any channel is not refused for ever
        (["x" * 11, "y"], ["x" * 11]),
        (["1", "x" * 10, "2"], ["1", "2"]),
        (["1", "x" * 9, ""], ["1", "x" * 9, ""]),
    ],
)
async def test_bytes(messages: Sequence[str | bytes], kept: Sequence[str | bytes]) -> None:
    """No more than `channel_bytes` wait, whatever the count."""
    async with held(channel_bytes=10) as it:
        it.client.says(*messages)
        assert it.bolt.ws_dropped_count() == len(messages) - len(kept)
        await it.let_go()
        assert it.seen == kept


async def test_drop_oldest_makes_room_in_bytes() -> None:
    """A big one may need the room of several, and no more than that are dropped."""
    async with held(channel_bytes=10, overflow="drop_oldest") as it:
        it.client.says("aaa", "bbb", "ccc", "dddd")
        assert it.bolt.ws_dropped_count() == 1
        it.client.says("x" * 6)
        assert it.bolt.ws_dropped_count() == 3
        it.client.says("y" * 20)
        assert it.bolt.ws_dropped_count() == 5
        await it.let_go()
        assert it.seen == ["y" * 20]


async def test_close_and_pause_count_bytes() -> None:
    """As the other policies do."""
    async with held(channel_bytes=10, overflow="close") as it:
        it.client.says("x" * 8, "yyy")
        assert it.client.closes == [(1013, "event channel full")]
    async with held(channel_bytes=10, overflow="pause") as it:
        it.client.says("x" * 8, "yyy", "z")
        assert it.client.held == FULL
        assert list(it.client.inbox) == ["z"]
        await it.let_go()
        assert it.seen == ["x" * 8, "yyy", "z"]


def model(
    policy: Overflow, capacity: int, limit: int, messages: list[bytes]
) -> tuple[list[bytes], int]:
    """What waits in the end and how many were dropped, by the letter of the rules."""
    waiting: list[bytes] = []
    dropped = 0

    def fits(message: bytes) -> bool:
        return len(waiting) < capacity and (
            not waiting or sum(map(len, waiting)) + len(message) <= limit
        )

    for message in messages:
        while policy == "drop_oldest" and not fits(message):
            del waiting[0]
            dropped += 1
        if fits(message):
            waiting.append(message)
        else:
            dropped += 1
    return waiting, dropped


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["drop", "drop_oldest"]),
    st.integers(1, 5),
    st.integers(1, 12),
    st.lists(st.binary(max_size=14), max_size=12),
)
def test_any_messages(policy: Overflow, capacity: int, limit: int, messages: list[bytes]) -> None:
    """What is kept and what is dropped, for any sizes and bounds."""

    async def main() -> None:
        options = {"overflow": policy, "channel_capacity": capacity, "channel_bytes": limit}
        async with held(**options) as it:
            it.client.says(*messages)
            kept, dropped = model(policy, capacity, limit, messages)
            assert it.bolt.ws_dropped_count() == dropped
            assert it.bolt.stats().imbalance() == ""
            await it.let_go()
            assert it.seen == kept
            assert it.client.waiting_bytes == 0

    asyncio.run(main())


# What is never dropped, and who never pays.


@pytest.mark.parametrize("policy", POLICIES)
async def test_disconnect_is_never_dropped(policy: Overflow) -> None:
    """It has its place behind a full channel, whatever the policy."""
    async with held(channel_capacity=1, overflow=policy) as it:
        it.client.says("a", "b", "c")
        it.client.leaves()
        assert it.bolt.stats().waiting == 1
        await it.let_go()
        assert it.seen[-1] == "left"
        assert it.seen.count("left") == 1
        assert it.client.over.is_set()


async def test_a_full_channel_behind_connect(start: Start) -> None:
    """The bounds hold from the first message on, while `on_connect` still runs."""
    gate = asyncio.Event()
    seen: list[str] = []
    bolt = Bolt(channel_capacity=1)
    bolt.ws("/p", lambda: gate.wait(), lambda event: seen.append(event.message))
    client = start(bolt).connect()
    client.says("a", "b")
    gate.set()
    await client.quiet()
    assert (seen, bolt.ws_dropped_count()) == (["a"], 1)


@pytest.mark.parametrize("policy", POLICIES)
async def test_a_flood_costs_no_other_client(start: Start, policy: Overflow) -> None:
    """Each client has a channel of its own."""
    gate = asyncio.Event()
    seen: list[str] = []
    bolt = Bolt(channel_capacity=2, overflow=policy)

    async def said(event: Event) -> None:
        if event.message == "flood":
            await gate.wait()
        else:
            seen.append(event.message)

    bolt.ws("/p", None, said)
    flow = start(bolt)
    flooding, other = flow.connect(), flow.connect()
    flooding.says(*["flood"] * 10)
    for message in "abcd":
        other.says(message)
        await other.quiet()
    assert seen == list("abcd")
    gate.set()


async def test_each_endpoint_has_its_own_bounds(start: Start) -> None:
    """An endpoint's option stands over its Bolt's."""
    gate = asyncio.Event()
    bolt = Bolt(channel_capacity=1)
    bolt.ws("/p", None, lambda: gate.wait())
    bolt.ws("/q", None, lambda: gate.wait(), channel_capacity=3)
    flow = start(bolt)
    for path in ("/p", "/q"):
        flow.connect(path).says(*"abcde")
    assert bolt.ws_dropped_count() == 3 + 1
    gate.set()


async def test_what_comes_after_the_close_is_counted(start: Start) -> None:
    """Messages that were on their way when the server closed: "closed", and not handled."""
    seen: list[str] = []
    bolt = Bolt(rate_limit=(1, 1000), rate_policy="drop")
    bolt.ws("/p", None, lambda event: seen.append(event.message))
    client = start(bolt).connect()
    client.silent = True
    bolt.ws_close_client(client.id)
    client.says("a", "b", "c")
    await client.over.wait()
    assert seen == []
    assert bolt.stats().dropped_in == {"closed": 3}
    client.vanish()
