"""A room stays subscribed to for a while when its last member has left: another may come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LINGER = 5.0  # seconds


class Interest:
    """The rooms that have members here, or had a moment ago."""

    def __init__(
        self, subscribe: Callable[[str], None], unsubscribe: Callable[[str], None]
    ) -> None:
        self._subscribe = subscribe
        self._unsubscribe = unsubscribe
        self._emptied: dict[str, float] = {}  # room: when its last member left
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def occupied(self, room: str) -> None:
        """A room has its first member."""
        if self._emptied.pop(room, None) is None:
            self._subscribe(room)

    def emptied(self, room: str) -> None:
        """A room has lost its last member."""
        loop = asyncio.get_running_loop()
        self._emptied[room] = loop.time()
        if self._timer is None and not self._over:
            self._timer = loop.call_later(LINGER, self._drop, loop)

    def _drop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for room, since in list(self._emptied.items()):  # in the order they were left
            left = since + LINGER - loop.time()
            if left > 0:
                self._timer = loop.call_later(left, self._drop, loop)
                break
            del self._emptied[room]
            self._unsubscribe(room)

    def end(self) -> None:
        """Unsubscribe from nothing more."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
