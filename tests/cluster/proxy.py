"""A network that fails: what stands between a node and its nats-server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from ..process.harness import PATIENCE

Direction = Literal["up", "down"]
"""Up is to the server."""


class Proxy:
    """Passes on to `port` what comes to its own, and loses it when it is told to.

    It has a thread of its own, so that it works on whatever the test waits for.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._swallowed: set[Direction] = set()
        self._writers: dict[asyncio.StreamWriter, bool] = {}  # whether something is missing
        self._held: dict[asyncio.StreamWriter, asyncio.Event] = {}  # until they are released
        self._up: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    def _call(self, function: Callable[[], None]) -> None:
        async def call() -> None:
            function()

        self._run(call())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        finally:
            self._tasks.discard(task)
        both = asyncio.gather(
            self._pass_on("up", reader, up_writer), self._pass_on("down", up_reader, writer)
        )
        self._tasks.add(task)
        try:
            with suppress(asyncio.CancelledError):  # stopped: a stream's callback would log it
                await both
        finally:
            self._tasks.discard(task)

    async def _pass_on(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._writers[writer] = False
        if direction == "up":
            self._up.add(writer)
        try:
            await self._pump(direction, reader, writer)
        except OSError:
            pass
        finally:
            self._up.discard(writer)
            del self._writers[writer]
            writer.transport.abort()

    async def _pump(
        self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            if writer in self._held:
                data += await self._hold(reader, self._held[writer])
            if direction in self._swallowed:
                self._writers[writer] = True
            else:
                writer.write(data)
                await writer.drain()
        if writer in self._held:
            await self._held[writer].wait()

    async def _hold(self, reader: asyncio.StreamReader, released: asyncio.Event) -> bytes:
        """What comes until it is released; whoever sent it may be gone by then."""
        held = b""
        with suppress(OSError):
            while not released.is_set() and (data := await reader.read(65536)):
                held += data
        await released.wait()
        return held

    def swallow(self, direction: Direction) -> None:
        """From now on what goes in this direction vanishes, and nobody is told."""
        self._call(lambda: self._swallowed.add(direction))

    def pass_on(self) -> None:
        """From now on all arrives. Connections with bytes missing in their middle end."""

        def heal() -> None:
            self._swallowed.clear()
            for writer, torn in list(self._writers.items()):
                if torn:
                    writer.transport.abort()

        self._call(heal)

    def hold_up(self) -> None:
        """From now on what comes on the connections there are goes no further. New connections
        are not held."""

        def hold() -> None:
            self._held = {writer: asyncio.Event() for writer in self._up}

        self._call(hold)

    def release(self) -> None:
        """Send what was held, even where its sender has gone since."""

        def release() -> None:
            for event in self._held.values():
                event.set()

        self._call(release)

    def drop(self) -> None:
        """End all connections."""

        def abort() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        self._call(abort)

    def stop(self) -> None:
        async def close() -> None:
            self._server.close()
            for event in self._held.values():
                event.set()
            for writer in list(self._writers):
                writer.transport.abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._run(close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()
