"""Shutdown: running pipelines end, what waits is handled, 1012, disconnects; and the deadline."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Bolt, Event, NotRunning
from boltws.client import CLOSED, OPEN

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
    have nothing to do themselves; what a peer sends from now on is dropped and counted."""
    log = Log()
    flow = start(log.bolt)
    busy, idle = flow.connect(), flow.connect()
    busy.says("wait", "a", "all", "b")
    drain = begin(flow)
    await asyncio.sleep(1)
    assert busy.leaving and idle.leaving
    busy.says("dropped")
    idle.says("dropped too")
    await asyncio.sleep(1)
    assert (busy.closes, idle.closes, log.seen) == ([], [], [])
    log.gate.set()
    await drain
    assert log.seen[:3] == ["wait", "a", "b"]
    assert log.seen[3:] == [("left", 1012)] * 2
    assert idle.got == busy.got == ["waited", "to all"]
    stats = log.bolt.stats()
    assert (stats.handled, stats.received, stats.dropped_in) == (4, 6, {"shutdown": 2})


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
    await turns_until(lambda: client.leaving)
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
