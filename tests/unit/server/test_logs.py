"""The log of a server is set up beside what the app has set up, and once."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from boltws import Bolt
from boltws.errors import StartError
from boltws.server import logs
from boltws.server.logs import check_level
from boltws.server.run import build_server

NAMES = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "boltws")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loggers as they are in a new process, for the length of a test."""
    for name in NAMES:
        logger = logging.getLogger(name)
        for attribute, value in (("handlers", []), ("filters", []), ("propagate", True)):
            monkeypatch.setattr(logger, attribute, value)
        monkeypatch.setattr(logger, "level", logging.NOTSET)
    monkeypatch.setattr(logs, "_levels", {})
    yield
    monkeypatch.undo()
    logging.Logger.manager._clear_cache()  # type: ignore[attr-defined]


def handlers(name: str) -> list[logging.Handler]:
    return logging.getLogger(name).handlers


def test_as_often_as_servers_are_built_there_is_one_handler() -> None:
    """A process may have many; the last one's level is that of our lines."""
    for level in ("info", "error", "trace"):
        build_server(Bolt(), port=0, log_level=level)
    for name, count in (("uvicorn", 1), ("uvicorn.error", 0), ("uvicorn.access", 1), ("boltws", 1)):
        assert len(handlers(name)) == count
    assert len(logging.getLogger("uvicorn.access").filters) == 1
    assert logging.getLogger("boltws").level == logging.DEBUG
    assert logging.getLogger("boltws").propagate
    assert not logging.getLogger("uvicorn").propagate


def test_no_query_is_logged_where_the_access_log_is_the_app_s() -> None:
    """Ours is off, and the logger has a handler all the same: tokens stay out of its lines."""
    seen: list[str] = []
    mine = logging.Handler()
    mine.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    build_server(Bolt(), port=0, access_log=False)
    logger = logging.getLogger("uvicorn.access")
    logger.addHandler(mine)
    logger.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/p?token=secret", "1.1", 426)
    assert seen == ['127.0.0.1:1 - "GET /p HTTP/1.1" 426']


def test_what_the_app_has_set_is_left_alone() -> None:
    """Its handlers, each for its logger, and its level."""
    mine = logging.NullHandler()
    for name in ("uvicorn", "uvicorn.access", "boltws"):
        logging.getLogger(name).addHandler(mine)
    logging.getLogger("boltws").setLevel("ERROR")
    build_server(Bolt(), port=0, log_level="debug")
    for name in ("uvicorn", "uvicorn.access", "boltws"):
        assert handlers(name) == [mine]
    assert logging.getLogger("boltws").level == logging.ERROR


def test_no_access_log_is_for_one_server() -> None:
    """The next one may log again."""
    build_server(Bolt(), port=0, access_log=False)
    assert handlers("uvicorn.access") == []
    build_server(Bolt(), port=0)
    assert len(handlers("uvicorn.access")) == 1


def test_a_level_is_a_name_in_either_case() -> None:
    """And nothing else is one."""
    assert check_level("INFO") == check_level("info") == "info"
    for wrong in ("loud", "", 20, None):
        with pytest.raises(StartError, match="is none of critical, error, "):
            check_level(wrong)


def test_a_server_needs_no_stdout_and_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts it may have closed them: it serves, and says nothing."""
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    build_server(Bolt())
    logging.getLogger("boltws").warning("to nobody")
    logging.getLogger("uvicorn.access").info("to nobody")
