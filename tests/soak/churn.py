"""The clients of the soak: each comes, does one thing or another, and leaves well or badly."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

# What a peer that is cut off, or cuts off, meets on its side. Anything else is a finding.
EXPECTED = (OSError, WebSocketException, TimeoutError, EOFError)
PATIENCE = 30.0


class Churn:
    """`size` clients at a time, each followed by the next one."""

    def __init__(self, port: int, size: int, seed: int) -> None:
        self.port = port
        self.size = size
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._over = asyncio.Event()
        self._ways: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.talk, 10),
            (self.drop, 4),
            (self.reset, 4),
            (self.read_slowly, 1),
            (self.break_protocol, 1),
            (self.be_closed, 2),
            (self.half_a_handshake, 2),
            (self.go_to_nowhere, 1),
        ]

    async def run(self) -> None:
        """Churn until :meth:`stop`, and until the last one has left. May be called again."""
        self._over.clear()
        async with asyncio.TaskGroup() as clients:
            for _ in range(self.size):
                clients.create_task(self._one_after_another())

    def stop(self) -> None:
        """No more come, and who is there hurries."""
        self._over.set()

    async def _one_after_another(self) -> None:
        ways, weights = zip(*self._ways, strict=True)
        await self._linger(2)  # not all at once
        while not self._over.is_set():
            (way,) = self._chance.choices(ways, weights)
            try:
                async with asyncio.timeout(PATIENCE):
                    await way()
            except EXPECTED as error:
                self.failed[f"{way.__name__}: {type(error).__name__}"] += 1
            self.done[way.__name__] += 1

    async def _linger(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), self._chance.uniform(0, seconds))

    # The ways.

    def _connect(self, path: str | None = None) -> connect:
        room = self._chance.randrange(50)
        uri = f"ws://127.0.0.1:{self.port}{path or f'/talk/{room}'}"
        # A client of `websockets` whose queue is full does not hear the answer to its close.
        return connect(uri, proxy=None, compression=None, close_timeout=2)

    async def talk(self) -> None:
        """Say a few things, hear them back among those of others, and close."""
        async with self._connect() as client:
            for count in range(self._chance.randint(1, 8)):
                echoed = f"{count} " + "m" * self._chance.randrange(2000)
                said = self._chance.choice(["later", echoed])
                await client.send(said)
                while await client.recv() != said:
                    pass
                await self._linger(1)

    async def drop(self) -> None:
        """Leave without a close, in the middle of an answer."""
        client = await self._connect()
        await client.send("later")
        await self._linger(1)
        client.transport.abort()
        await client.wait_closed()

    async def reset(self) -> None:
        """Leave with a reset, what was heard unread."""
        client = await self._connect()
        await client.send("hello")
        await self._linger(0.5)
        _abort_with_reset(client)
        await client.wait_closed()

    async def read_slowly(self) -> None:
        """Ask for a flood and read nothing of it until the server gives up."""
        client = await self._connect()
        await client.send("flood")
        await self._linger(3)
        for _ in range(3):
            await client.send("flood")
        await self._linger(3)
        client.transport.abort()
        await client.wait_closed()

    async def break_protocol(self) -> None:
        """Send what no client may, and wait for the end."""
        client = await self._connect()
        client.transport.write(b"\x83\x80\0\0\0\0")
        with contextlib.suppress(WebSocketException):
            while True:
                await client.recv()

    async def be_closed(self) -> None:
        """Have the server close."""
        async with self._connect() as client:
            await client.send("close")
            with contextlib.suppress(WebSocketException):
                while True:
                    await client.recv()

    async def half_a_handshake(self) -> None:
        """Begin a request and leave."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /talk/1 HTTP/1.1\r\nHost: loc")
        await writer.drain()
        await self._linger(1)
        writer.transport.abort()

    async def go_to_nowhere(self) -> None:
        """Ask for an endpoint that is none."""
        with contextlib.suppress(WebSocketException):
            async with self._connect("/talk"):
                pass


def _abort_with_reset(client: ClientConnection) -> None:
    sock = client.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()
