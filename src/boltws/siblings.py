"""Whether other processes serve the same app beside this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_FLAGS = ("--workers", "-w", "--processes")


_alone = 0  # servers of ours that run here


@contextmanager
def alone() -> Iterator[None]:
    """While a server of ours runs: it is one process, whatever a platform sets for others, or has
    siblings that our own supervisor gave a backplane."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def workers_asked_for(argv: Sequence[str] | None = None) -> int:
    """How many workers the server's command line, or ``WEB_CONCURRENCY``, asks for; 1 where
    neither says: uvicorn, gunicorn, hypercorn and granian pass their arguments on to them."""
    if _alone:
        return 1
    words = list(sys.argv[1:] if argv is None else argv)
    for at, word in enumerate(words):
        flag, separator, value = word.partition("=")
        if flag in _FLAGS:
            number = value if separator else "".join(words[at + 1 : at + 2])
            if number.isdecimal():
                return int(number)
    number = os.environ.get("WEB_CONCURRENCY", "")
    return int(number) if number.isdecimal() else 1
