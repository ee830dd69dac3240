"""handler_timeout: an async pipeline is cancelled, a thread is waited for."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from boltws import Bolt, Event

from .conftest import Errors
from .flow import Clock, Gate, Journal, Start, turns


def hanging(seen: list[Any], **options: Any) -> Bolt:
    """A Bolt whose callbacks hang for an hour where the message, or the event, says so."""
    bolt = Bolt(handler_timeout=5, **options)

    async def hang(event: Event) -> None:
        try:
            if event.message.startswith("hang"):
                await asyncio.sleep(3600)
            await asyncio.sleep(0)
            seen.append(event.message or event.type)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    bolt.ws("/p", None, hang, hang)
    return bolt


async def test_an_async_handler(start: Start, clock: Clock, logged: Errors) -> None:
    """It is cancelled when its time is over, counted and logged; the client lives on."""
    seen: list[Any] = []
    errors: list[BaseException] = []
    bolt = hanging(seen)
    bolt.on_error(lambda event, error: errors.append(error))
    client = start(bolt).connect()
    begin = clock.now
    client.says("a", "hang", "b", "hang", "c")
    await asyncio.sleep(4.5)
    assert seen == ["a"]
    await asyncio.sleep(1)
    assert seen == ["a", "cancelled", "b"]
    await asyncio.sleep(5)
    assert clock.now - begin == 10.5
    assert seen == ["a", "cancelled", "b", "cancelled", "c"]
    stats = bolt.stats()
    assert (stats.timed_out, stats.handled, stats.failed, stats.errors) == (2, 3, 0, 2)
    assert [type(error) for error in errors] == [TimeoutError] * 2
    assert client.closes == []
    assert all(client.id in text for text in logged.texts())


async def test_the_limit_is_for_the_whole_pipeline(
    start: Start, clock: Clock, logged: Errors
) -> None:
    """Befores, handler and afters of one event together."""
    seen: list[str] = []
    bolt = Bolt(handler_timeout=5)

    async def takes_two_seconds() -> None:
        await asyncio.sleep(2)
        seen.append("done")

    chat = bolt.ws("/p", None, lambda: takes_two_seconds())
    chat.before(lambda event: takes_two_seconds() if event.type == "message" else None)
    chat.after(lambda event: takes_two_seconds() if event.type == "message" else None)
    client = start(bolt).connect()
    client.says("x")
    await client.quiet_in_time()
    assert seen == ["done", "done"]
    assert bolt.stats().timed_out == 1


async def test_each_event_has_its_own_time(start: Start, clock: Clock) -> None:
    """What waited behind another one does not pay for that."""
    bolt = Bolt(handler_timeout=5)
    bolt.ws("/p", None, lambda: asyncio.sleep(4))
    client = start(bolt).connect()
    client.says(*"abcd")
    await client.quiet_in_time()
    assert (bolt.stats().handled, bolt.stats().timed_out) == (4, 0)


async def test_on_connect(start: Start, clock: Clock, logged: Errors) -> None:
    """Who could not be connected in time is closed with 1011; `disconnect` runs."""
    seen: list[str] = []
    bolt = Bolt(handler_timeout=5)
    bolt.ws("/p", lambda: asyncio.sleep(3600), None, lambda event: seen.append(event.close_reason))
    client = start(bolt).connect()
    await client.over.wait()
    assert client.closes == [(1011, "handler timeout")]
    assert seen == ["handler timeout"]
    assert bolt.stats().timed_out == 0  # those are messages


async def test_on_disconnect(start: Start, clock: Clock, logged: Errors) -> None:
    """It is cancelled; the client is over."""
    bolt = Bolt(handler_timeout=5)
    bolt.ws("/p", None, None, lambda: asyncio.sleep(3600))
    client = start(bolt).connect()
    client.leaves()
    await client.over.wait()
    assert bolt.stats().errors == 1


async def test_error_policy_close(start: Start, clock: Clock, logged: Errors) -> None:
    """A message's timeout is an error like another: then it closes, with its own reason."""
    seen: list[Any] = []
    client = start(hanging(seen, error_policy="close")).connect()
    client.says("hang", "b")
    await client.over.wait()
    assert client.closes == [(1011, "handler timeout")]
    assert seen == ["cancelled", "b", "disconnect"]


async def test_what_a_cancelled_handler_raises_instead(
    start: Start, clock: Clock, logged: Errors
) -> None:
    """It has timed out all the same."""

    async def said() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            raise ValueError("instead") from None

    bolt = Bolt(handler_timeout=5)
    bolt.ws("/p", None, said)
    client = start(bolt).connect()
    client.says("x")
    await client.quiet_in_time()
    assert (bolt.stats().timed_out, bolt.stats().failed) == (1, 0)


async def test_a_timeout_of_the_handlers_own(start: Start, clock: Clock, logged: Errors) -> None:
    """A TimeoutError that it raises by itself, within its time, is an error of it."""

    async def said() -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(2)

    bolt = Bolt(handler_timeout=5)
    bolt.ws("/p", None, said)
    client = start(bolt).connect()
    client.says("x", "y")
    await client.quiet_in_time()
    assert (bolt.stats().timed_out, bolt.stats().failed) == (0, 2)


# Threads.


class Blocking:
    """A blocking Bolt whose callbacks of one kind hang in their thread until the gate opens."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.gate = Gate()
        self.journal = Journal()
        self.bolt = Bolt(blocking=True, handler_timeout=0.3)
        self.bolt.ws("/p", self.run, self.run, self.run)

    def run(self, event: Event) -> None:
        if event.type == self.kind and event.message != "fine":
            self.journal.note("began")
            self.gate.wait()
        self.journal.note(event.message or event.type)


async def test_a_thread_in_a_message(start: Start, logged: Errors) -> None:
    """It cannot be stopped: it is counted, the client is closed with 1011, and what is behind,
    `disconnect` the last, waits for the thread."""
    blocking = Blocking("message")
    bolt, journal = blocking.bolt, blocking.journal
    client = start(bolt).connect()
    client.says("hang", "fine")
    await journal.reaches(2)
    while not client.closes:
        await asyncio.sleep(0.01)
    assert client.closes == [(1011, "handler timeout")]
    assert bolt.ws_client_list() == []
    stats = bolt.stats()
    assert (stats.timed_out, stats.errors, stats.waiting, stats.closed) == (1, 1, 1, {1011: 1})
    await turns()
    assert journal == ["connect", "began"]
    assert not client.over.is_set()
    blocking.gate.open()
    await client.over.wait()
    assert journal == ["connect", "began", "hang", "fine", "disconnect"]
    assert (bolt.stats().timed_out, bolt.stats().handled) == (1, 1)


async def test_a_thread_in_connect(start: Start, logged: Errors) -> None:
    """Closed as well; `disconnect` does not overtake it."""
    blocking = Blocking("connect")
    client = start(blocking.bolt).connect()
    while not client.closes:
        await asyncio.sleep(0.01)
    assert client.closes == [(1011, "handler timeout")]
    await turns()
    assert blocking.journal == ["began"]
    blocking.gate.open()
    await client.over.wait()
    assert blocking.journal == ["began", "connect", "disconnect"]


async def test_a_thread_in_disconnect(start: Start, logged: Errors) -> None:
    """The client is over when the thread is."""
    blocking = Blocking("disconnect")
    bolt = blocking.bolt
    client = start(bolt).connect()
    client.leaves()
    while not bolt.stats().errors:
        await asyncio.sleep(0.01)
    await turns()
    assert not client.over.is_set()
    blocking.gate.open()
    await client.over.wait()
    assert blocking.journal == ["connect", "began", "disconnect"]


async def test_a_thread_that_raises_when_its_time_is_over(start: Start, logged: Errors) -> None:
    """Nobody waits for its result any more; nothing is counted twice, and the log has it."""
    gate = Gate()
    bolt = Bolt(blocking=True, handler_timeout=0.3)

    def said(event: Event) -> None:
        gate.wait()
        raise ValueError("late")

    bolt.ws("/p", None, said)
    client = start(bolt).connect()
    client.says("x")
    while not client.closes:
        await asyncio.sleep(0.01)
    gate.open()
    await client.over.wait()
    assert (bolt.stats().timed_out, bolt.stats().failed, bolt.stats().errors) == (1, 0, 1)
    gc.collect()  # asyncio tells of errors that nobody asked for when they are thrown away
    assert "said raised when its time was over" in logged.texts()[-1]


async def test_a_message_that_waits_for_a_thread(start: Start, logged: Errors) -> None:
    """Its time is over before a thread has begun with it: none does any more, and as nothing is at
    work the client lives on."""
    gate = Gate()
    journal = Journal()
    bolt = Bolt(blocking=True, blocking_threads=1)

    def said(event: Event) -> None:
        journal.note(event.message)
        gate.wait()

    bolt.ws("/long", None, said)
    bolt.ws("/p", None, said, handler_timeout=0.05)
    flow = start(bolt)
    flow.connect("/long").says("first")
    await journal.reaches(1)
    client = flow.connect()
    client.says("late")
    await client.quiet()
    assert (client.closes, bolt.stats().timed_out) == ([], 1)
    flow.connect("/long").says("next")
    gate.open()
    await journal.reaches(2)
    assert journal == ["first", "next"]


async def test_an_async_callback_of_a_blocking_endpoint(
    start: Start, clock: Clock, logged: Errors
) -> None:
    """No thread is at work: it is cancelled, and the client lives on."""
    seen: list[Any] = []
    bolt = hanging(seen, blocking=True)
    client = start(bolt).connect()
    client.says("hang", "a")
    await asyncio.sleep(6)
    assert seen == ["cancelled", "a"]
    assert (client.closes, bolt.stats().timed_out) == ([], 1)


async def test_an_async_step_behind_a_threads(start: Start, logged: Errors) -> None:
    """The before ran in a thread and is done; the handler is what hangs, and is cancelled."""
    bolt = Bolt(blocking=True, handler_timeout=0.3)
    bolt.ws("/p", None, lambda: asyncio.sleep(3600)).before(lambda: None)
    client = start(bolt).connect()
    client.says("x")
    while not bolt.stats().timed_out:
        await asyncio.sleep(0.01)
    await client.quiet()
    assert client.closes == []


@pytest.mark.parametrize("blocking", [False, True])
async def test_nothing_is_left_of_a_limit_that_was_kept(start: Start, blocking: bool) -> None:
    """A handler in time is handled, and no timer comes for it later."""
    bolt = Bolt(handler_timeout=3600, blocking=blocking)
    bolt.ws("/p", None, (lambda: None) if blocking else (lambda: asyncio.sleep(0)))
    client = start(bolt).connect()
    client.says("a", "b")
    await client.quiet()
    loop: Any = asyncio.get_running_loop()
    assert [timer for timer in loop._scheduled if not timer.cancelled()] == []
    assert bolt.stats().handled == 2
