"""Clients that do not keep up: the limit, the burst within a turn, both policies, ws_drain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Bolt, NotRunning

from .flow import FakeClient, Flow, Start, turns

LIMIT = 1000
SMALL = b"x" * 98  # 100 bytes as a frame


def plain(**options: Any) -> Bolt:
    bolt = Bolt(send_buffer_limit=LIMIT, **options)
    bolt.ws("/p")
    return bolt


async def slow_client(bolt: Bolt, flow: Flow) -> FakeClient:
    """A client that is slow since an earlier turn."""
    client = flow.connect()
    client.stuck = True
    assert bolt.ws_send_binary_to(client.id, b"x" * LIMIT)
    assert client.slow
    await turns()
    return client


@pytest.mark.parametrize("policy", ["close", "drop"])
async def test_a_slow_client(start: Start, policy: Any) -> None:
    """The send that finds it slow in a later turn is refused, counted, and says so; then the
    client is closed with 1013, or kept."""
    bolt = plain(slow_consumer=policy)
    flow = start(bolt)
    client = await slow_client(bolt, flow)
    assert bolt.stats().slow_clients == 1
    assert not bolt.ws_send_to(client.id, "no")
    stats = bolt.stats()
    assert (stats.sends, stats.handed, dict(stats.dropped_out)) == (2, 1, {"slow": 1})
    if policy == "close":
        assert client.closes == [(1013, "slow consumer")]
        assert bolt.ws_client_list() == []
        assert stats.slow_clients == 0
        await client.over.wait()
    else:
        assert client.closes == []
        client.reads()
        assert bolt.stats().slow_clients == 0
        assert bolt.ws_send_to(client.id, "yes")
        assert client.got[1:] == ["yes"]


async def test_close_is_the_default(start: Start) -> None:
    """A client that does not keep up is parted with, unless the app wants otherwise."""
    bolt = plain()
    flow = start(bolt)
    client = await slow_client(bolt, flow)
    bolt.ws_broadcast("x")
    assert client.closes == [(1013, "slow consumer")]


async def test_slow_is_above_the_limit(start: Start) -> None:
    """Not at it."""
    bolt = plain()
    client = start(bolt).connect()
    client.stuck = True
    for _ in range(LIMIT // 100):
        bolt.ws_send_binary_to(client.id, SMALL)
    await turns()
    assert (client.unsent_bytes, client.slow) == (LIMIT, 0)
    bolt.ws_send_binary_to(client.id, b"")
    await turns()
    assert client.slow == 2


@pytest.mark.parametrize("opened_by", ["itself", "another", "a busy loop"])
async def test_a_burst_within_one_turn(start: Start, opened_by: str) -> None:
    """Nothing drains within a turn: a burst may go to 8 times the limit, however the turn
    began, and not beyond."""
    bolt = plain(slow_consumer="drop")
    flow = start(bolt)
    client, other = flow.connect(), flow.connect()
    if opened_by == "a busy loop":
        for _ in range(3):
            bolt.ws_send_to(other.id, "x")
        await asyncio.sleep(0)
    elif opened_by == "another":
        bolt.ws_send_to(other.id, "x")
    client.stuck = True
    taken = [bolt.ws_send_binary_to(client.id, SMALL) for _ in range(2 * 8 * LIMIT // 100)]
    assert taken == [True] * (8 * LIMIT // 100) + [False] * (8 * LIMIT // 100)
    assert client.unsent_bytes == 8 * LIMIT
    assert bolt.stats().dropped_out == {"slow": 8 * LIMIT // 100}
    await turns()
    assert not bolt.ws_send_to(client.id, "later")


async def test_a_broadcast_with_slow_members(start: Start) -> None:
    """The others get it; who is slow is closed when the round is over, and is in no room
    after it. The call says how many took it."""
    left: list[str] = []
    bolt = Bolt(send_buffer_limit=LIMIT)
    bolt.ws("/p", None, None, lambda event: left.append(event.client_id))
    flow = start(bolt)
    slow = [await slow_client(bolt, flow) for _ in range(2)]
    quick = [flow.connect() for _ in range(2)]
    for client in (slow[0], quick[0], slow[1], quick[1]):
        bolt.ws_room_join("a", client.id)
    assert bolt.ws_room_broadcast("a", "hi") == 2
    assert left == []  # not in the middle of whoever sends
    assert bolt.ws_room_members("a") == [client.id for client in quick]
    assert [client.got for client in quick] == [["hi"], ["hi"]]
    for client in slow:
        assert client.closes == [(1013, "slow consumer")]
        await client.over.wait()
    assert sorted(left) == sorted(client.id for client in slow)
    assert bolt.stats().dropped_out == {"slow": 2}


async def test_a_broadcast_to_all_with_slow_members(start: Start) -> None:
    """The list of all clients may change as little under the round."""
    bolt = plain()
    flow = start(bolt)
    clients = [await slow_client(bolt, flow) for _ in range(3)]
    quick = flow.connect()
    assert bolt.ws_broadcast("hi") == 1
    assert bolt.ws_client_list() == [quick.id]
    for client in clients:
        await client.over.wait()


# ws_drain.


async def test_drain(start: Start) -> None:
    """It returns at once for a client that keeps up, else when the client does again."""
    bolt = plain()
    flow = start(bolt)
    client = await slow_client(bolt, flow)
    quick = flow.connect()
    assert await bolt.ws_drain(quick.id) is True
    waiting = [asyncio.ensure_future(bolt.ws_drain(client.id)) for _ in range(2)]
    await turns()
    assert not any(task.done() for task in waiting)
    client.reads()
    assert await asyncio.gather(*waiting) == [True, True]


async def test_drain_of_a_client_that_goes(start: Start) -> None:
    """It returns False, for one that was never there too."""
    bolt = plain()
    flow = start(bolt)
    client = await slow_client(bolt, flow)
    waiting = asyncio.ensure_future(bolt.ws_drain(client.id))
    await turns()
    client.vanish()
    assert await waiting is False
    assert await bolt.ws_drain(client.id) is False
    assert await bolt.ws_drain("nobody") is False


async def test_a_drain_that_is_cancelled(start: Start) -> None:
    """Whoever else waits is not disturbed."""
    bolt = plain()
    flow = start(bolt)
    client = await slow_client(bolt, flow)
    waiting = [asyncio.ensure_future(bolt.ws_drain(client.id)) for _ in range(2)]
    await turns()
    waiting[0].cancel()
    await turns()
    assert len(flow.hub._drains[client]) == 1  # nothing is kept of it
    client.reads()
    assert await waiting[1] is True


async def test_drain_is_for_the_loop(start: Start) -> None:
    """Elsewhere, and before the start, it raises."""
    bolt = plain()
    with pytest.raises(NotRunning):
        await bolt.ws_drain("nobody")
    flow = start(bolt)
    client = flow.connect()
    with pytest.raises(NotRunning, match="event loop only"):
        await asyncio.to_thread(lambda: asyncio.run(bolt.ws_drain(client.id)))
