"""Clients that do not read: how much is kept for them, what they miss, and that it is counted."""

from __future__ import annotations

import asyncio

import pytest

from boltws import Event

from ..fakes import in_virtual_time, passing, turn
from .helpers import Peer, Served, serving, text

LIMIT = 2**17
PIECE = 2**14 - 4  # with its header a frame is an eighth of the limit
FRAME = 2**14


def flood(served: Served, peer: Peer, count: int) -> list[bool]:
    """Send so many pieces within this turn. Which of them were taken."""
    return [served.bolt.ws_send_to(peer.id, "x" * PIECE) for _ in range(count)]


async def slow_client(served: Served) -> Peer:
    """A client that is slow since an earlier turn, with twice the limit unsent."""
    peer = served.connect()
    peer.transport.stall()
    assert all(flood(served, peer, 16))
    await turn()
    await turn()
    assert peer.transport.unsent == 2 * LIMIT
    assert served.stats.slow_clients == 1
    return peer


@in_virtual_time
async def test_at_the_limit_a_client_is_not_slow() -> None:
    """`send_buffer_limit` may be unsent; one byte more makes a client slow."""
    async with serving(send_buffer_limit=LIMIT) as served:
        peer = served.connect()
        peer.transport.stall()
        flood(served, peer, 8)
        await turn()
        assert peer.transport.unsent == LIMIT
        assert served.stats.slow_clients == 0
        served.bolt.ws_send_to(peer.id, "")
        await turn()
        assert served.stats.slow_clients == 1
        peer.assert_open()


@pytest.mark.parametrize("policy", ["close", "drop"])
@in_virtual_time
async def test_a_burst_in_one_turn_goes_to_eight_times_the_limit(policy: str) -> None:
    """Nothing drains within a turn, so a burst is taken up to the cap and refused beyond it: 64
    frames of an eighth of the limit, not one more."""
    async with serving(send_buffer_limit=LIMIT, slow_consumer=policy) as served:
        peer = served.connect()
        peer.transport.stall()
        taken = flood(served, peer, 70)
        assert taken == [True] * 64 + [False] * 6
        assert sum(len(sent.payload) for sent in peer.frames if sent.opcode == 1) == 64 * PIECE
        assert served.stats.sends == 70
        assert served.stats.handed == 64
        refused = {"drop": {"slow": 6}, "close": {"slow": 1, "no_client": 5}}
        assert served.stats.dropped_out == refused[policy]


@in_virtual_time
async def test_the_next_turn_closes_who_is_still_slow() -> None:
    """By default the first send that finds a client slow since an earlier turn ends it with 1013:
    it is refused, counted, and the call says so."""
    async with serving(send_buffer_limit=LIMIT) as served:
        peer = await slow_client(served)
        assert served.bolt.ws_send_to(peer.id, "one too many") is False
        peer.assert_sent_close(1013, "slow consumer")
        stats = served.stats
        assert (stats.sends, stats.handed, stats.dropped_out) == (17, 16, {"slow": 1})
        assert stats.slow_clients == 0
        await passing(served.runtime.options.close_timeout + 0.1)
        assert peer.transport.aborted and peer.transport.lost
    assert peer.events == ["connect", ("disconnect", 1013)]


@in_virtual_time
async def test_who_is_not_sent_to_may_be_slow() -> None:
    """Being slow alone ends nobody."""
    async with serving(send_buffer_limit=LIMIT, ping_interval=None) as served:
        peer = await slow_client(served)
        await passing(3600)
        peer.assert_open()


@in_virtual_time
async def test_the_next_turn_drops_under_that_policy() -> None:
    """With `slow_consumer="drop"` the connection stays, and each refused send is counted."""
    async with serving(send_buffer_limit=LIMIT, slow_consumer="drop") as served:
        peer = await slow_client(served)
        assert flood(served, peer, 3) == [False] * 3
        peer.assert_open()
        stats = served.stats
        assert (stats.sends, stats.handed, stats.dropped_out) == (19, 16, {"slow": 3})


@in_virtual_time
async def test_a_client_has_caught_up_below_a_quarter() -> None:
    """It stays slow until a quarter of the limit is left, then takes messages again, in order."""
    async with serving(send_buffer_limit=LIMIT, slow_consumer="drop") as served:
        peer = await slow_client(served)
        peer.transport.drain(2 * LIMIT - LIMIT // 4 - 1)
        assert not served.bolt.ws_send_to(peer.id, "still slow")
        peer.transport.drain(1)
        assert served.stats.slow_clients == 0
        for number in range(5):
            assert served.bolt.ws_send_to(peer.id, f"back {number}")
        await turn()
        last = [sent.payload.decode() for sent in peer.frames[-5:]]
        assert last == [f"back {number}" for number in range(5)]
        assert len(peer.frames) == 16 + 5


@in_virtual_time
async def test_a_client_may_be_slow_again() -> None:
    """Each time has a turn of its own to burst in."""
    async with serving(send_buffer_limit=LIMIT, slow_consumer="drop") as served:
        peer = await slow_client(served)
        for _ in range(3):
            peer.transport.drain()
            peer.transport.stall()
            assert flood(served, peer, 65) == [True] * 64 + [False]
            await turn()
            assert served.stats.slow_clients == 1
            assert flood(served, peer, 1) == [False]


@in_virtual_time
async def test_a_broadcast_says_how_many_took_it() -> None:
    """Slow members are missing in the count, each is counted as one drop, they cost the others
    nothing, and are parted with."""
    async with serving(send_buffer_limit=LIMIT) as served:
        slow = [await slow_client(served)]
        slow.append(served.connect())
        slow[1].transport.stall()
        flood(served, slow[1], 16)
        await turn()
        await turn()
        others = [served.connect(), served.connect()]
        for peer in (*slow, *others):
            served.bolt.ws_room_join("room", peer.id)
        assert served.bolt.ws_room_broadcast("room", "all") == 2
        assert served.bolt.ws_room_members("room") == [peer.id for peer in others]
        assert served.bolt.ws_broadcast("again") == 2
        await turn()
        assert [[p.decode() for _, p in peer.frames] for peer in others] == [["all", "again"]] * 2
        assert served.stats.dropped_out == {"slow": 2}
        for peer in slow:
            peer.assert_sent_close(1013)


@in_virtual_time
async def test_a_reply_to_a_slow_client_says_no() -> None:
    """`event.reply` is a send like any other."""
    answers: list[bool] = []

    def said(event: Event) -> None:
        answers.append(event.reply("you do not read"))

    async with serving(said, send_buffer_limit=LIMIT, slow_consumer="drop") as served:
        peer = await slow_client(served)
        peer.send(text("hello?"))
        assert answers == [False]


@in_virtual_time
async def test_drain_waits_until_the_client_has_caught_up() -> None:
    """`ws_drain` gives True at once for a client that is not slow, and else when it reads."""
    async with serving(send_buffer_limit=LIMIT) as served:
        peer = served.connect()
        assert await served.bolt.ws_drain(peer.id)
        peer = await slow_client(served)
        waits = [asyncio.create_task(served.bolt.ws_drain(peer.id)) for _ in range(2)]
        await passing(5)
        assert not any(wait.done() for wait in waits)
        peer.transport.drain()
        assert await asyncio.gather(*waits) == [True, True]


@pytest.mark.parametrize("end", ["lost", "closed"])
@in_virtual_time
async def test_drain_ends_with_the_connection(end: str) -> None:
    """It gives False when the client goes while it waits, and for one that is gone."""
    async with serving(send_buffer_limit=LIMIT) as served:
        peer = await slow_client(served)
        wait = asyncio.create_task(served.bolt.ws_drain(peer.id))
        await turn()
        if end == "lost":
            peer.transport.lose()
        else:
            served.bolt.ws_close_client(peer.id)
        assert await wait is False
        assert await served.bolt.ws_drain(peer.id) is False


@in_virtual_time
async def test_what_was_taken_in_the_turn_of_the_loss_is_not_called_handed() -> None:
    """A send that was gathered and never reached the transport is counted as lost."""
    async with serving() as served:
        peer = served.connect()
        sent = [served.bolt.ws_send_to(peer.id, "x") for _ in range(3)]
        peer.transport.lose()
        assert sent == [True] * 3
        stats = served.stats
        assert stats.sends == 3
        assert stats.handed == len(peer.frames)
        assert stats.handed + sum(stats.dropped_out.values()) == 3


@in_virtual_time
async def test_one_turns_sends_keep_their_order() -> None:
    """Direct, room and global sends of one turn reach a client in the order they were made, and a
    close comes behind them."""
    async with serving() as served:
        peer, bolt = served.connect(), served.bolt
        bolt.ws_room_join("room", peer.id)
        bolt.ws_send_to(peer.id, "1")
        bolt.ws_broadcast("2")
        bolt.ws_room_broadcast("room", "3")
        bolt.ws_send_binary_to(peer.id, b"4")
        bolt.ws_send_to(peer.id, "5")
        bolt.ws_close_client(peer.id)
        assert [sent.payload for sent in peer.frames[:-1]] == [b"1", b"2", b"3", b"4", b"5"]
        peer.assert_sent_close(1000)
