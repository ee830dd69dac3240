"""The log of a server of ours: uvicorn's, with boltws' own lines in the same form."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter, DefaultFormatter

from ..errors import StartError

logger = logging.getLogger("uvicorn.error")

_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")


def check_level(level: object) -> str:
    """The log level that `level` names. Raises :class:`StartError` where it names none."""
    name = level.lower() if isinstance(level, str) else level
    if name not in _LEVELS:
        raise StartError(f"log level {level!r} is none of {', '.join(_LEVELS)}")
    return str(name)


def set_up(level: str, access_log: bool = True) -> None:
    """Give uvicorn's loggers the handlers that its configuration has, and ``boltws`` one beside
    them: each where the app has given it none. As often as you like.

    uvicorn would do so with ``logging.config``, which closes every handler there is, and the app,
    which is there before its server, may have opened some.

    An app that gives the root logger a handler gets our lines there, and only there.
    """
    _give("uvicorn", "INFO", sys.stderr, _formatter("default")).propagate = False
    logging.getLogger("uvicorn.access").addFilter(WITHOUT_QUERY)  # whoever's handlers it has
    if access_log:
        _give("uvicorn.access", "INFO", sys.stdout, _formatter("access")).propagate = False
    lowest = "DEBUG" if level == "trace" else level.upper()
    _give("boltws", lowest, sys.stderr, _formatter("default"), UnlessConfigured())


def _formatter(name: str) -> logging.Formatter:
    kind = AccessFormatter if name == "access" else DefaultFormatter
    colors = sys.stdout is not None and sys.stdout.isatty()  # None where it is closed
    return kind(LOGGING_CONFIG["formatters"][name]["fmt"], use_colors=colors)


def _give(
    name: str, level: str, stream: Any, form: logging.Formatter, *filters: logging.Filter
) -> logging.Logger:
    """Give a logger a handler of ours, in the place of one that it has."""
    to = logging.getLogger(name)
    for handler in list(to.handlers):
        if isinstance(handler, _Handler):
            to.removeHandler(handler)
    if not to.handlers:
        ours = _Handler(stream)
        ours.setFormatter(form)
        for each in filters:
            ours.addFilter(each)
        to.addHandler(ours)
    if to.level in (logging.NOTSET, _levels.get(name)):
        to.setLevel(level)
        _levels[name] = to.level
    return to


_levels: dict[str, int] = {}  # those that we have set: the app's are left alone


class _Handler(logging.StreamHandler[Any]):
    """A handler of ours."""


class UnlessConfigured(logging.Filter):
    """Lets nothing through where the app has configured logging."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is for our own handler."""
        return not logging.getLogger().handlers


class WithoutQuery(logging.Filter):
    """Cuts the query off uvicorn's access lines: tokens travel there."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True, the record being cut."""
        if isinstance(record.args, tuple) and len(record.args) == 5:
            peer, method, path, *rest = record.args
            record.args = (peer, method, str(path).partition("?")[0], *rest)
        return True


WITHOUT_QUERY = WithoutQuery()


def handshake_log(peer: str, path: str) -> Callable[[str], None]:
    """Logs the outcome of a handshake, as uvicorn does."""

    def log(outcome: str) -> None:
        logger.info('%s - "WebSocket %s" %s', peer, path, outcome)

    return log
