"""Fairness: at most 64 events of one client in one turn of the loop, and nothing is lost by it."""

from __future__ import annotations

import asyncio

import pytest

from boltws import Event
from boltws.channel import TURN

from ..fakes import in_virtual_time, turn
from .helpers import BINARY, PING, PONG, TEXT, Peer, close, echo, fragments, frame, serving, text


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_a_turn_is_what_the_design_says() -> None:
    """At most 64 events."""
    assert TURN == 64


@in_virtual_time
async def test_a_turn_handles_64_messages_and_keeps_the_rest() -> None:
    """Of a read of 200 messages 64 are handled in each turn; the rest stays unparsed, reading is
    paused, and goes on when all is done."""
    messages = numbered(200)
    async with serving() as served:
        peer = served.connect()
        peer.send(*map(text, messages))
        for handled in (64, 128, 192):
            assert peer.messages == messages[:handled]
            assert peer.wire.tail == b"".join(map(text, messages[handled:]))
            assert served.stats.received == handled
            assert not peer.transport.reading
            await turn()
        assert peer.messages == messages
        assert peer.wire.tail == b""
        assert peer.transport.reading
        assert peer.transport.pauses == 1


@in_virtual_time
async def test_64_messages_pause_nothing() -> None:
    """A read that brings just a turn's worth, and a piece of a header, is all handled at once."""
    async with serving() as served:
        peer = served.connect()
        peer.send(*map(text, numbered(64)), b"\x81")
        assert peer.messages == numbered(64)
        assert peer.transport.reading and peer.transport.pauses == 0


@in_virtual_time
async def test_what_comes_meanwhile_stays_behind() -> None:
    """Bytes that arrive while a backlog is worked off are handled behind it, in order."""
    messages = numbered(150)
    async with serving() as served:
        peer = served.connect()
        peer.send(*map(text, messages[:100]))
        peer.send(*map(text, messages[100:]))
        peer.wire.data_received(b"")  # some transports deliver what they had read already
        await peer.read_all()
        await turn()
        assert peer.messages == messages


@in_virtual_time
async def test_bytes_in_hand_are_kept_while_reading_is_paused() -> None:
    """A transport over TLS may deliver what it had decrypted although reading is paused."""
    messages = numbered(150)
    async with serving() as served:
        peer = served.connect()
        peer.send(*map(text, messages[:100]))
        late = b"".join(map(text, messages[100:]))
        for cut in range(0, len(late), 11):
            peer.wire.data_received(late[cut : cut + 11])
        assert peer.messages == messages[:64]
        await peer.read_all()
        assert peer.messages == messages


@pytest.mark.parametrize("kind", ["ping", "pong", "empty", "fragment"])
@in_virtual_time
async def test_frames_of_every_kind_count(kind: str) -> None:
    """Control frames, empty messages and fragments take their place in a turn like any other."""
    flood = {
        "ping": frame(PING, b"?"),
        "pong": frame(PONG),
        "empty": frame(TEXT),
        "fragment": frame(0, b"", False),
    }[kind]
    opening = frame(TEXT, b"", False) if kind == "fragment" else b""
    async with serving() as served:
        peer = served.connect()
        peer.send(opening, flood * 200)
        left = len(peer.wire.tail) // len(flood)
        assert left in (200 - 64, 200 - 63)  # the opening is a frame too
        await peer.read_all()
        assert peer.wire.tail == b""
        assert len(peer.pongs) == (200 if kind == "ping" else 0)
        assert len(peer.messages) == (200 if kind == "empty" else 0)


@in_virtual_time
async def test_a_message_that_ends_in_the_read_is_one_of_the_64() -> None:
    """A large message whose end comes together with a flood counts as an event of that turn."""
    large = frame(BINARY, bytes(1000))
    async with serving() as served:
        peer = served.connect()
        peer.send(large[:500])
        peer.send(large[500:], *map(text, numbered(100)))
        assert len(peer.messages) <= 64
        await peer.read_all()
        assert peer.messages == [bytes(1000), *numbered(100)]


@in_virtual_time
async def test_a_flood_does_not_hold_up_another_client() -> None:
    """While one client's thousand messages are worked off, another's is handled in its turn."""
    order: list[str] = []
    async with serving(lambda event: order.append(event.message)) as served:
        flood, other = served.connect(), served.connect()
        flood.send(*map(text, numbered(1000)))
        other.send(text("other"))
        await flood.read_all()
        assert order.index("other") == 64
        assert len(order) == 1001


@in_virtual_time
async def test_answers_to_a_flood_keep_their_order() -> None:
    """What is sent while a backlog is worked off goes out in the order it was sent."""
    async with serving(echo) as served:
        peer = served.connect()
        peer.send(*map(text, numbered(200)))
        await peer.read_all()
        await turn()
        assert [payload.decode() for _, payload in peer.frames] == numbered(200)


@in_virtual_time
async def test_a_violation_in_the_backlog_is_found_in_its_turn() -> None:
    """What stands before it is handled, what stands behind it is not."""
    async with serving() as served:
        peer = served.connect()
        peer.send(*map(text, numbered(100)), frame(3), text("behind"))
        peer.assert_open()
        await turn()
        peer.assert_failed(1002)
        assert peer.messages == numbered(100)
    assert peer.events[-1] == ("disconnect", 1002)


@in_virtual_time
async def test_a_close_in_the_backlog_is_found_in_its_turn() -> None:
    """So it is with the peer's close."""
    async with serving() as served:
        peer = served.connect()
        peer.send(*map(text, numbered(100)), close(1001))
        await turn()
        peer.assert_sent_close(1001)
    assert peer.events == ["connect", *numbered(100), ("disconnect", 1001)]


# Reading on hold for other reasons.


class Gated:
    """Handlers that wait until the gate opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def said(self, event: Event) -> None:
        await self.gate.wait()


def full(peer: Peer) -> bool:
    return not peer.transport.reading


@in_virtual_time
async def test_a_full_channel_pauses_reading_and_loses_nothing() -> None:
    """With `overflow="pause"` one message runs, `channel_capacity` wait, and the rest is not read
    until half of them are through."""
    gated = Gated()
    messages = numbered(30)
    async with serving(gated.said, overflow="pause", channel_capacity=4) as served:
        peer = served.connect()
        peer.send(*map(text, messages[:20]))
        peer.send(*map(text, messages[20:]))
        assert full(peer)
        stats = served.stats
        assert (stats.running, stats.waiting, stats.received) == (1, 4, 5)
        gated.gate.set()
        while len(peer.messages) < 30:
            await turn()
        assert peer.messages == messages
        assert served.stats.dropped_in == {}


@in_virtual_time
async def test_a_full_channel_takes_no_more_behind_a_large_message() -> None:
    """The channel holds `channel_capacity`, also when the message that fills it ended a frame that
    came in pieces and others stand behind it in the same read."""
    gated = Gated()
    large = frame(BINARY, bytes(1000))
    async with serving(gated.said, overflow="pause", channel_capacity=1) as served:
        peer = served.connect()
        peer.send(text("running"), large[:500])
        peer.send(large[500:], *map(text, numbered(5)))
        waiting = served.stats.waiting
        gated.gate.set()
        while len(peer.messages) < 7:
            await turn()
        assert peer.messages == ["running", bytes(1000), *numbered(5)]
        assert waiting == 1


@in_virtual_time
async def test_a_full_channel_in_bytes_pauses_too() -> None:
    """`channel_bytes` are a limit like `channel_capacity`; fragments count as their message."""
    gated = Gated()
    async with serving(gated.said, overflow="pause", channel_bytes=100) as served:
        peer = served.connect()
        peer.send(text("running"), *fragments(TEXT, b"x" * 50, b"y" * 50), *map(text, "abc"))
        assert full(peer)
        assert served.stats.waiting == 1
        gated.gate.set()
        while len(peer.messages) < 5:
            await turn()
        assert peer.messages == ["running", "x" * 50 + "y" * 50, "a", "b", "c"]


@in_virtual_time
async def test_a_close_from_this_side_is_heard_through_a_full_channel() -> None:
    """Closing a client whose reading is paused lets it read again: its answer ends the connection,
    and what it had sent before is counted as dropped."""
    gated = Gated()
    async with serving(gated.said, overflow="pause", channel_capacity=2) as served:
        peer = served.connect()
        peer.send(*map(text, numbered(10)), close(1000))
        peer.transport.receive(b"")  # more is on its way
        assert full(peer)
        served.bolt.ws_close_client(peer.id, 3000)
        await turn()
        await turn()
        peer.assert_sent_close(3000)
        assert peer.transport.lost
        gated.gate.set()
    assert peer.events == ["connect", "0", "1", "2", ("disconnect", 3000)]
    assert served.stats.dropped_in == {"closed": 7}
