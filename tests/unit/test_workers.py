"""Threads for blocking callbacks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from boltws.workers import Workers

from .flow import Gate, Journal, turns

variable: ContextVar[str] = ContextVar("variable")


@pytest.fixture
def before() -> set[threading.Thread]:
    """The threads that were there before the test."""
    return set(threading.enumerate())


@pytest.fixture
def workers(before: set[threading.Thread]) -> Iterator[Workers]:
    """Two threads at most; after the test they are gone."""
    workers = Workers(2)
    yield workers
    workers.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


async def test_a_call_runs_in_a_thread(workers: Workers) -> None:
    """With its arguments, in a daemon thread that is named for what it is."""
    thread = await workers.submit(lambda *args: (threading.current_thread(), args), 1, 2)
    assert thread[1] == (1, 2)
    assert thread[0] is not threading.current_thread()
    assert thread[0].daemon
    assert thread[0].name.startswith("boltws-")


async def test_the_context_is_that_of_the_caller(workers: Workers) -> None:
    """It sees the caller's variables; what it sets stays its own."""

    def look() -> str:
        seen = variable.get()
        variable.set("inside")
        return seen

    variable.set("outside")
    assert await workers.submit(look) == "outside"
    assert variable.get() == "outside"
    assert await workers.submit(look) == "outside"


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
)
async def test_an_error_is_the_callers(workers: Workers, error: type[BaseException]) -> None:
    """Whatever a call raises comes out of the await, and its thread lives on."""

    def fail() -> None:
        raise error("secret")

    future = workers.submit(fail)
    await asyncio.wait([future])
    caught = future.exception()
    assert type(caught) is error
    assert await workers.submit(lambda: "alive") == "alive"


@pytest.mark.parametrize("error", [StopIteration, GeneratorExit])
async def test_what_a_future_cannot_carry(workers: Workers, error: type[BaseException]) -> None:
    """It becomes a RuntimeError that names it, rather than a hang."""

    def fail() -> None:
        raise error("secret")

    with pytest.raises(RuntimeError, match=error.__name__) as raised:
        await workers.submit(fail)
    assert type(raised.value.__cause__) is error


async def test_no_more_threads_than_the_limit(workers: Workers) -> None:
    """The third call of two threads waits until one of them is free, and then runs."""
    gates = [Gate() for _ in range(3)]
    journal = Journal()

    def hold(number: int) -> None:
        journal.note(number)
        gates[number].wait()

    calls = [workers.submit(hold, number) for number in range(3)]
    await journal.reaches(2)
    assert sorted(journal) == [0, 1]
    gates[1].open()
    await journal.reaches(3)
    assert journal[2] == 2
    await calls[1]
    assert not calls[0].done()
    for gate in gates:
        gate.open()
    await asyncio.gather(*calls)


async def test_no_more_threads_than_needed(workers: Workers) -> None:
    """One call after the other takes one thread."""
    names = {await workers.submit(lambda: threading.current_thread().name) for _ in range(5)}
    assert len(names) == 1


async def test_a_thread_that_cannot_start(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call fails, and the next one gets its thread."""
    with monkeypatch.context() as patch:

        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            workers.submit(lambda: None)
    assert await workers.submit(lambda: "next") == "next"


async def test_a_call_that_nobody_waits_for(workers: Workers) -> None:
    """Its future was cancelled: the thread ends it, and nothing is set twice."""
    gate = Gate()
    journal = Journal()

    def hold() -> None:
        journal.note("began")
        gate.wait()
        journal.note("done")

    future = workers.submit(hold)
    await journal.reaches(1)
    future.cancel()
    gate.open()
    await journal.reaches(2)
    assert await workers.submit(lambda: "next") == "next"
    assert future.cancelled()


async def test_a_call_that_is_withdrawn(workers: Workers) -> None:
    """It never runs, where no thread has begun it; else it goes on."""
    gate = Gate()
    journal = Journal()

    def hold(number: int) -> None:
        journal.note(number)
        gate.wait()

    calls = [workers.submit(hold, number) for number in range(4)]
    await journal.reaches(2)
    assert [workers.withdraw(call) for call in calls[:3]] == [False, False, True]
    assert [call.cancelled() for call in calls] == [False, False, True, False]
    gate.open()
    await calls[3]
    assert sorted(journal) == [0, 1, 3]
    assert not workers.withdraw(calls[0])


async def test_what_was_submitted_before_the_stop_is_done(workers: Workers) -> None:
    """The stop waits its turn behind it."""
    gate = Gate()
    calls = [workers.submit(gate.wait), workers.submit(gate.wait), workers.submit(lambda: "third")]
    await turns()
    workers.stop()
    gate.open()
    assert await calls[2] == "third"


def test_a_thread_outlives_its_loop(workers: Workers, before: set[threading.Thread]) -> None:
    """A call that ends when the loop has closed takes its thread with it, without a word."""
    gate = Gate()
    began = threading.Event()
    failures: list[Any] = []
    hook, threading.excepthook = threading.excepthook, failures.append
    try:

        def hold() -> None:
            began.set()
            gate.wait()

        async def main() -> None:
            workers.submit(hold)
            await asyncio.to_thread(began.wait, 10)

        asyncio.run(main())
        (thread,) = {t for t in threading.enumerate() if t.name == "boltws-1"} - before
        gate.open()
        thread.join(10)
        assert not thread.is_alive()
    finally:
        threading.excepthook = hook
    assert failures == []
