"""Operations from other threads: they run on the event loop, and their callers wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from .errors import NotRunning

T = TypeVar("T")


class Calls:
    """The operations that other threads wait for."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[Future[Any]] = set()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run operations on `loop` from now on."""
        self._loop = loop

    def stop(self) -> None:
        """Refuse operations from now on, those that are waited for too."""
        self._loop = None
        for call in list(self._waiting):
            call.set_exception(NotRunning("the server stopped before the operation ran"))
        self._waiting.clear()

    def call(self, operation: Callable[..., T], *args: Any) -> T:
        """Run `operation` on the loop from another thread, and wait for its result.

        Raises :class:`NotRunning` where there is no loop, or none any more.
        """
        loop = self._loop
        if loop is None:
            raise NotRunning(
                "operations on clients work between the start of the server and its stop: "
                "call them in callbacks, or once the server runs; an app that mounts Bolt starts "
                "it with lifespan=bolt.lifespan"
            )
        done: Future[T] = Future()

        def run() -> None:
            self._waiting.discard(done)
            if not done.done():  # as it is when it was refused at the stop
                try:
                    done.set_result(operation(*args))
                except BaseException as error:
                    done.set_exception(error)

        self._waiting.add(done)
        try:
            loop.call_soon_threadsafe(run)
        except RuntimeError:  # the loop closed meanwhile
            self._waiting.discard(done)
            raise NotRunning("the server has stopped") from None
        while True:
            try:
                return done.result(timeout=1)
            except TimeoutError:
                if done.done():  # just now, or it raised this itself
                    return done.result()
                if not loop.is_running():
                    raise NotRunning("the server's event loop has ended") from None
