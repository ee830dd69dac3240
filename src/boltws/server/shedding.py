"""What asyncio's own loop does when no descriptor is left for who wants in.

It would try again for as many times as the backlog holds, every second, with a traceback each
(python/cpython issue 151615). Here a spare descriptor is given up for a moment, and whoever waits
is accepted and closed at once, as uvloop does by itself: that ends its trying, and nobody is left
waiting for an answer.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

logger = logging.getLogger("uvicorn.error")

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RETRY = 1.0  # seconds
_BETWEEN = 60.0  # seconds from one warning to the next


class Shedding:
    """Handles a loop's failing accepts for as long as it stands in a ``with``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sockets: Sequence[socket.socket]) -> None:
        self._loop = loop
        self._sockets = sockets
        self._others = loop.get_exception_handler()
        self._spare: int | None = None
        self._warned = float("-inf")

    def __enter__(self) -> None:
        self._reserve()
        self._loop.set_exception_handler(self._handle)

    def __exit__(self, *exc: object) -> None:
        self._loop.set_exception_handler(self._others)
        self._release()

    def _reserve(self) -> None:
        if self._spare is None and not self._closed():
            try:
                self._spare = os.open(os.devnull, os.O_RDONLY)
            except OSError:  # somebody else was faster
                self._loop.call_later(_RETRY, self._reserve)

    def _release(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _EXHAUSTED and "socket" in context:
            self._shed(context["socket"].fileno())
        elif "_start_serving" in context.get("message", "") and self._closed():
            pass  # it wants to try again, and we have stopped listening
        elif self._others is not None:
            self._others(loop, context)
        else:
            loop.default_exception_handler(context)

    def _closed(self) -> bool:
        return all(listener.fileno() == -1 for listener in self._sockets)

    def _shed(self, listening: int) -> None:
        self._release()
        for listener in self._sockets:
            while listener.fileno() == listening:
                try:
                    listener.accept()[0].close()
                except OSError:  # nobody waits any more, or there is still no descriptor
                    break
        # Not at once: without a free descriptor, accept fails even where nobody waits.
        self._loop.call_soon(self._reserve)
        now = self._loop.time()
        if now - self._warned >= _BETWEEN:
            self._warned = now
            logger.warning(
                "no descriptor is left: new connections are closed. Raise the limit (ulimit -n), "
                "or set max_connections below it"
            )
