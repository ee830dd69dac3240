"""Shutdown: running pipelines end, what waits is handled, 1012, disconnects; and the deadline."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from boltws import Bolt, Event, NotRunning
from boltws.client import CLOSED, DRAINING, OPEN

from .conftest import Errors
from .flow import Clock, FakeClient, Flow, Gate, Journal, Start, turns, turns_until

GOING_AWAY = (1012, "service restart")
TIMEOUT = 10.0  # the default of shutdown_timeout


class Log:
    """What the callbacks of a Bolt did, in order. Messages: `wait` waits for the gate, `hang`
    for ever, `all` is sent on to all."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[Any] = []
        self.gate = asyncio.Event()
        self.bolt = Bolt(**options)
        self.bolt.ws("/p", None, self.said, self.left)

    def said(self, event: Event) -> Any:
        if event.message == "wait":
            return self.wait()
        if event.message == "hang":
            return asyncio.sleep(1e9)
        if event.message == "all":
            return self.bolt.ws_broadcast("to all") and None
        self.seen.append(event.message)
        return None

    async def wait(self) -> None:
        await self.gate.wait()
        self.bolt.ws_broadcast("waited")
        self.seen.append("wait")

    def left(self, event: Event) -> None:
        self.seen.append(("left", event.close_code))


def begin(flow: Flow) -> asyncio.Task[None]:
    """Begin to shut down, as a server does at a signal."""
    return asyncio.get_running_loop().create_task(flow.runtime.drain())


async def test_idle_clients(start: Start, clock: Clock) -> None:
    """1012 to everyone, a `disconnect` each, no time lost; then the server has stopped."""
    log = Log()
    flow = start(log.bolt)
    clients = [flow.connect() for _ in range(3)]
    began = clock.now
    await flow.runtime.drain()
    assert [client.closes for client in clients] == [[GOING_AWAY]] * 3
    assert log.seen == [("left", 1012)] * 3
    assert all(client.state == CLOSED and client.aborted == 0 for client in clients)
    assert clock.now - began < 1
    stats = log.bolt.stats()
    assert (stats.closed, stats.connections_now, stats.closing) == ({1012: 3}, 0, 0)
    with pytest.raises(NotRunning):
        log.bolt.ws_client_list()


async def test_nothing_to_do(start: Start, clock: Clock) -> None:
    """Without clients, before the start and after the stop, a shutdown is over at once."""
    log = Log()
    await log.bolt._runtime.drain()
    flow = start(log.bolt)
    await flow.runtime.drain()
    await flow.runtime.drain()
    assert log.seen == []


async def test_running_pipelines_end(start: Start, clock: Clock) -> None:
    """What runs and what waits is handled before anyone is closed, and may send to clients that
    have nothing to do themselves; what the peer sends from now on is not read."""
    log = Log()
    flow = start(log.bolt)
    busy, idle = flow.connect(), flow.connect()
    busy.says("wait", "a", "all", "b")
    drain = begin(flow)
    await asyncio.sleep(1)
    assert busy.held == idle.held == DRAINING
    busy.says("not read")
    idle.says("not read either")
    await asyncio.sleep(1)
    assert (busy.closes, idle.closes, log.seen) == ([], [], [])
    log.gate.set()
    await drain
    assert log.seen[:3] == ["wait", "a", "b"]
    assert log.seen[3:] == [("left", 1012)] * 2
    assert idle.got == busy.got == ["waited", "to all"]
    stats = log.bolt.stats()
    assert (stats.handled, stats.received) == (4, 4 + stats.dropped_in.get("closed", 0))


async def test_a_client_that_leaves_meanwhile(start: Start, clock: Clock) -> None:
    """It ends in its own way, and nobody waits for it."""
    log = Log()
    flow = start(log.bolt)
    busy, other = flow.connect(), flow.connect()
    busy.says("wait")
    drain = begin(flow)
    await asyncio.sleep(1)
    other.leaves(4000)
    log.gate.set()
    await drain
    assert sorted(log.seen, key=str) == sorted([("left", 4000), "wait", ("left", 1012)], key=str)


async def test_disconnects_are_waited_for(start: Start, clock: Clock) -> None:
    """The async ones too: when the shutdown is over, so is every client."""
    log = Log()
    seen: list[str] = []

    async def left() -> None:
        await asyncio.sleep(5)
        seen.append("left")

    log.bolt.ws("/q", None, None, left)
    flow = start(log.bolt)
    for _ in range(2):
        flow.connect("/q")
    await flow.runtime.drain()
    assert seen == ["left", "left"]
    assert all(client.over.is_set() for client in flow.clients)


async def test_one_shutdown(start: Start, clock: Clock) -> None:
    """Whoever calls, it happens once and all wait for its end, though the first gives up."""
    log = Log()
    flow = start(log.bolt)
    client = flow.connect()
    client.says("wait")
    first, second = begin(flow), begin(flow)
    await asyncio.sleep(1)
    first.cancel()
    await asyncio.sleep(1)
    assert first.cancelled()
    assert not second.done()
    log.gate.set()
    await second
    assert client.closes == [GOING_AWAY]
    assert log.seen == ["wait", ("left", 1012)]


async def test_a_blocking_pipeline_ends(start: Start) -> None:
    """A thread is given its time as well."""
    gate, journal = Gate(), Journal()
    bolt = Bolt(blocking=True)

    def said() -> None:
        journal.note("began")
        gate.wait()
        journal.note("ended")

    bolt.ws("/p", None, said, lambda: journal.note("left"))
    flow = start(bolt)
    client = flow.connect()
    client.says("x")
    await journal.reaches(1)
    drain = begin(flow)
    await turns_until(lambda: client.held == DRAINING)
    gate.open()
    await drain
    assert journal == ["began", "ended", "left"]
    assert bolt.stats().handled == 1


async def test_silent_peers(start: Start, clock: Clock) -> None:
    """Who does not answer the close is aborted at the deadline, at the latest."""
    log = Log()
    flow = start(log.bolt)
    client, other = flow.connect(), flow.connect()
    client.silent = True
    began = clock.now
    await flow.runtime.drain()
    assert (client.aborted, other.aborted) == (1, 0)
    assert client.state == CLOSED
    assert TIMEOUT <= clock.now - began < TIMEOUT + 2
    assert log.seen == [("left", 1012)] * 2


# The deadline.


async def test_the_deadline(
    start: Start, clock: Clock, logged: Errors, caplog: pytest.LogCaptureFixture
) -> None:
    """What still runs is cancelled and has timed out; what waits is dropped and counted; each
    client has its 1012 and its `disconnect`, once."""
    log = Log()
    flow = start(log.bolt)
    hanging, idle, other = flow.connect(), flow.connect(), flow.connect()
    hanging.says("hang", "a", "b", "c")
    other.says("wait", "d")
    began = clock.now
    with caplog.at_level(logging.WARNING, "boltws"):
        await flow.runtime.drain()
    assert TIMEOUT <= clock.now - began < TIMEOUT + 2
    assert "2 pipelines and 0 handshakes were still running" in caplog.text
    assert log.seen == [("left", 1012)] * 3
    assert [client.closes for client in (hanging, idle, other)] == [[GOING_AWAY]] * 3
    stats = log.bolt.stats()
    assert (stats.timed_out, stats.handled, stats.failed) == (2, 0, 0)
    assert stats.dropped_in == {"shutdown": 4}
    assert (stats.waiting, stats.running, stats.received) == (0, 0, 6)
    assert stats.closed == {1012: 3}


@pytest.mark.parametrize("state", ["idle", "busy"])
async def test_an_async_disconnect_at_the_deadline(
    start: Start, clock: Clock, logged: Errors, state: str
) -> None:
    """Pipelines are cut, and then the disconnects get their time: also the one of a client that
    had nothing to do, and was kept for those that had."""
    seen: list[str] = []
    log = Log()

    async def left() -> None:
        seen.append("began")
        await asyncio.sleep(0.1)
        seen.append("ended")

    log.bolt.ws("/q", None, log.said, left)
    flow = start(log.bolt)
    client, hanging = flow.connect("/q"), flow.connect()
    hanging.says("hang")
    if state == "busy":
        client.says("hang")
    await flow.runtime.drain()
    assert seen == ["began", "ended"]
    assert client.over.is_set()


async def test_a_disconnect_that_hangs(start: Start, clock: Clock, logged: Errors) -> None:
    """It is cancelled, soon after the deadline; the shutdown ends."""
    bolt = Bolt()
    cancelled: list[bool] = []

    async def left() -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            cancelled.append(True)

    bolt.ws("/p", None, None, left)
    flow = start(bolt)
    client = flow.connect()
    began = clock.now
    await flow.runtime.drain()
    assert cancelled == [True]
    assert client.over.is_set()
    assert TIMEOUT <= clock.now - began < TIMEOUT + 4


async def test_a_pipeline_that_resists(start: Start, clock: Clock, logged: Errors) -> None:
    """One that goes on after it was cancelled is cancelled again: the shutdown ends."""
    bolt = Bolt()
    seen: list[str] = []

    async def said() -> None:
        try:
            await asyncio.sleep(1e9)
        except asyncio.CancelledError:
            await asyncio.sleep(1e9)

    bolt.ws("/p", None, said, lambda: seen.append("left"))
    flow = start(bolt)
    flow.connect().says("x")
    began = clock.now
    await flow.runtime.drain()
    assert clock.now - began < TIMEOUT + 4
    assert seen == ["left"]
    assert bolt.stats().timed_out == 1


async def test_a_thread_at_the_deadline(start: Start, logged: Errors) -> None:
    """It cannot be stopped, and the shutdown does not wait for it: its message has timed out,
    and `disconnect` runs, in another thread."""
    gate, journal = Gate(), Journal()
    bolt = Bolt(blocking=True, shutdown_timeout=0.05)

    def said() -> None:
        journal.note("began")
        gate.wait()

    bolt.ws("/p", None, said, lambda: journal.note("left"))
    flow = start(bolt)
    client = flow.connect()
    client.says("x", "y")
    await journal.reaches(1)
    await flow.runtime.drain()
    assert client.closes == [GOING_AWAY]
    assert journal == ["began", "left"]
    stats = bolt.stats()
    assert (stats.timed_out, stats.failed, stats.dropped_in) == (1, 0, {"shutdown": 1})
    gate.open()


@pytest.mark.parametrize("kind", ["first", "following"])
async def test_a_thread_past_both_limits(start: Start, logged: Errors, kind: str) -> None:
    """Its handler_timeout has passed and its `disconnect` waits for it when the shutdown's
    deadline comes: the message is counted once, and `disconnect` runs once."""
    gate, journal = Gate(), Journal()
    bolt = Bolt(blocking=True, handler_timeout=0.01, shutdown_timeout=0.05)

    def said(event: Event) -> None:
        if event.message == "hang":
            journal.note("began")
            gate.wait()

    bolt.ws("/p", None, said, lambda: journal.note("left"))
    flow = start(bolt)
    client = flow.connect()
    client.says(*(["fine"] if kind == "following" else []), "hang")
    await journal.reaches(1)
    await turns_until(lambda: bool(client.closes))
    await flow.runtime.drain()
    stats = bolt.stats()
    assert (stats.timed_out, stats.failed, stats.running) == (1, 0, 0)
    assert journal == ["began", "left"]
    gate.open()


# shutdown_spread.


class Noting(FakeClient):
    """Notes when it is closed."""

    __slots__ = ("clock", "times")

    clock: Clock
    times: list[float]

    def send_close(self, close: Any) -> None:
        self.times.append(self.clock.now)
        super().send_close(close)


async def spread(start: Start, clock: Clock, bolt: Bolt, count: int) -> tuple[Flow, list[float]]:
    flow = start(bolt)
    times: list[float] = []
    for _ in range(count):
        client = Noting(flow.hub, flow.runtime.endpoints[0])
        client.clock, client.times = clock, times
        flow.clients.append(client)
        flow.hub.add(client)
    return flow, times


async def test_spread(start: Start, clock: Clock) -> None:
    """The 1012s are spread over the time, so that not all clients come back at once."""
    log = Log(shutdown_spread=8)
    flow, times = await spread(start, clock, log.bolt, 4)
    began = clock.now
    await flow.runtime.drain()
    after = [time - began for time in times]
    assert len(after) == 4
    assert all(abs(time - 2 * (index + 1)) < 0.1 for index, time in enumerate(after))
    assert log.seen == [("left", 1012)] * 4


async def test_those_whose_turn_has_not_come_are_served(start: Start, clock: Clock) -> None:
    """Until then a client's messages are handled as ever."""
    log = Log(shutdown_spread=8)
    flow, _ = await spread(start, clock, log.bolt, 4)
    drain = begin(flow)
    await asyncio.sleep(5)
    states = [client.state == OPEN for client in flow.clients]
    assert states == [False, False, True, True]
    flow.clients[3].says("a")
    assert log.seen[2:] == ["a"]
    await drain
    assert log.seen[3:] == [("left", 1012)] * 2


async def test_the_deadline_is_behind_the_spread(
    start: Start, clock: Clock, logged: Errors
) -> None:
    """The last client to be told has all of shutdown_timeout."""
    log = Log(shutdown_spread=8, shutdown_timeout=3)
    flow, _ = await spread(start, clock, log.bolt, 1)
    flow.clients[0].says("hang")
    began = clock.now
    await flow.runtime.drain()
    assert 11 <= clock.now - began < 13
    assert log.bolt.stats().timed_out == 1


# Starting again.


async def test_after_a_shutdown(start: Start, clock: Clock) -> None:
    """A mount is asked by requests that come while its server goes down: it does not start
    again for them; a lifespan does start it again."""
    log = Log()
    flow = start(log.bolt)
    await flow.runtime.drain()
    flow.runtime.start()
    assert not flow.runtime.started
    assert not flow.runtime.accepting
    async with log.bolt.lifespan():
        assert log.bolt.ws_client_list() == []
    with pytest.raises(NotRunning):
        log.bolt.ws_client_list()


async def test_lifespan(clock: Clock) -> None:
    """For an app that mounts Bolt: started with it, drained and stopped at its end; and again."""
    log = Log()
    for _ in range(2):
        async with log.bolt.lifespan():
            flow = Flow(log.bolt)
            client = flow.connect()
        assert client.closes == [GOING_AWAY]
        with pytest.raises(NotRunning):
            log.bolt.ws_client_list()
    assert log.seen == [("left", 1012)] * 2


async def test_a_drain_within_a_lifespan(clock: Clock) -> None:
    """A server drains first, and the lifespan's end comes later: operations work until then,
    and nothing happens twice."""
    log = Log()
    async with log.bolt.lifespan():
        flow = Flow(log.bolt)
        client = flow.connect()
        await flow.runtime.drain()
        assert client.closes == [GOING_AWAY]
        assert log.bolt.ws_client_list() == []
        await turns()
    assert log.seen == [("left", 1012)]
