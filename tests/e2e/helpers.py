"""What lets a test wait for things that happen on a server's thread."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

PATIENCE = 10.0
"""Seconds until a wait is given up: above what a busy machine needs, so only a hang ends there."""

_BETWEEN = 0.002


def until(check: Callable[[], bool], what: str | Callable[[], str]) -> None:
    """Ask until it holds; for a state of the server that sends no event of its own."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"never happened: {what if isinstance(what, str) else what()}")
        pause.wait(_BETWEEN)


async def eventually(check: Callable[[], bool], what: str | Callable[[], str] = "") -> None:
    """`until`, for a test that has clients to keep alive meanwhile."""
    await asyncio.to_thread(until, check, what)


class Journal:
    """What callbacks saw, in order: noted on the server's thread, read on the test's."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.seen: list[Any] = []

    def note(self, *entry: Any) -> object:  # so that it may stand in a lambda
        """One argument is noted as it is, several as a tuple."""
        item = entry[0] if len(entry) == 1 else entry
        self.seen.append(item)
        self._queue.put(item)
        return None

    async def next(self) -> Any:
        """The next entry that was not taken yet."""
        try:
            return await asyncio.to_thread(self._queue.get, True, PATIENCE)
        except queue.Empty:
            raise AssertionError(f"no further entry; there were {self.seen}") from None

    async def take(self, count: int) -> list[Any]:
        return [await self.next() for _ in range(count)]


class Gate:
    """Holds callbacks until the test opens it, whichever thread or loop they run on."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        """For a blocking callback."""
        assert self._event.wait(PATIENCE), "the gate was never opened"

    async def passed(self) -> None:
        """For an async callback; its loop goes on meanwhile."""
        await asyncio.to_thread(self.wait)


async def closed(client: ClientConnection) -> tuple[int, str]:
    """Read up to the close: the code and reason that the server sent, (1006, "") for none."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                await client.recv()
    except ConnectionClosed as end:
        return (end.rcvd.code, end.rcvd.reason) if end.rcvd is not None else (1006, "")


async def refused(attempt: Any) -> Response:
    """The HTTP answer of a handshake that must not succeed."""
    try:
        async with attempt:
            raise AssertionError("the handshake was accepted")
    except InvalidStatus as refusal:
        return refusal.response


async def recv(client: ClientConnection) -> Any:
    """The next message, or a failure instead of a hang."""
    async with asyncio.timeout(PATIENCE):
        return await client.recv()


async def ask(client: ClientConnection, message: str | bytes) -> Any:
    """Send, and give the next message that comes back."""
    await client.send(message)
    return await recv(client)
