"""The watchdog, without sockets: a loop that is blocked on purpose until the watchdog says so."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident

import pytest

from boltws import Bolt
from boltws.event import Event
from boltws.watchdog import Watchdog

from .conftest import Errors
from .flow import Start

PATIENCE = 30.0  # only a hang ends there


class Bark(logging.Handler):
    """What the watchdog logs; `came` is set by the first line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.came = threading.Event()
        self.ended = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "block" not in record.getMessage():
            return
        self.lines.append(record.getMessage())
        (self.ended if len(self.lines) > 1 else self.came).set()


@pytest.fixture
def bark() -> Iterator[Bark]:
    handler = Bark()
    logger = logging.getLogger("boltws")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@contextmanager
def watching(blocked: Callable[[], None]) -> Iterator[None]:
    dog = Watchdog(asyncio.get_running_loop(), get_ident(), blocked, patience=0.05)
    dog.start()
    try:
        yield
    finally:
        dog.stop()


@pytest.mark.parametrize("kind", ["def", "async", "before", "nothing", "on_error"])
async def test_a_callback_that_blocks_is_named(
    bark: Bark, start: Start, logged: Errors, kind: str
) -> None:
    """Whatever the way it is called in: name and place, while it still blocks. A second line, when
    the loop goes on, says for how long. It is counted once."""
    bolt = Bolt()
    bolt._runtime.patience = 0.05

    def stuck(event: Event) -> None:
        assert bark.came.wait(PATIENCE)

    def stuck_nothing() -> None:
        assert bark.came.wait(PATIENCE)

    async def stuck_async(event: Event) -> None:
        await asyncio.sleep(0)
        assert bark.came.wait(PATIENCE)

    def fails(event: Event) -> None:
        raise ValueError

    endpoint = bolt.ws("/p")
    name = stuck.__qualname__
    if kind == "def":
        endpoint.on_message(stuck)
    elif kind == "async":
        endpoint.on_message(stuck_async)
        name = stuck_async.__qualname__
    elif kind == "before":
        endpoint.on_before(lambda event: stuck(event) if event.type == "message" else None)
    elif kind == "nothing":
        endpoint.on_message(stuck_nothing)
        name = stuck_nothing.__qualname__
    else:
        endpoint.on_message(fails)
        bolt.on_error(lambda event, error: stuck(event))
    if kind in ("before", "on_error"):
        name = f"{test_a_callback_that_blocks_is_named.__name__}.<locals>.<lambda>"
    flow = start(bolt)
    flow.connect().says("hello")
    assert await asyncio.to_thread(bark.ended.wait, PATIENCE)
    first, second = bark.lines
    assert f"callback {__name__}.{name} (test_watchdog.py:" in first
    assert "has blocked the event loop for" in first and "blocking=True" in first
    assert "goes on" in second and name in second
    assert bolt.stats().blocked == 1


async def test_code_that_is_no_callback_is_told_apart(bark: Bark) -> None:
    """Another task of the app that blocks the loop is named by its function."""
    with watching(lambda: None):
        assert bark.came.wait(PATIENCE)
        assert await asyncio.to_thread(bark.ended.wait, PATIENCE)
    assert "no callback has blocked" in bark.lines[0]


async def test_a_process_that_stood_still_blames_nobody() -> None:
    """A process that was stopped, or slept with its machine, used no time of its own."""
    dog = Watchdog(asyncio.get_running_loop(), get_ident(), lambda: None, patience=0.05)
    now, used = time.monotonic(), time.process_time()
    assert dog._is_blocked(now - 0.06, used), "it woke in time: the loop alone stood still"
    assert not dog._is_blocked(now - 1000, used), "it woke late, and nothing had been done"
    assert dog._is_blocked(now - 1000, used - 999), "it woke late, for somebody held the GIL"
