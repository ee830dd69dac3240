"""The log of a server of ours: uvicorn's, with boltws' own lines in the same form."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.config import LOGGING_CONFIG

from ..errors import StartError

logger = logging.getLogger("uvicorn.error")

_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")


def log_config(level: str) -> dict[str, Any]:
    """uvicorn's configuration, and a handler for the logger ``boltws`` beside it.

    An app that gives the root logger a handler gets our lines there, and only there.

    Raises :class:`StartError` for a level that is none.
    """
    if level not in _LEVELS:
        raise StartError(f"log level {level!r} is none of {', '.join(_LEVELS)}")
    config = copy.deepcopy(LOGGING_CONFIG)
    config["filters"] = {
        kind.__name__: {"()": f"{__name__}.{kind.__name__}"}  # by name, as workers get it pickled
        for kind in (UnlessConfigured, WithoutQuery)
    }
    handlers, loggers = config["handlers"], config["loggers"]
    handlers["boltws"] = {**handlers["default"], "filters": ["UnlessConfigured"]}
    loggers["uvicorn.access"]["filters"] = ["WithoutQuery"]
    loggers["boltws"] = {
        "handlers": ["boltws"],
        "level": "DEBUG" if level == "trace" else level.upper(),
    }
    return config


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


def handshake_log(peer: str, path: str) -> Callable[[str], None]:
    """Logs the outcome of a handshake, as uvicorn does."""

    def log(outcome: str) -> None:
        logger.info('%s - "WebSocket %s" %s', peer, path, outcome)

    return log
