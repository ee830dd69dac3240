"""A real :class:`Link`, nats-py's client and all, whose transport is the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client

from boltws.backplane.link import Link

INFO = b'INFO {"server_id": "x", "version": "2.10.0", "max_payload": 1048576, "headers": true}\r\n'


class Wire:
    """What nats-py calls a transport, and asyncio's below it. It answers pings while it is not
    `frozen`."""

    def __init__(self) -> None:
        self.sent = b""
        self.writes = 0
        self.frozen = False
        self.flows = asyncio.Event()  # while it is not set, `drain` waits
        self.flows.set()
        self.aborted = self.closed = False
        self.paused = False  # what comes waits
        self._unread: list[bytes] = []
        self._unsent = 0
        self.held = 0  # pings that wait for an answer
        self._reader = asyncio.StreamReader()  # told of no transport, as nats-py's is with TLS
        self._reader.feed_data(INFO)

    @property
    def _io_reader(self) -> asyncio.StreamReader:
        return self._reader

    @property
    def _io_writer(self) -> Any:
        return self

    @property
    def transport(self) -> Any:
        return self

    def abort(self) -> None:
        self.aborted = True

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.sent += data
        self._unsent = 0 if self.flows.is_set() else self._unsent + len(data)
        pings = data.count(b"PING\r\n")
        if self.frozen:
            self.held += pings
        elif pings:
            self.hears(b"PONG\r\n" * pings)

    def get_write_buffer_size(self) -> int:
        return 0 if self.flows.is_set() else self._unsent

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))

    def thaw(self) -> None:
        self.frozen = False
        self.hears(b"PONG\r\n" * self.held)
        self.held = 0

    def hears(self, data: bytes) -> None:
        """The server sends."""
        if self.paused:
            self._unread.append(data)
        elif data:
            self._reader.feed_data(data)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.paused:
            unread, self._unread = b"".join(self._unread), []
            self.hears(unread)

    def is_closing(self) -> bool:
        return self.aborted or self.closed

    async def drain(self) -> None:
        await self.flows.wait()

    async def read(self, size: int) -> bytes:
        return await self._reader.read(size)

    async def readline(self) -> bytes:
        return await self._reader.readline()

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    def close(self) -> None:
        self.closed = True
        self._reader.feed_eof()

    async def wait_closed(self) -> None:
        if not self.aborted:
            await self.flows.wait()  # as nats-py's: until all is sent


class WiredLink(Link):
    """A Link whose server is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.wires: list[Wire] = []

    async def _connect_to_server(self, *arguments: Any, **options: Any) -> None:
        self.wires.append(Wire())
        self._transport = self.wires[-1]  # type: ignore[assignment]
        self._status = Client.CONNECTING if len(self.wires) == 1 else Client.RECONNECTING
        pool = self._server_pool
        self._current_server = pool[0]

    _select_next_server = _connect_to_server

    @property
    def wire(self) -> Wire:
        return self.wires[-1]


@asynccontextmanager
async def linked(
    writes: Callable[[], int] | None = None, **options: Any
) -> AsyncIterator[WiredLink]:
    link = WiredLink()
    if writes is not None:
        link.writes = writes
    await link.connect(servers=["nats://nats.example:4222"], **options)
    try:
        yield link
    finally:
        for wire in link.wires:
            wire.flows.set()
        await link.close()


def taken(into: list[tuple[bytes, bytes]], clients: int = 1) -> Any:
    def handle(sub: Any, subject: bytes, data: bytes, headers: bytes | None) -> int:
        into.append((subject, data))
        return clients

    return handle
