"""The sweeper: who is silent is asked, who does not answer is parted with, who dawdles is cut."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from boltws import Bolt, Event
from boltws.client import BACKLOG
from boltws.frames import text_frame
from boltws.options import make_options
from boltws.server.wire import Wire
from boltws.server.wires import Wires, wires_of

from ..fakes import FakeTransport, in_virtual_time, passing, turn
from .helpers import PING, PONG, TEXT, Peer, Sent, fragments, frame, serving, text

TICK = 1.0
"""Every limit is kept to within this: two looks of the sweeper."""


def pings(peer: Peer) -> int:
    return peer.frames.count(Sent(PING, b""))


# Keepalive.


@in_virtual_time
async def test_an_idle_client_is_pinged() -> None:
    """After `ping_interval` of silence a ping goes out, one, and not before."""
    async with serving(ping_interval=10, ping_timeout=30) as served:
        peer = served.connect()
        await passing(9.9)
        assert pings(peer) == 0
        await passing(0.1 + 2 * TICK)
        assert pings(peer) == 1
        await passing(10)
        assert pings(peer) == 1
        peer.assert_open()


@in_virtual_time
async def test_who_answers_lives_on() -> None:
    """A pong ends the wait, and the next ping comes an interval of silence later: for ever."""
    async with serving(ping_interval=10, ping_timeout=5) as served:
        peer = served.connect()
        for answered in range(1, 20):
            while pings(peer) < answered:
                await passing(TICK / 2)
            peer.send(frame(PONG))
            await passing(9)
            assert pings(peer) == answered
        peer.assert_open()


@pytest.mark.parametrize(
    "sign_of_life",
    [text("x"), frame(PING), frame(PONG, b"not what was asked"), frame(TEXT, b"", False), b"\x81"],
    ids=["text", "ping", "pong", "fragment", "a piece of a header"],
)
@in_virtual_time
async def test_any_byte_is_a_sign_of_life(sign_of_life: bytes) -> None:
    """Whatever a peer sends says that it is there: it is not pinged while it talks, and what comes
    instead of a pong is as good as one."""
    async with serving(ping_interval=10, ping_timeout=5) as served:
        peer = served.connect()
        await passing(11.5)
        assert pings(peer) == 1
        peer.send(sign_of_life)
        await passing(9)
        assert pings(peer) == 1
        peer.assert_open()


@in_virtual_time
async def test_who_talks_is_not_asked() -> None:
    """A peer that sends within every interval never gets a ping."""
    async with serving(ping_interval=10, ping_timeout=5) as served:
        peer = served.connect()
        for _ in range(100):
            await passing(8)
            peer.send(text("x"))
        assert pings(peer) == 0


@in_virtual_time
async def test_who_does_not_answer_is_1011() -> None:
    """`ping_timeout` after a ping that nothing answered the connection ends with 1011, at once:
    a close that is not read need not be waited for."""
    async with serving(ping_interval=10, ping_timeout=5) as served:
        peer = served.connect()
        while not pings(peer):
            await passing(TICK / 2)
        await passing(4.9)
        peer.assert_open()
        await passing(0.1 + 2 * TICK)
        peer.assert_sent_close(1011, "keepalive timeout")
        assert peer.transport.aborted and peer.transport.lost
        assert served.stats.closed == {1011: 1}
    assert peer.events == ["connect", ("disconnect", 1011)]


@in_virtual_time
async def test_what_the_server_sends_is_no_sign_of_life() -> None:
    """A peer that is sent to and says nothing is pinged all the same."""
    async with serving(ping_interval=10, ping_timeout=5) as served:
        peer = served.connect()
        for _ in range(15):
            served.bolt.ws_send_to(peer.id, "tick")
            await passing(1)
        assert pings(peer) == 1
        await passing(5)
        peer.assert_sent_close(1011)


@in_virtual_time
async def test_without_an_interval_nobody_is_asked() -> None:
    """`ping_interval=None` turns pings off, and with them their timeout."""
    async with serving(ping_interval=None, ping_timeout=5) as served:
        peer = served.connect()
        await passing(3600)
        assert peer.frames == []
        peer.assert_open()


@in_virtual_time
async def test_without_a_timeout_nobody_is_parted_with() -> None:
    """`ping_timeout=None` asks and takes silence for an answer."""
    async with serving(ping_interval=10, ping_timeout=None) as served:
        peer = served.connect()
        await passing(3600)
        assert pings(peer) >= 1
        peer.assert_open()


@in_virtual_time
async def test_while_reading_is_held_silence_says_nothing() -> None:
    """A peer that is not listened to is not timed out, however long; when reading goes on its
    clock starts anew. It is pinged all the same: one that is gone shows when it is written to."""
    gate = asyncio.Event()

    async def said(event: Event) -> None:
        await gate.wait()

    options: dict[str, Any] = {"overflow": "pause", "channel_capacity": 2}
    async with serving(said, **options, ping_interval=10, ping_timeout=5) as served:
        peer = served.connect()
        while not pings(peer):
            await passing(TICK / 2)
        peer.send(*map(text, "abcdef"))  # in the middle of the wait for its pong
        assert not peer.transport.reading
        await passing(600)
        held = pings(peer)
        assert held > 30
        peer.assert_open()
        gate.set()
        await passing(9)
        assert peer.messages == list("abcdef")
        assert pings(peer) == held
        await passing(1 + 2 * TICK)
        assert pings(peer) == held + 1
        peer.assert_open()


@in_virtual_time
async def test_who_is_closing_is_left_alone() -> None:
    """A client that was closed gets no ping behind its close."""
    async with serving(ping_interval=1, close_timeout=60) as served:
        peer = served.connect()
        served.bolt.ws_close_client(peer.id)
        await passing(30)
        assert pings(peer) == 0
        peer.assert_sent_close(1000)


@in_virtual_time
async def test_each_client_has_its_own_clock() -> None:
    """Of two clients the silent one is pinged."""
    async with serving(ping_interval=10) as served:
        silent, talking = served.connect(), served.connect()
        for _ in range(3):
            await passing(5)
            talking.send(text("x"))
        assert (pings(silent), pings(talking)) == (1, 0)


# Messages that are not finished.


@in_virtual_time
async def test_a_message_not_finished_in_time_is_1008() -> None:
    """`message_timeout` after its first fragment a message that is not whole fails its sender,
    however much of it still comes."""
    async with serving(message_timeout=30) as served:
        peer = served.connect()
        peer.send(frame(TEXT, b"a", False))
        for _ in range(29):
            await passing(1)
            peer.send(frame(0, b"b", False), frame(PING))
        peer.assert_open()
        await passing(1 + 2 * TICK)
        peer.assert_failed(1008)
        assert peer.frames[-1].payload[2:] == b"message not finished in time"
        peer.send(frame(0, b"c"))
        assert peer.messages == []
    assert peer.events == ["connect", ("disconnect", 1008)]


@in_virtual_time
async def test_a_frame_that_trickles_is_not_finished_either() -> None:
    """So is one frame that comes byte by byte, as slowly as it likes."""
    async with serving(message_timeout=30) as served:
        peer = served.connect()
        for byte in frame(TEXT, b"x" * 100):
            if peer.transport.eof_sent:
                break
            peer.send(bytes([byte]))
            await passing(1)
        peer.assert_failed(1008)


@in_virtual_time
async def test_a_flood_inside_a_message_buys_no_time() -> None:
    """Pings, more than are handled in a turn, so that there is a backlog at each look."""
    async with serving(message_timeout=30) as served:
        peer = served.connect()
        peer.send(frame(TEXT, b"a", False))
        peer.wire.held |= BACKLOG
        await passing(30 + 2 * TICK)
        peer.assert_failed(1008)


@in_virtual_time
async def test_a_message_finished_in_time_is_handled() -> None:
    """Time is counted for each message from its own beginning."""
    async with serving(message_timeout=30) as served:
        peer = served.connect()
        for _ in range(5):
            begin, end = fragments(TEXT, b"slow", b"ly")
            peer.send(begin)
            await passing(29)
            peer.send(end)
        assert peer.messages == ["slowly"] * 5
        peer.assert_open()


@in_virtual_time
async def test_without_a_message_timeout_there_is_time() -> None:
    """`message_timeout=None` turns it off; keepalive still asks."""
    async with serving(message_timeout=None, ping_timeout=None) as served:
        peer = served.connect()
        peer.send(frame(TEXT, b"a", False))
        await passing(3600)
        peer.assert_open()


# Requests that are not complete.


class Pending:
    """A connection whose request is not complete, as the HTTP protocol has it in the sweep."""

    def __init__(self, wires: Wires, seconds: float) -> None:
        self.wires = wires
        self.given_up = 0
        wires.pending[self] = (asyncio.get_running_loop().time(), seconds)

    def give_up(self) -> None:
        self.given_up += 1
        del self.wires.pending[self]


@in_virtual_time
async def test_a_request_that_is_not_complete_is_given_up() -> None:
    """Each after its own time, counted from when it began, once."""
    wires = Wires(set())
    wires.start()
    short = Pending(wires, 10)
    await passing(5)
    late, long = Pending(wires, 10), Pending(wires, 60)
    await passing(4.9)
    assert short.given_up == 0
    await passing(0.1 + 2 * TICK)
    assert (short.given_up, late.given_up, long.given_up) == (1, 0, 0)
    await passing(5)
    assert (short.given_up, late.given_up, long.given_up) == (1, 1, 0)


@in_virtual_time
async def test_a_request_that_became_complete_is_not() -> None:
    """What is taken off in time stays."""
    wires = Wires(set())
    wires.start()
    pending = Pending(wires, 10)
    await passing(9)
    del wires.pending[pending]
    await passing(60)
    assert pending.given_up == 0


# The sweep itself.


@in_virtual_time
async def test_the_sweep_ends_with_the_last_connection() -> None:
    """Nothing is swept for nobody; the next connection starts it again."""
    async with serving(ping_interval=10) as served:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            peer = served.connect()
            served.wires.start()  # as each connection does
            await passing(12)
            assert pings(peer) == 1
            peer.transport.lose()
            await passing(2 * TICK)
            assert not [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


@in_virtual_time
async def test_sockets_of_other_apps_are_looked_after_too() -> None:
    """A client of an app that is no Bolt is pinged and timed out by the defaults."""
    async with serving() as served:
        wires = served.wires
        channel = served.endpoint.channel  # its options are the defaults
        wire = Wire(wires.foreign, channel, wires, 5)
        transport = FakeTransport(asyncio.get_running_loop())
        wire.take(transport)
        wires.foreign.add(wire)
        await passing(20 + 2 * TICK)
        assert bytes(transport.sent) == b"\x89\x00"
        await passing(20 + 2 * TICK)
        assert transport.aborted
        assert wire.ended is not None and wire.ended.code == 1011


# The servers and their shutdown.


class State:
    """As much of uvicorn's server state as is used."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()


@in_virtual_time
async def test_a_server_has_one_set_of_wires() -> None:
    """All connections of a server share it, another server has another, and it goes with it."""
    one, other = State(), State()
    wires = wires_of(one)
    assert wires_of(one) is wires
    assert wires_of(other) is not wires
    del other
    gc.collect()
    await passing(2 * TICK)


@in_virtual_time
async def test_a_bolt_stands_among_the_connections_once() -> None:
    """However many clients it has: uvicorn waits for a drainer, and the limit of connections does
    not count it."""
    async with serving() as served:
        assert served.connections == set() and served.wires.drainers == 0
        for _ in range(3):
            served.connect()
        assert len(served.connections) == served.wires.drainers == 1


@in_virtual_time
async def test_the_shutdown_parts_with_all_clients() -> None:
    """Told of the shutdown, the drainer closes every client with 1012 and stays among the
    connections until they are gone; being told twice is being told once."""
    async with serving() as served:
        peers = [served.connect() for _ in range(3)]
        (drainer,) = served.connections
        drainer.shutdown()
        drainer.shutdown()
        await turn()
        await passing(0.1)
        for peer in peers:
            peer.assert_sent_close(1012, "service restart")
        assert served.connections == {drainer}
        for peer in peers:
            peer.send(frame(8, b"\x03\xf4"))
        await passing(0.1)
        assert served.connections == set() and served.wires.drainers == 0
        assert served.stats.closed == {1012: 3}


@in_virtual_time
async def test_a_ping_is_not_counted_as_a_send() -> None:
    """The books are about messages."""
    async with serving(ping_interval=1, ping_timeout=None) as served:
        peer = served.connect()
        await passing(5)
        served.bolt.ws_send_to(peer.id, "x")
        assert pings(peer) > 1
        assert bytes(peer.transport.sent).endswith(text_frame("x"))
        assert (served.stats.sends, served.stats.handed) == (1, 1)


@in_virtual_time
async def test_a_limit_that_a_mounted_bolt_cannot_set(caplog: pytest.LogCaptureFixture) -> None:
    """The head of a request is read before it is known whose it is: the server's own limits hold,
    and a Bolt that has others is told, once."""
    wires = Wires(set())
    wires.options = make_options({"max_header_size": 4096})
    other = Bolt(max_header_size=512, handshake_timeout=10, ping_interval=1)._runtime
    for _ in range(2):
        wires.register(other)
    wires.register(Bolt(max_header_size=4096)._runtime)
    (record,) = caplog.records
    assert record.getMessage().startswith("max_header_size of a mounted Bolt has no effect")
    assert "4096" in record.getMessage()


@in_virtual_time
async def test_pings_go_on_where_no_pong_is_asked_for() -> None:
    """`ping_timeout=None`: an idle peer is pinged at every interval, and never judged."""
    async with serving(ping_interval=10, ping_timeout=None) as served:
        peer = served.connect()
        await passing(60)
        assert 4 <= pings(peer) <= 6
        peer.assert_open()
