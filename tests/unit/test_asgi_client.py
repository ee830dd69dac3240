"""A client over ASGI's receive and send: on any server that is not our own."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from boltws import Bolt, Event

from .asgi_peer import AsgiPeer
from .flow import Clock, Start, turns, turns_until

LIMIT = 1000


def echo(seen: list[Any] | None = None, **options: Any) -> Bolt:
    """Echoes; notes how connections ended."""
    bolt = Bolt(**options)

    def left(event: Event) -> None:
        if seen is not None:
            seen.append((event.close_code, event.close_reason))

    bolt.ws("/p", None, lambda event: event.reply(event.data), left)
    return bolt


async def connected(start: Start, bolt: Bolt) -> AsgiPeer:
    start(bolt)
    peer = AsgiPeer(bolt)
    assert (await peer.connect())["type"] == "websocket.accept"
    await turns()
    return peer


async def test_messages(start: Start) -> None:
    """Text and binary, both ways and in order; the bytes are counted."""
    bolt = echo()
    peer = await connected(start, bolt)
    messages: list[str | bytes] = ["a", b"\x00", "é", "", b"", "x" * 200, b"y" * 70_000]
    peer.says(*messages)
    await peer.answers(1 + len(messages))
    assert peer.got == messages
    await peer.leaves()
    stats = bolt.stats()
    assert stats.received == stats.handled == stats.handed == len(messages)
    assert stats.bytes_in == 1 + 1 + 2 + 0 + 0 + 200 + 70_000


async def test_both_keys_in_a_message(start: Start) -> None:
    """Servers may give text and bytes, one of them None (ASGI, "Receive")."""
    peer = await connected(start, echo())
    peer.give("websocket.receive", text=None, bytes=b"")
    peer.give("websocket.receive", text="t", bytes=None)
    peer.give("websocket.receive", bytes=b"b")
    await peer.answers(4)
    assert peer.got == [b"", "t", b"b"]
    await peer.leaves()


@pytest.mark.parametrize(
    ("message", "end"),
    [
        ({"code": 1000}, (1000, "")),
        ({"code": 4000, "reason": "bye"}, (4000, "bye")),
        ({"code": 1006, "reason": None}, (1006, "")),
        ({"code": None}, (1005, "")),
        ({}, (1005, "")),
    ],
)
async def test_how_it_ended(start: Start, message: Any, end: Any) -> None:
    """What the server tells of it; 1005 where it tells no code."""
    seen: list[Any] = []
    bolt = echo(seen)
    peer = await connected(start, bolt)
    peer.give("websocket.disconnect", **message)
    await peer.call
    assert seen == [end]
    assert bolt.stats().closed == {end[0]: 1}
    assert peer.closes == []


async def test_closed_from_this_side(start: Start) -> None:
    """What was sent before goes out first; the call is over when the server has said that the
    connection has ended, and the code is ours."""
    seen: list[Any] = []
    bolt = echo(seen)
    peer = await connected(start, bolt)
    (client_id,) = bolt.ws_client_list()
    for text in "abc":
        bolt.ws_send_to(client_id, text)
    assert bolt.ws_close_client(client_id, 3000, "enough")
    assert bolt.stats().closing == 1
    await peer.answers(5)
    assert [message["type"].partition(".")[2] for message in peer.sent] == [
        "accept",
        *["send"] * 3,
        "close",
    ]
    assert peer.closes == [(3000, "enough")]
    assert not peer.call.done()
    await peer.leaves(3000)
    assert seen == [(3000, "enough")]
    assert bolt.stats().closing == 0


async def test_the_call_waits_for_disconnect(start: Start) -> None:
    """So that the server, which waits for its calls, waits for what handlers still do."""
    gate = asyncio.Event()
    bolt = Bolt()
    bolt.ws("/p", None, None, lambda: gate.wait())
    peer = await connected(start, bolt)
    peer.give("websocket.disconnect", code=1000)
    await turns()
    assert not peer.call.done()
    assert bolt.ws_client_list() == []
    gate.set()
    await peer.call


async def test_a_call_that_is_cancelled(start: Start) -> None:
    """Some servers do so at their stop: the connection is lost, its `disconnect` runs."""
    seen: list[Any] = []
    bolt = echo(seen)
    peer = await connected(start, bolt)
    peer.call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await peer.call
    await turns()
    assert seen == [(1006, "")]
    assert bolt.stats().closed == {1006: 1}


async def test_a_receive_that_raises(start: Start) -> None:
    """The server's own error: the connection is lost, and nothing hangs."""
    seen: list[Any] = []
    bolt = echo(seen)
    start(bolt)
    answers = iter([{"type": "websocket.connect"}])

    async def receive() -> Any:
        try:
            return next(answers)
        except StopIteration:
            raise OSError("gone") from None

    async def send(message: Any) -> None: ...

    scope = {"type": "websocket", "path": "/p", "headers": []}
    await bolt(scope, receive, send)
    assert seen == [(1006, "")]


async def test_a_receive_that_is_cancelled(start: Start) -> None:
    """By whatever the app around it does: the connection is lost as well."""
    seen: list[Any] = []
    bolt = echo(seen)
    start(bolt)
    answers = iter([{"type": "websocket.connect"}])

    async def receive() -> Any:
        for answer in answers:
            return answer
        raise asyncio.CancelledError

    async def send(message: Any) -> None: ...

    await bolt({"type": "websocket", "path": "/p", "headers": []}, receive, send)
    assert seen == [(1006, "")]


# Limits.


@pytest.mark.parametrize("big", ["x" * 11, b"x" * 11, "é" * 6])
async def test_max_message_size(start: Start, big: str | bytes) -> None:
    """1009, counted in UTF-8; it is no message of the books, and those behind it were late."""
    seen: list[Any] = []
    bolt = echo(seen, max_message_size=10)
    peer = await connected(start, bolt)
    peer.says("x" * 10, "é" * 5, big, "behind")
    await peer.answers(4)
    assert peer.closes == [(1009, "message too big")]
    await peer.leaves(1009)
    assert peer.got == ["x" * 10, "é" * 5]
    assert seen == [(1009, "message too big")]
    stats = bolt.stats()
    assert (stats.handled, stats.dropped_in) == (2, {"closed": 1})


async def test_overflow_pause(start: Start) -> None:
    """The server is asked for no more until there is room: it pushes back in its own way."""
    gate = asyncio.Event()
    bolt = Bolt(channel_capacity=2, overflow="pause")
    bolt.ws("/p", None, lambda: gate.wait())
    peer = await connected(start, bolt)
    peer.says(*"abcdefgh")
    await turns(30)
    assert peer.asked == 1 + 3
    assert bolt.stats().waiting == 2
    gate.set()
    await turns_until(lambda: bolt.stats().handled == 8)
    assert bolt.ws_dropped_count() == 0
    await peer.leaves()


async def test_a_paused_one_that_is_closed(start: Start) -> None:
    """The peer's answer is heard, though nothing was read for a while."""
    gate = asyncio.Event()
    seen: list[Any] = []
    bolt = Bolt(channel_capacity=1, overflow="pause")
    bolt.ws("/p", None, lambda: gate.wait(), lambda event: seen.append(event.close_code))
    peer = await connected(start, bolt)
    peer.says(*"abcdefgh")
    await turns(30)
    (client_id,) = bolt.ws_client_list()
    bolt.ws_close_client(client_id, 3000)
    await peer.answers(2)
    peer.give("websocket.disconnect", code=3000)
    gate.set()
    await peer.call
    assert seen == [3000]
    stats = bolt.stats()
    assert stats.handled + stats.dropped_in.get("closed", 0) == stats.received


async def test_fairness(start: Start) -> None:
    """A server whose receive never suspends keeps nobody else from their turn."""
    bolt = echo()
    start(bolt)
    handled_at_turns: list[int] = []
    count = 300
    messages = iter(
        [{"type": "websocket.connect"}]
        + [{"type": "websocket.receive", "text": "x"}] * count
        + [{"type": "websocket.disconnect", "code": 1000}]
    )

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None: ...

    async def other() -> None:
        while bolt.stats().handled < count:
            handled_at_turns.append(bolt.stats().handled)
            await asyncio.sleep(0)

    scope = {"type": "websocket", "path": "/p", "headers": []}
    await asyncio.gather(bolt(scope, receive, send), other())
    steps = [b - a for a, b in zip(handled_at_turns, [*handled_at_turns[1:], count], strict=True)]
    assert max(steps) <= 64


# A peer that does not read.


@pytest.mark.parametrize("policy", ["close", "drop"])
async def test_a_slow_peer(start: Start, policy: Any) -> None:
    """While the server's send waits, what is unsent is counted: the client becomes slow, and
    quick again below a quarter."""
    bolt = echo(send_buffer_limit=LIMIT, slow_consumer=policy)
    peer = await connected(start, bolt)
    (client_id,) = bolt.ws_client_list()
    peer.flows.clear()
    message = b"x" * 98
    for _ in range(11):
        assert bolt.ws_send_binary_to(client_id, message)
        await turns(3)
    assert bolt.stats().slow_clients == 1
    assert not bolt.ws_send_binary_to(client_id, message)
    if policy == "close":
        peer.flows.set()
        await peer.answers(13)
        assert peer.closes == [(1013, "slow consumer")]
        await peer.leaves(1013)
        return
    drain = asyncio.ensure_future(bolt.ws_drain(client_id))
    await turns()
    assert not drain.done()
    peer.flows.set()
    assert await drain
    assert bolt.stats().slow_clients == 0
    assert bolt.ws_send_to(client_id, "again")
    await peer.answers(13)
    assert peer.got == [message] * 11 + ["again"]
    await peer.leaves()


async def test_the_smallest_limit(start: Start) -> None:
    """A quarter of it is nothing: who has nothing unsent is not slow."""
    bolt = echo(send_buffer_limit=1, slow_consumer="drop")
    peer = await connected(start, bolt)
    for _ in range(2):
        peer.says("x")
        await turns()
        assert bolt.stats().slow_clients == 0
    await peer.leaves()
    assert peer.got == ["x", "x"]


async def test_a_burst_within_one_turn(start: Start) -> None:
    """May go to 8 times the limit, as on our own server."""
    bolt = echo(send_buffer_limit=LIMIT, slow_consumer="drop")
    peer = await connected(start, bolt)
    (client_id,) = bolt.ws_client_list()
    taken = sum(bolt.ws_send_binary_to(client_id, b"x" * 98) for _ in range(200))
    assert taken == 8 * LIMIT // 100
    await peer.answers(1 + taken)
    assert len(peer.got) == taken
    await peer.leaves()


async def test_a_peer_that_is_gone_while_we_send(start: Start) -> None:
    """Servers raise what they like then: it is no error of ours, and the end is still told."""
    seen: list[Any] = []
    bolt = echo(seen)
    peer = await connected(start, bolt)
    peer.failure = RuntimeError("cannot call send after close")
    peer.says("a", "b")
    await turns()
    await peer.leaves(1006)
    assert seen == [(1006, "")]
    stats = bolt.stats()
    assert (stats.sends, stats.handed, stats.dropped_out) == (2, 0, {"lost": 2})
    assert stats.bytes_out == 0


async def test_what_waits_when_the_peer_leaves_is_lost(start: Start) -> None:
    """Counted: the server was never given it."""
    bolt = echo()
    peer = await connected(start, bolt)
    peer.flows.clear()
    peer.says("a", "b", "c")
    await turns()
    leaving = asyncio.ensure_future(peer.leaves(1006))
    await turns()
    peer.flows.set()
    await leaving
    await turns()
    stats = bolt.stats()
    assert (stats.sends, stats.handed, stats.dropped_out) == (3, 1, {"lost": 2})
    assert (peer.got, stats.bytes_out) == (["a"], 3)


async def test_a_server_that_does_not_take_a_close(start: Start, clock: Clock) -> None:
    """hypercorn does so where the peer is gone in the wrong moment: the client is aborted, and
    nothing of it goes on."""
    seen: list[Any] = []
    bolt = echo(seen, close_timeout=5, slow_consumer="drop")
    peer = await connected(start, bolt)
    others = asyncio.all_tasks()
    peer.flows.clear()
    peer.says("in flight")
    await turns()
    assert bolt.ws_close_client(*bolt.ws_client_list(), 4000)
    await asyncio.sleep(4)
    assert not peer.call.done()
    await peer.call
    assert seen == [(4000, "")]
    await turns()
    assert asyncio.all_tasks() <= others
    assert bolt.stats().closing == 0
    assert (bolt.stats().handed, bolt.stats().dropped_out) == (0, {"lost": 1})


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")
async def test_tasks_that_begin_at_once(start: Start) -> None:
    """asyncio.eager_task_factory: the sender has ended when it is made, and another is made."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    try:
        bolt = echo()
        peer = await connected(start, bolt)
        for text in "abc":
            peer.says(text)
            await turns()
        assert peer.got == ["a", "b", "c"]
        await peer.leaves()
    finally:
        loop.set_task_factory(None)


async def test_one_that_never_reads_is_aborted_at_the_shutdown(start: Start, clock: Clock) -> None:
    """The close cannot go out: at the deadline the call ends all the same."""
    seen: list[Any] = []
    bolt = echo(seen)
    flow = start(bolt)
    peer = AsgiPeer(bolt)
    await peer.connect()
    await turns()
    peer.flows.clear()
    peer.says("x")
    began = clock.now
    await flow.runtime.drain()
    await peer.call
    assert seen == [(1012, "service restart")]
    assert clock.now - began < 13
    peer.flows.set()
