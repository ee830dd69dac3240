"""The deadline of a shutdown: what runs is cut, what waits is dropped, and all of it is counted."""

from __future__ import annotations

import asyncio
import logging

import pytest

from boltws import Bolt, Event

from .conftest import Errors
from .flow import Clock, Gate, Journal, Start, turns_until
from .test_runtime_shutdown import GOING_AWAY, TIMEOUT, Log


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
