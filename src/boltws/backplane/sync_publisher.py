"""The publisher for code that has no event loop: Celery tasks, scripts, threads."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError
from contextlib import suppress
from types import TracebackType
from typing import Any, Unpack

from ..errors import BackplaneError
from .publisher import CONNECT_TIMEOUT, Data, Publisher
from .settings import Credentials
from .subjects import DEFAULT_PREFIX

_JOIN = 5.0  # seconds


class SyncPublisher:
    """:class:`Publisher` with blocking calls, for any number of threads. ::

        publisher = SyncPublisher("nats://token@host")  # at module level, say

        @app.task
        def work():
            publisher.room_broadcast("chat", "done")

    It connects in ``with``, or at its first call, in a daemon thread of its own. A process made by
    a fork (Celery's prefork) connects anew at its first call. In a coroutine its calls block the
    event loop: use :class:`Publisher` there.

    A call returns when the message has left the process. To know that the NATS server has it,
    ``flush()``, ``close()`` or end a ``with``: a script that just ends waits for nothing.

    Args: those of :class:`Publisher`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        connect_timeout: float = CONNECT_TIMEOUT,
        **credentials: Unpack[Credentials],
    ) -> None:
        self._publisher = Publisher(
            url, prefix=prefix, connect_timeout=connect_timeout, **credentials
        )
        self._text = repr(self._publisher).replace("Publisher", "SyncPublisher", 1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False
        _publishers.add(self)

    def __repr__(self) -> str:
        return self._text

    def __enter__(self) -> SyncPublisher:
        self._call(lambda publisher: publisher.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            with suppress(BackplaneError):  # the first error is the one to tell
                self.close()

    # Messages.

    def room_broadcast(self, room: str, message: str, exclude: str | Iterable[str] = ()) -> None:
        """Send a text to all members of a room, but for the client ids in `exclude`."""
        ids = _ids(exclude)
        self._call(lambda publisher: publisher.room_broadcast(room, message, ids))

    def room_broadcast_binary(
        self, room: str, data: Data, exclude: str | Iterable[str] = ()
    ) -> None:
        """Send bytes to all members of a room; a ``str`` is base64."""
        ids = _ids(exclude)
        self._call(lambda publisher: publisher.room_broadcast_binary(room, data, ids))

    def broadcast(self, message: str) -> None:
        """Send a text to all clients."""
        self._call(lambda publisher: publisher.broadcast(message))

    def broadcast_binary(self, data: Data) -> None:
        """Send bytes to all clients; a ``str`` is base64."""
        self._call(lambda publisher: publisher.broadcast_binary(data))

    def send_to(self, client_id: str, message: str) -> None:
        """Send a text to one client. ``ValueError`` for what cannot be a client id."""
        self._call(lambda publisher: publisher.send_to(client_id, message))

    def send_binary_to(self, client_id: str, data: Data) -> None:
        """Send bytes to one client; a ``str`` is base64."""
        self._call(lambda publisher: publisher.send_binary_to(client_id, data))

    def close_client(self, client_id: str, code: int = 1000, reason: str = "") -> None:
        """Close one client's connection."""
        self._call(lambda publisher: publisher.close_client(client_id, code, reason))

    # The connection.

    def flush(self) -> None:
        """Return when the server has taken all that was published so far. Raises
        :class:`BackplaneError` when it may not have."""
        self._call(lambda publisher: publisher.flush())

    def close(self) -> None:
        """Flush, disconnect and end the thread. Raises as ``flush()`` does, but is closed all the
        same; closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return
            closing = asyncio.run_coroutine_threadsafe(self._publisher.close(), loop)
        try:
            closing.result()
        finally:
            _stop(loop)
            thread.join(_JOIN)

    def _call(self, operation: Callable[[Publisher], Coroutine[Any, Any, Any]]) -> None:
        with self._lock:  # what is submitted is submitted before the loop stops
            if self._closed:
                raise BackplaneError("the publisher is closed")
            loop = self._loop or self._start()
            done = asyncio.run_coroutine_threadsafe(_run(self._publisher, operation), loop)
        try:
            done.result()
        except CancelledError:
            raise BackplaneError("the publisher was closed meanwhile") from None
        except BaseException:
            done.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=_serve, args=(loop,), name="boltws-publisher", daemon=True
        )
        self._thread.start()
        weakref.finalize(self, _stop, loop).atexit = False
        return loop

    def _forked(self) -> None:
        """In a child process: the thread is not here, and the socket is the parent's."""
        _left_behind.append((self._loop, self._thread, self._publisher))
        self._loop = self._thread = None
        self._lock = threading.Lock()  # a thread that is not here may have held it
        self._publisher = self._publisher._twin()


def _ids(exclude: str | Iterable[str]) -> str | tuple[str, ...]:
    """Read in the caller's thread: it may be a generator."""
    return exclude if isinstance(exclude, str) else tuple(exclude)


async def _run(
    publisher: Publisher, operation: Callable[[Publisher], Coroutine[Any, Any, Any]]
) -> None:
    await operation(publisher)
    await publisher._written()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The thread: run the loop until it is stopped, and end what is still at work."""
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(loop.stop)


# What a fork has left in the child is never touched nor let go: its end would be felt by the
# parent, whose sockets and selector these are.
_left_behind: list[Any] = []
_publishers: weakref.WeakSet[SyncPublisher] = weakref.WeakSet()


def _after_fork() -> None:
    for publisher in list(_publishers):
        publisher._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
