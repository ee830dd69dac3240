"""Fixtures: Bolts on the test's loop, and books that balance when the test is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from boltws import Bolt

from .flow import Clock, Flow, Start


class Errors(logging.Handler):
    """Collects what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def texts(self) -> list[str]:
        """Each record with its traceback."""
        return [logging.Formatter().format(record) for record in self.records]


@pytest.fixture
def bolts(monkeypatch: pytest.MonkeyPatch) -> list[Bolt]:
    """Every Bolt that the test makes."""
    made: list[Bolt] = []
    init = Bolt.__init__

    def noted(self: Bolt, **options: Any) -> None:
        init(self, **options)
        made.append(self)

    monkeypatch.setattr(Bolt, "__init__", noted)
    return made


@pytest.fixture
def logged() -> Iterator[Errors]:
    """For a test of errors: what boltws logged as one. Other tests may cause none."""
    errors = Errors()
    logger = logging.getLogger("boltws")
    logger.addHandler(errors)
    yield errors
    logger.removeHandler(errors)


@pytest.fixture(autouse=True)
def books(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test all pipelines are quiet, the books balance, and no error was logged that
    the test is not about."""
    if request.path.parent != Path(__file__).parent:  # what is on a wire has checks of its own
        yield
        return
    bolts: list[Bolt] = request.getfixturevalue("bolts")
    expected = "logged" in request.fixturenames
    errors = Errors()
    loggers = [logging.getLogger(name) for name in ("asyncio", "boltws")[: 2 - expected]]
    for logger in loggers:
        logger.addHandler(errors)
    yield
    for logger in loggers:
        logger.removeHandler(errors)
    assert errors.texts() == []
    for bolt in bolts:
        stats = bolt.stats()
        assert stats.imbalance() == ""
        assert (stats.running, stats.waiting) == (0, 0)


@pytest.fixture
async def start(bolts: list[Bolt]) -> AsyncIterator[Start]:
    """Starts Bolts on the test's loop; after the test their clients leave and they stop. No error
    of a callback or task may have gone to the loop meanwhile."""
    flows: list[Flow] = []
    stray: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: stray.append(context))

    def start(bolt: Bolt) -> Flow:
        flows.append(Flow(bolt))
        return flows[-1]

    yield start
    for flow in flows:
        await flow.end()
    assert stray == []


@pytest.fixture
async def clock() -> Clock:
    """The test's loop on a clock that jumps to the next thing to do."""
    return Clock(asyncio.get_running_loop())
