"""Fixtures: servers that are gone after the test, books that balance, logs without errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import pytest

from boltws import Bolt

from .helpers import until
from .servers import KINDS, App, Kind, Served

WATCHED = ("asyncio", "uvicorn.error", "boltws", "hypercorn.error", "_granian", "granian")

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Leave word for the fixtures: what a failed test leaves open is no second failure."""
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    return report


class Watch(logging.Handler):
    """Collects what is logged as an error and was not declared as expected."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.expected: list[tuple[str, str, list[logging.LogRecord]]] = []
        self.unexpected: list[str] = []

    def attach(self) -> None:
        """Again after a server was made: a logging configuration takes handlers off."""
        for name in WATCHED:
            logger = logging.getLogger(name)
            if self not in logger.handlers:
                logger.addHandler(self)

    def detach(self) -> None:
        for name in WATCHED:
            logging.getLogger(name).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        fits = [
            found
            for name, needle, found in self.expected
            if record.name.startswith(name) and needle in text
        ]
        for found in fits:
            found.append(record)
        # uvicorn says so of every app that answers a handshake with a denial response.
        if not fits and text != "ASGI callable returned without completing handshake.":
            self.unexpected.append(f"[{record.threadName}] {record.name}: {text}")


@pytest.fixture(scope="package")
def watch() -> Iterator[Watch]:
    watch = Watch()
    watch.attach()
    yield watch
    watch.detach()


@pytest.fixture(scope="package")
def leaving(watch: Watch) -> Iterator[list[Served]]:
    """Servers on their way down. uvicorn takes a quarter of a second for that: tests do not wait,
    but whatever a server leaves behind still fails the run."""
    servers: list[Served] = []
    yield servers
    for served in servers:
        served.stop()
        assert served.unhandled() == [], served.thread.name
    assert watch.unexpected == []


class Serve(Protocol):
    """Start a server for an app: of the test's own kind, or of the one named."""

    def __call__(
        self, app: Any, server: str | None = None, tune: Callable[[Any], None] = ...
    ) -> Served: ...


class NewBolt(Protocol):
    """A Bolt with the options given, and what the test's kind of server needs."""

    def __call__(self, **options: Any) -> Bolt: ...


@pytest.fixture
def server(request: pytest.FixtureRequest) -> str:
    """The kind of server the test runs on; the marks in `servers` give more than this one."""
    name: str = getattr(request, "param", "boltws")
    return name


@pytest.fixture
def kind(server: str) -> Kind:
    return KINDS[server]


@pytest.fixture
def bolts() -> list[Bolt]:
    """Every Bolt of the test."""
    return []


@pytest.fixture
def new_bolt(kind: Kind, bolts: list[Bolt]) -> NewBolt:
    def make(**options: Any) -> Bolt:
        if not kind.attach:
            options["attach"] = False
        bolt = Bolt(**options)
        bolts.append(bolt)
        return bolt

    return make


@pytest.fixture
def expect_error(watch: Watch) -> Iterator[Callable[[str, str], list[logging.LogRecord]]]:
    """`expect_error(logger, text)`: an error the test is about. It must be logged."""

    def expect(name: str, text: str) -> list[logging.LogRecord]:
        found: list[logging.LogRecord] = []
        watch.expected.append((name, text, found))
        return found

    yield expect
    expected, watch.expected = watch.expected, []
    for name, text, found in expected:
        assert found, f"never logged on {name}: {text!r}"


@pytest.fixture(autouse=True)
def serve(
    request: pytest.FixtureRequest,
    server: str,
    bolts: list[Bolt],
    watch: Watch,
    leaving: list[Served],
) -> Iterator[Serve]:
    """Serves apps, and after the test holds every Bolt to its word: all clients are gone, all
    pipelines are quiet, the books balance, and no error was logged that was not expected."""
    servers: list[Served] = []

    def start(
        app: App,
        server: str | None = server,
        tune: Callable[[Any], None] = lambda server: None,
    ) -> Served:
        name = f"{request.node.nodeid}#{len(servers)}"
        kind = KINDS[server or request.getfixturevalue("server")]
        served = Served(app, kind, name, tune)
        servers.append(served)
        served.start()
        watch.attach()
        return served

    yield start
    try:
        if not request.node.stash.get(_failed, True):
            settle(bolts)
            for served in servers:
                assert served.unhandled() == []
            assert watch.unexpected == []
    finally:
        watch.unexpected.clear()
        for served in servers:
            served.ask_to_stop()
        leaving[:] = [s for s in leaving + servers if not s.has_ended_well()]


def settle(bolts: list[Bolt]) -> None:
    """Wait until nothing goes on in any of them any more, and check their books."""
    for bolt in bolts:
        until(partial(is_quiet, bolt), partial(unrest, bolt))
        stats = bolt.stats()
        assert stats.imbalance() == ""
        assert (stats.running, stats.waiting, stats.rooms) == (0, 0, 0)


def is_quiet(bolt: Bolt) -> bool:
    stats = bolt.stats()
    return not (stats.connections_now or stats.closing or stats.running or stats.waiting)


def unrest(bolt: Bolt) -> str:
    return f"quiet: {bolt.stats()}"
