"""Whether other processes serve the same app beside this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_FLAGS = ("--workers", "-w", "--processes")


def workers_asked_for(argv: Sequence[str] | None = None) -> int:
    """How many workers the server's command line, or ``WEB_CONCURRENCY``, asks for; 1 where
    neither says: uvicorn, gunicorn, hypercorn and granian pass their arguments on to them."""
    words = list(sys.argv[1:] if argv is None else argv)
    for at, word in enumerate(words):
        flag, separator, value = word.partition("=")
        if flag in _FLAGS:
            number = value if separator else "".join(words[at + 1 : at + 2])
            if number.isdecimal():
                return int(number)
    number = os.environ.get("WEB_CONCURRENCY", "")
    return int(number) if number.isdecimal() else 1
