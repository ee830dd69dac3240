"""rate_limit: a bucket of messages for each client, that refills evenly."""

from __future__ import annotations

import asyncio
from typing import Any

from boltws import Bolt
from boltws.client import FULL, RATE

from .flow import Clock, FakeClient, Start


def limited(start: Start, clock: Clock, **options: Any) -> tuple[FakeClient, list[Any]]:
    """A client of an endpoint with a rate limit, and when its messages were handled."""
    seen: list[Any] = []
    bolt = Bolt(**options)
    begin = clock.now
    bolt.ws("/p", None, lambda event: seen.append((event.message, clock.now - begin)))
    return start(bolt).connect(), seen


async def test_rate_drop(start: Start, clock: Clock) -> None:
    """A burst of `messages`, then one each time that the bucket has refilled by one."""
    client, seen = limited(start, clock, rate_limit=(2, 1), rate_policy="drop")
    client.says("a", "b", "c", "d")
    await asyncio.sleep(0.25)
    client.says("e")
    await asyncio.sleep(0.25)
    client.says("f", "g")
    assert seen == [("a", 0), ("b", 0), ("f", 0.5)]
    stats = client.hub.stats()
    assert (stats.dropped_in, stats.received) == ({"rate": 4}, 7)
    assert client.hub.dropped() == 0  # that counts full channels


async def test_the_bucket_does_not_overflow(start: Start, clock: Clock) -> None:
    """After a long silence a burst is no bigger than `messages`."""
    client, seen = limited(start, clock, rate_limit=(2, 1), rate_policy="drop")
    client.says("a")
    await asyncio.sleep(1000)
    client.says(*"bcde")
    assert [message for message, _ in seen] == ["a", "b", "c"]


async def test_rate_pause(start: Start, clock: Clock) -> None:
    """Reading waits for the bucket: all are handled, none sooner than the rate allows."""
    client, seen = limited(start, clock, rate_limit=(2, 1))
    client.says(*"abcde")
    assert client.held == RATE
    while len(seen) < 5:
        await asyncio.sleep(0.125)
    assert seen == [("a", 0), ("b", 0), ("c", 0.5), ("d", 1), ("e", 1.5)]
    assert client.hub.stats().dropped_in == {}


async def test_rate_close(start: Start, clock: Clock) -> None:
    """One too many ends the connection with 1008, and is counted as what it was."""
    client, seen = limited(start, clock, rate_limit=(2, 1), rate_policy="close")
    client.says("a", "b", "c", "d")
    assert client.closes == [(1008, "too many messages")]
    assert [message for message, _ in seen] == ["a", "b"]
    assert client.hub.stats().dropped_in == {"rate": 1, "closed": 1}
    await client.over.wait()


async def test_a_rate_is_per_client(start: Start, clock: Clock) -> None:
    """One client's messages use up no other's bucket."""
    client, seen = limited(start, clock, rate_limit=(1, 1), rate_policy="drop")
    other = FakeClient(client.hub, client.channel.endpoint)
    client.hub.add(other)
    client.says("a", "b")
    other.says("c", "d")
    assert [message for message, _ in seen] == ["a", "c"]
    other.leaves()
    await other.over.wait()


async def test_a_pause_for_two_reasons(start: Start, clock: Clock) -> None:
    """The rate's pause ends, the full channel's stands: reading goes on when both are over."""
    gate = asyncio.Event()
    bolt = Bolt(rate_limit=(4, 1), channel_capacity=2, overflow="pause")
    bolt.ws("/p", None, lambda: gate.wait())
    client = start(bolt).connect()
    client.says(*"abc", "d")
    assert client.held == FULL
    client.inbox.clear()
    client.channel.put(client, "d")  # came in the same read
    assert client.held == FULL | RATE
    await asyncio.sleep(1)
    assert client.held == FULL
    gate.set()
    await client.quiet()
    assert client.held == 0
    assert bolt.stats().handled == 4


async def test_a_client_gone_while_paused(start: Start, clock: Clock) -> None:
    """The end of the pause finds nothing to read on, and does no harm."""
    client, seen = limited(start, clock, rate_limit=(1, 1))
    client.says("a", "b")
    assert client.held == RATE
    client.leaves()
    await asyncio.sleep(10)
    assert seen == [("a", 0)]
    assert list(client.inbox) == ["b"]
