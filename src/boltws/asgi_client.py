"""A client over ASGI's ``receive`` and ``send``: on any server that is not our own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from .channel import TURN, Channel, size_of
from .client import CLOSED, OPEN, Client, Write
from .errors import GOING_AWAY, LOST, NO_CODE, TOO_BIG, Close
from .event import Event
from .frames import decode
from .hub import GRACE, Hub

Message = MutableMapping[str, Any]


class AsgiClient(Client):
    """Takes messages where the wire takes frames: what the hub encoded is decoded again."""

    __slots__ = (
        "_aborted",
        "_finished",
        "_readable",
        "_reader",
        "_receive",
        "_send",
        "_sender",
        "_timer",
        "_unsent",
        "_unsent_bytes",
    )

    def __init__(
        self, hub: Hub, channel: Channel, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        super().__init__(hub, channel)
        self._send = send
        self._readable = asyncio.Event()
        self._readable.set()
        self._unsent: deque[tuple[Message, int]] = deque()
        self._unsent_bytes = 0
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.Future[Close]
        self._receive: Callable[[], Awaitable[Message]]
        self._aborted = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None  # only while the connection is closing
        self._finished = asyncio.Event()

    # What the hub asks of a wire.

    def writer(self) -> Write:
        return self._write

    def unsent(self) -> int:
        return self._unsent_bytes

    def send_close(self, close: Close) -> None:
        code = 1000 if close.code == NO_CODE else close.code
        self._push({"type": "websocket.close", "code": code, "reason": close.reason}, 0)
        self._readable.set()  # the peer's answer must be heard
        assert self.hub.loop is not None
        self._timer = self.hub.loop.call_later(self.channel.options.close_timeout, self.abort)

    def abort(self) -> None:
        self._aborted.set()

    def finished(self) -> None:
        self._finished.set()

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    # Out: a queue of our own, as ASGI's `send` must be awaited.

    def _write(self, frames: bytes) -> None:
        for message, size in decode(frames):
            kind = "text" if isinstance(message, str) else "bytes"
            self._push({"type": "websocket.send", kind: message}, size)
        if self._unsent_bytes > self.channel.options.send_buffer_limit:
            self.pause_writing()

    def _push(self, message: Message, size: int) -> None:
        self._unsent.append((message, size))
        self._unsent_bytes += size
        if self._sender is None:
            assert self.hub.loop is not None
            sender = self.hub.loop.create_task(self._drain())
            if not sender.done():  # as it is where tasks begin at once (asyncio.eager_task_factory)
                self._sender = sender

    async def _drain(self) -> None:
        limit = self.channel.options.send_buffer_limit
        try:
            while self._unsent:
                message, size = self._unsent.popleft()
                if message["type"] == "websocket.close":
                    await self._send_close(message)
                else:
                    await self._send(message)
                self._unsent_bytes -= size
                if self.slow and self._unsent_bytes <= limit // 4:
                    self.resume_writing()
        except BaseException as error:  # servers differ in what they raise for a peer that is gone
            self._unsent.appendleft((message, size))
            self._give_up()
            if not isinstance(error, Exception):
                raise
        finally:
            self._sender = None

    def _give_up(self) -> None:
        """What the server has not taken is lost."""
        ledger = self.hub.ledger
        for message, size in self._unsent:
            self._unsent_bytes -= size
            if message["type"] == "websocket.send":
                ledger.handed -= 1
                ledger.dropped_out["lost"] += 1
                ledger.bytes_out -= size
        self._unsent.clear()

    async def _send_close(self, message: Message) -> None:
        # granian 2 holds a close back while a `receive` is pending, so none is.
        reader = self._reader
        reader.cancel()
        await asyncio.wait([reader])
        if reader.cancelled():
            try:
                await self._send(message)
            finally:
                if self.state != CLOSED:
                    self._reader = asyncio.ensure_future(self._read())

    # In.

    async def run(self, event: Event, receive: Callable[[], Awaitable[Message]]) -> bool:
        """Serve the client from its `connect` until its `disconnect` has been handled. Whether
        it was aborted."""
        self._receive = receive
        self._reader = asyncio.ensure_future(self._read())
        aborted = asyncio.ensure_future(self._aborted.wait())
        try:
            self.hub.add(self)
            self.channel.connected(self, event)
            lost = await self._until_gone(aborted)
        except BaseException:
            lost = Close(LOST)
            self.abort()
            raise
        finally:
            self._reader.cancel()
            aborted.cancel()
            if self._sender is not None and self._aborted.is_set():  # it may never be taken
                self._sender.cancel()
            if self._timer is not None:
                self._timer.cancel()
            self.end(lost)
            self._give_up()
            self.state = CLOSED
            self.hub.closing.discard(self)
        # So that the server waits for it when it stops. Code 1012 is how it tells that it does;
        # where a peer sends it, that is how long the peer's own events may take.
        options = self.channel.options
        for timeout in (options.shutdown_timeout, GRACE) if lost.code == GOING_AWAY.code else ():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._finished.wait(), timeout)
                break
            self.hub.cut([self])
        await self._finished.wait()
        return self._aborted.is_set()

    async def _until_gone(self, aborted: asyncio.Future[Any]) -> Close:
        """How the connection ended."""
        while True:
            reader = self._reader
            await asyncio.wait([reader, aborted], return_when=asyncio.FIRST_COMPLETED)
            if aborted.done() and (reader.cancelled() or not reader.done()):
                return Close(LOST)
            if not reader.cancelled():
                return Close(LOST) if reader.exception() else reader.result()
            if self._sender is not None:  # it is sending the close, and reads on behind it
                await asyncio.wait([self._sender, aborted], return_when=asyncio.FIRST_COMPLETED)
            elif reader is self._reader:
                return Close(LOST)  # `receive` itself was cancelled

    async def _read(self) -> Close:
        ledger = self.hub.ledger
        limit = self.channel.options.max_message_size
        count = 0
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return Close(message.get("code") or NO_CODE, message.get("reason") or "")
            data = message.get("bytes")
            if data is None:
                data = message.get("text") or ""
            size = size_of(data)
            ledger.bytes_in += size
            if size > limit and self.state == OPEN:
                self.close(TOO_BIG)
                continue
            self.channel.put(self, data)
            if self.held and self.state == OPEN:
                await self._readable.wait()
            if (count := count + 1) % TURN == 0:
                await asyncio.sleep(0)  # `receive` need not suspend
