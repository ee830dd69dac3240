"""The watchdog: says which callback blocks the event loop, where it stands and for how long.

A thread asks the loop for a sign of life about once a second. Nothing of it touches the hot path:
who blocks is read off the loop's stack, and only when no sign came.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from types import FrameType

logger = logging.getLogger("boltws")

_OURS = str(Path(__file__).parent)
# Callbacks are called from these files, and from no other.
_CALLERS = {str(Path(_OURS, name)) for name in ("channel.py", "pipeline.py", "runtime.py")}


class Watchdog:
    """Watches the loop that runs in one thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        thread: int,
        blocked: Callable[[], None],
        patience: float,
    ) -> None:
        """Ask every `patience` seconds, and call `blocked` when there is no answer within as
        many."""
        self._loop = loop
        self._thread = thread
        self._blocked = blocked
        self._patience = patience
        self._stopped = Event()

    def start(self) -> None:
        """Begin to watch."""
        Thread(target=self._watch, name="boltws-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._patience):
            alive = Event()
            asked, used = time.monotonic(), time.process_time()
            try:
                self._loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # the loop has closed
                return
            if alive.wait(self._patience) or not self._is_blocked(asked, used):
                continue
            self._report(alive, asked)

    def _is_blocked(self, asked: float, used: float) -> bool:
        if self._stopped.is_set() or not self._loop.is_running():
            return False
        # Woken late with no work done meanwhile: not the loop alone stood still but the whole
        # process (stopped by a signal, its machine asleep), and nobody is to blame.
        late = time.monotonic() - asked - self._patience
        return late < self._patience or time.process_time() - used > late / 2

    def _report(self, alive: Event, asked: float) -> None:
        culprit, advice = who_blocks(sys._current_frames().get(self._thread))
        self._blocked()
        logger.warning(
            "%s has blocked the event loop for %.1f s: no client is served meanwhile%s",
            culprit,
            time.monotonic() - asked,
            advice,
        )
        while not alive.wait(self._patience):
            if self._stopped.is_set() or not self._loop.is_running():
                return
        logger.warning(
            "the event loop goes on: %s had blocked it for %.1f s",
            culprit,
            time.monotonic() - asked,
        )


def who_blocks(innermost: FrameType | None) -> tuple[str, str]:
    """The callback that a stack is in, with the line it stands at, and what to do about it."""
    if innermost is None:
        return "something", ""
    frame = innermost
    while (caller := frame.f_back) is not None:
        outside = not frame.f_code.co_filename.startswith(_OURS)
        if outside and caller.f_code.co_filename in _CALLERS:
            module = frame.f_globals.get("__name__", "?")
            name = f"callback {module}.{frame.f_code.co_qualname} ({_place(frame)})"
            return name, ". Await what it waits for, or run it in a thread with blocking=True"
        frame = caller
    return f"{innermost.f_code.co_qualname} ({_place(innermost)}), no callback", ""


def _place(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
