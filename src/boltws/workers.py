"""Threads for blocking callbacks.

``concurrent.futures`` would do, but for one thing: it joins its threads when the interpreter
exits, so a callback that never returns would hold the process past its shutdown deadline for
ever. These threads are daemons.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any

_Job = tuple["asyncio.Future[Any]", asyncio.AbstractEventLoop]


class Workers:
    """Up to `limit` threads, started as they are needed."""

    __slots__ = ("_busy", "_calls", "_jobs", "_limit", "_threads")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._threads = 0
        self._busy = 0  # jobs not settled
        self._calls: dict[asyncio.Future[Any], Callable[[], Any]] = {}  # of jobs not begun
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, call: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run ``call(*args)`` in a thread, in a copy of the current context."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        context = copy_context()
        if self._threads < min(self._busy + 1, self._limit):
            Thread(target=self._work, name=f"boltws-{self._threads + 1}", daemon=True).start()
            self._threads += 1  # where the system gives no thread the callback has failed
        self._busy += 1
        self._calls[done] = lambda: context.run(call, *args)
        self._jobs.put((done, loop))
        return done

    def withdraw(self, done: asyncio.Future[Any]) -> bool:
        """Cancel what :meth:`submit` gave, unless a thread has begun it. Whether it was."""
        if self._calls.pop(done, None) is None:  # whoever takes it out has it
            return False
        self._busy -= 1
        return done.cancel()

    def stop(self) -> None:
        """Let each thread end when it has done what it is doing."""
        for _ in range(self._threads):
            self._jobs.put(None)
        self._threads = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            done, loop = job
            call = self._calls.pop(done, None)
            if call is None:
                continue
            result: Any = None
            failure: BaseException | None = None
            try:
                result = call()
            except BaseException as error:
                failure = error
            try:
                loop.call_soon_threadsafe(self._settle, done, result, failure)
            except RuntimeError:
                return  # the loop closed while the callback ran
            del job, call, done, result, failure

    def _settle(
        self, done: asyncio.Future[Any], result: Any, failure: BaseException | None
    ) -> None:
        self._busy -= 1
        if done.cancelled():
            return
        if failure is None:
            done.set_result(result)
        else:
            # A future refuses the one, and who awaits the other is closed by it.
            if isinstance(failure, StopIteration | GeneratorExit):
                cause, failure = failure, RuntimeError(f"a callback raised {failure!r}")
                failure.__cause__ = cause
            done.set_exception(failure)
