"""A connection's end, from either side, and clients that do not keep up."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import Any

import pytest

from boltws import Event, NoEvent
from boltws.event import current_event

from ..fakes import in_virtual_time, passing, turn
from .helpers import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    Served,
    close,
    echo,
    fragments,
    frame,
    serving,
    text,
)


@in_virtual_time
async def test_the_wire_becomes_the_protocol_of_its_transport() -> None:
    """From the attachment on the transport calls the client itself, and tells it when it is slow
    by the endpoint's `send_buffer_limit`."""
    async with serving(send_buffer_limit=4000) as served:
        peer = served.connect()
        assert peer.transport.get_protocol() is peer.wire
        assert peer.transport.get_write_buffer_limits() == (1000, 4000)
        assert served.wires.attached == 1


# The closing handshake.


@pytest.mark.parametrize("code", [1000, 1001, 3000, None])
@in_virtual_time
async def test_the_peer_closes(code: int | None) -> None:
    """Its close is answered with the same code, none with none, and then the connection ends."""
    async with serving() as served:
        peer = served.connect()
        peer.send(text("last"), close(code, b"bye" if code else b""))
        peer.assert_sent_close(code or 1005, "")
        await turn()
        assert peer.transport.lost and not peer.transport.aborted
        assert served.stats.closed == {code or 1005: 1}
    assert peer.events == ["connect", "last", ("disconnect", code or 1005)]


@in_virtual_time
async def test_disconnect_sees_code_and_reason() -> None:
    """`event.close_code` and `close_reason` are the peer's."""
    async with serving() as served:
        peer = served.connect()
        peer.send(close(4321, "née".encode()))
        assert peer.wire.ended == (4321, "née")


@in_virtual_time
async def test_this_side_closes() -> None:
    """A close frame goes out behind what was sent, the client is off the lists and rooms at once,
    and the peer's answer ends the connection, unanswered."""
    async with serving(echo) as served:
        peer = served.connect()
        bolt = served.bolt
        bolt.ws_room_join("room", peer.id)
        peer.send(text("a"), text("b"), text("c"))
        assert bolt.ws_close_client(peer.id, 4000, "bye")
        peer.assert_sent_close(4000, "bye")
        assert [payload for _, payload in peer.frames[:-1]] == [b"a", b"b", b"c"]
        assert bolt.ws_room_members("room") == [] and bolt.ws_connection_count() == 0
        assert not bolt.ws_send_to(peer.id, "too late")
        assert not peer.transport.is_closing()
        peer.send(close(4000))
        peer.assert_sent_close(4000)
        await turn()
        assert peer.transport.lost and not peer.transport.aborted
    assert peer.events == ["connect", "a", "b", "c", ("disconnect", 4000)]
    assert served.stats.closed == {4000: 1}


@in_virtual_time
async def test_a_close_that_is_never_answered_is_cut() -> None:
    """`close_timeout` after the close the connection is aborted, not before, and not later if the
    peer goes on to send."""
    async with serving(close_timeout=7) as served:
        peer = served.connect()
        served.bolt.ws_close_client(peer.id)
        await passing(6.9)
        peer.send(text("deaf?"), frame(PING))
        assert not peer.transport.is_closing()
        await passing(0.2)
        assert peer.transport.aborted and peer.transport.lost
        assert served.stats.closing == 0
    assert peer.events == ["connect", ("disconnect", 1000)]
    assert served.stats.dropped_in == {"closed": 1}


@in_virtual_time
async def test_a_peer_that_closes_and_does_not_read_is_cut() -> None:
    """Its close is answered, but what it does not read keeps the connection for `close_timeout`
    only."""
    async with serving(close_timeout=7) as served:
        peer = served.connect()
        peer.transport.stall()
        peer.send(close())
        peer.assert_sent_close(1000)
        await passing(6.9)
        assert not peer.transport.lost
        await passing(0.2)
        assert peer.transport.aborted and peer.transport.lost


@in_virtual_time
async def test_a_timer_does_not_outlive_its_connection() -> None:
    """The close timeout is off when the connection has ended."""
    async with serving() as served:
        peer = served.connect()
        served.bolt.ws_close_client(peer.id)
        timer = peer.wire.timer
        peer.send(close())
        await turn()
        assert timer is not None and timer.cancelled()
        assert peer.wire.timer is None


@in_virtual_time
async def test_both_close_at_once() -> None:
    """Crossing closes are one end: this side's close stands, and is not sent again."""
    async with serving() as served:
        peer = served.connect()
        served.bolt.ws_close_client(peer.id, 4001)
        peer.send(close(4002))
        peer.assert_sent_close(4001)
    assert peer.events == ["connect", ("disconnect", 4001)]


@in_virtual_time
async def test_a_client_is_closed_once() -> None:
    """The second close finds no such client."""
    async with serving() as served:
        peer = served.connect()
        assert served.bolt.ws_close_client(peer.id, 4001)
        assert not served.bolt.ws_close_client(peer.id, 4002)
        peer.assert_sent_close(4001)


@in_virtual_time
async def test_messages_behind_our_close_are_counted() -> None:
    """What still comes when this side has closed is dropped under the cause "closed"."""
    async with serving() as served:
        peer = served.connect()
        served.bolt.ws_close_client(peer.id)
        peer.send(text("a"), *fragments(TEXT, b"b", b"c"), frame(PING, b"?"))
        assert served.stats.dropped_in == {"closed": 2}
        assert peer.pongs == []
    assert peer.messages == []


@in_virtual_time
async def test_a_handler_closes_in_the_middle_of_a_read() -> None:
    """What stands behind the message whose handler closed is dropped, `disconnect` comes behind
    it."""

    def said(event: Event) -> None:
        if event.message == "go":
            event.close(4000)

    async with serving(said) as served:
        peer = served.connect()
        peer.send(text("a"), text("go"), text("b"), text("c"))
        peer.assert_sent_close(4000)
        assert served.stats.dropped_in == {"closed": 2}
    assert peer.events == ["connect", "a", "go", ("disconnect", 4000)]


# Failing a peer.


@in_virtual_time
async def test_a_failed_peer_is_told_and_no_longer_heard() -> None:
    """A close frame and an end go out; what still comes is swallowed, so that the connection is
    not reset before the peer saw why; the peer's own end ends it."""
    async with serving() as served:
        peer = served.connect()
        peer.send(frame(TEXT, b"\xff"))
        peer.assert_failed(1007)
        assert peer.transport.eof_sent and not peer.transport.is_closing()
        peer.send(text("more") * 1000, close(1000))
        assert served.stats.received == 0
        peer.transport.receive_eof()
        await turn()
        assert peer.transport.lost and not peer.transport.aborted
    assert peer.events == ["connect", ("disconnect", 1007)]


@in_virtual_time
async def test_a_failed_peer_that_stays_is_cut() -> None:
    """It has `close_timeout` to go."""
    async with serving(close_timeout=3) as served:
        peer = served.connect()
        peer.send(frame(3))
        for _ in range(29):
            await passing(0.1)
            peer.send(b"noise")
        assert not peer.transport.lost
        await passing(0.2)
        assert peer.transport.aborted
        assert served.wires.attached == 0


@in_virtual_time
async def test_over_tls_a_failed_peer_is_closed() -> None:
    """A transport that has no half-close is closed behind the close frame."""
    async with serving() as served:
        peer = served.connect(half_closes=False)
        peer.send(frame(3))
        peer.assert_sent_close(1002)
        assert peer.transport.is_closing() and not peer.transport.eof_sent


@in_virtual_time
async def test_a_violation_behind_our_close_sends_no_second_close() -> None:
    """A peer that answers a close with nonsense is failed without another close frame; the end
    keeps the code of the first."""
    async with serving() as served:
        peer = served.connect()
        served.bolt.ws_close_client(peer.id, 4000)
        peer.send(frame(3))
        peer.assert_sent_close(4000)
        assert peer.transport.eof_sent
    assert peer.events == ["connect", ("disconnect", 4000)]


# The connection is lost.


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
@in_virtual_time
async def test_a_lost_connection_is_1006(error: Exception | None) -> None:
    """An end without a close is 1006; the client leaves lists and rooms, nothing is written."""
    async with serving() as served:
        peer = served.connect()
        served.bolt.ws_room_join("room", peer.id)
        peer.send(text("a"), frame(TEXT, b"not whole", False))
        peer.transport.lose(error)
        assert served.bolt.ws_client_list() == []
        assert served.stats.rooms == 0 and served.wires.attached == 0
        assert not served.bolt.ws_send_to(peer.id, "gone")
        assert peer.frames == [] and not peer.transport.late
    assert peer.events == ["connect", "a", ("disconnect", 1006)]
    assert served.stats.closed == {1006: 1}


@in_virtual_time
async def test_the_peers_end_without_a_close_is_1006() -> None:
    """So is an end of the stream: the transport closes, and that is that."""
    async with serving() as served:
        peer = served.connect()
        peer.send(text("a"))
        peer.transport.receive_eof()
        await turn()
        assert peer.transport.lost
    assert peer.events == ["connect", "a", ("disconnect", 1006)]


def lose_with(served: Served, *backlog: bytes) -> tuple[Peer, list[str]]:
    """A client that is lost with a backlog: a turn's worth of messages was handled, 136 more and
    what is given have come and are not parsed."""
    peer = served.connect()
    messages = [str(number) for number in range(200)]
    peer.send(*map(text, messages), *backlog)
    assert len(peer.messages) == 64
    peer.transport.lose()
    return peer, messages


@in_virtual_time
async def test_a_backlog_is_handled_though_the_connection_is_lost() -> None:
    """What had come before the loss is handled in order, then `disconnect`, once."""
    async with serving() as served:
        peer, messages = lose_with(served)
        await passing(1)
        assert peer.events == ["connect", *messages, ("disconnect", 1006)]


@in_virtual_time
async def test_a_close_in_the_backlog_counts_though_the_connection_is_lost() -> None:
    """The peer had closed: `disconnect` runs once, with its code, and no timer is left behind."""
    async with serving() as served:
        peer, messages = lose_with(served, close(4000), text("behind"))
        await passing(1)
        assert peer.events == ["connect", *messages, ("disconnect", 4000)]
        assert peer.wire.timer is None


@in_virtual_time
async def test_no_timer_starts_when_the_connection_is_over() -> None:
    """A close found in the backlog of a lost connection has nothing left to time."""
    async with serving() as served:
        peer, _ = lose_with(served, close(4000))
        assert peer.wire.timer is None


@in_virtual_time
async def test_a_violation_in_the_backlog_counts_though_the_connection_is_lost() -> None:
    """The same with what breaks the protocol."""
    async with serving() as served:
        peer, messages = lose_with(served, frame(3), text("behind"))
        await passing(1)
        assert peer.events == ["connect", *messages, ("disconnect", 1002)]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"overflow": "close", "channel_capacity": 100}, 1013),
        ({"rate_limit": (150, 60), "rate_policy": "close"}, 1008),
    ],
    ids=["overflow", "rate"],
)
@in_virtual_time
async def test_a_policy_may_close_in_the_backlog(options: dict[str, Any], code: int) -> None:
    """A limit that ends the connection while its backlog is read after the loss: `disconnect`
    still runs, once and last."""
    async with serving(**options) as served:
        peer, _ = lose_with(served)
        await passing(1)
        assert peer.events[-1] == ("disconnect", code)


@in_virtual_time
async def test_a_rate_keeps_no_lost_client() -> None:
    """A pausing rate limit lets a lost backlog pass, with one timer and not one a message."""
    async with serving(rate_limit=(100, 6000)) as served:
        peer, messages = lose_with(served)
        await passing(1)
        assert peer.messages == messages
        timers = served.runtime.hub.loop._scheduled  # type: ignore[union-attr]
        ours = [timer for timer in timers if peer.wire in (timer._args or ())]
        assert len(ours) == 1


@in_virtual_time
async def test_the_channel_bounds_a_backlog_too() -> None:
    """Of a lost connection's backlog the channel takes what it holds; the rest is counted, or
    taken as well where the policy is to lose nothing."""
    for overflow, dropped in (("drop", {"overflow": 36}), ("pause", {})):
        async with serving(overflow=overflow, channel_capacity=100) as served:
            peer, messages = lose_with(served)
            await passing(1)
            assert served.stats.dropped_in == dropped
            assert peer.messages == messages[: 200 - sum(dropped.values())]


@in_virtual_time
async def test_what_waits_is_handled_before_disconnect() -> None:
    """A handler under way and those behind it come to their end first, whatever the connection
    does meanwhile."""
    gate = asyncio.Event()

    async def said(event: Event) -> None:
        await gate.wait()

    async with serving(said) as served:
        peer = served.connect()
        peer.send(text("a"), text("b"), text("c"))
        peer.transport.lose()
        await passing(1)
        assert peer.events == ["connect", "a"]
        gate.set()
        await passing(1)
        assert peer.events == ["connect", "a", "b", "c", ("disconnect", 1006)]


@in_virtual_time
async def test_rooms_are_left_at_once_and_known_in_disconnect() -> None:
    """When a connection ends it is in no room any more, and `event.rooms` says which they were."""
    rooms: list[Any] = []
    async with serving() as served:
        served.runtime.stop()  # callbacks are registered before the start
        served.bolt.after(lambda event: rooms.append((event.type, event.rooms)))
        served.runtime.start()
        peer = served.connect()
        served.bolt.ws_room_join("b", peer.id)
        served.bolt.ws_room_join("a", peer.id)
        peer.transport.lose()
        assert served.bolt.ws_room_count("a") == served.bolt.ws_room_count("b") == 0
        await passing(1)
        assert rooms[-1] == ("disconnect", ("b", "a"))


# Pings.


@in_virtual_time
async def test_reading_goes_on_in_the_context_of_no_event() -> None:
    """asyncio reads on in the context in which that was asked for: the last event's, with its
    message, would be kept for as long as the client is idle."""
    contexts: list[Context] = []

    async def said(event: Event) -> None:
        await turn()

    options: dict[str, Any] = {"overflow": "pause", "channel_capacity": 1}
    async with serving(said, **options) as served:
        peer = served.connect()
        resume = peer.transport.resume_reading

        def resumed() -> None:
            contexts.append(copy_context())
            resume()

        peer.transport.resume_reading = resumed  # type: ignore[method-assign]
        peer.send(*map(text, "abcd"))
        await passing(1)
        assert peer.messages == list("abcd")
        assert contexts
        for context in contexts:
            with pytest.raises(NoEvent):
                context.run(current_event)


@in_virtual_time
async def test_a_slow_client_gets_no_pongs() -> None:
    """Who floods with pings and does not read makes nothing grow; when it reads again it is
    answered again."""
    async with serving(send_buffer_limit=1000, slow_consumer="drop") as served:
        peer = served.connect()
        peer.transport.stall()
        peer.send(frame(PING, b"x" * 100) * 60)
        unsent = peer.transport.unsent
        assert 1000 < unsent <= 1000 + 102
        for _ in range(100):
            await peer.trickle(frame(PING, b"x" * 100) * 60)
        assert peer.transport.unsent == unsent
        peer.transport.drain()
        peer.send(frame(PING, b"again"))
        assert peer.frames[-1] == (PONG, b"again")
        assert peer.frames[-2].payload == b"x" * 100
        assert CLOSE not in {sent.opcode for sent in peer.frames}
