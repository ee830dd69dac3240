"""What asyncio's own loop does when no descriptor is left for who wants in.

It would try again for as many times as the backlog holds, every second, with a traceback each
(python/cpython issue 151615). Here a spare descriptor is given up for a moment, and whoever waits
is accepted and closed at once, as uvloop does by itself. The loop is told that nobody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("uvicorn.error")

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RETRY = 1.0  # seconds
_BETWEEN = 60.0  # seconds from one warning to the next
_AT_ONCE = 1000  # connections that are shed before clients have their turn


class Spare:
    """A descriptor that is kept for the moment in which none is left."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: int | None = None
        self._again: asyncio.TimerHandle | None = None
        self._warned = float("-inf")
        self._reserve()

    def _reserve(self) -> None:
        self._again = None
        try:
            self._held = os.open(os.devnull, os.O_RDONLY)
        except OSError:  # another thread was faster
            self._again = self._loop.call_later(_RETRY, self._reserve)

    def close(self) -> None:
        """Keep none any more."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
        if self._again is not None:
            self._again.cancel()

    @contextlib.contextmanager
    def given_up(self) -> Iterator[None]:
        """There is one descriptor more in here."""
        now = self._loop.time()
        if now - self._warned >= _BETWEEN:
            self._warned = now
            logger.warning(
                "no descriptor is left: new connections are closed. Raise the limit (ulimit -n), "
                "or set max_connections below it"
            )
        self.close()
        try:
            yield
        finally:
            self._reserve()


class Listener(socket.socket):
    """A listening socket that sheds whoever waits when there is no descriptor for them.

    It takes over `sock`, which is closed as far as others see.
    """

    def __init__(self, sock: socket.socket, spare: Spare) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self._spare = spare
        self._failed = False

    def accept(self) -> tuple[socket.socket, Any]:
        """As a socket's that does not block.

        Raises `BlockingIOError` where nobody waits (any more), and another `OSError` once where
        not even shedding works: the loop takes it as a reason to try again in a second, and asks
        at once for the next one.
        """
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            with self._spare.given_up():
                self._failed = not self._shed() and not self._failed
            if self._failed:
                raise
        raise BlockingIOError(errno.EAGAIN, "nobody waits any more")

    def _shed(self) -> bool:
        """Accept and close. Whether that works."""
        for _ in range(_AT_ONCE):
            try:
                super().accept()[0].close()
            except BlockingIOError:
                break
            except (InterruptedError, ConnectionAbortedError):
                continue
            except OSError:
                return False
        return True
