"""The connection to NATS: nats-py's client, with messages dispatched in place.

This file and `inbound` touch nats-py's internals, and no other does. Its subscriptions have a task
and a queue each (5 KB, 15 us to make); a node has one for every room. Here a subscription is one
small object, and a message goes from the transport straight to its handler. What is used of nats-py
is checked at start by :func:`contract_broken`. Everything else is nats-py's own: servers,
credentials, TLS, reconnecting, resubscribing, pings.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from .inbound import Inbound
from .subscription import Subscription

logger = logging.getLogger("boltws")

PENDING = 8 * 2**20  # bytes that may wait for the network; above it what is published is dropped
_SETTLING = 5.0  # seconds

# A stream asks its loop for nothing else when it is made; there may be none yet.
_NO_LOOP = cast(asyncio.AbstractEventLoop, SimpleNamespace(get_debug=lambda: False))

_METHODS = {
    "_read_loop": [],
    "_close": ["status", "do_cbs"],
    "_attempt_reconnect": [],
    "_send_ping": ["future"],
}
_ATTRIBUTES = (
    "_subs _sid _pending _pending_data_size _flush_queue _pings_outstanding _transport "
    "_reading_task _reconnection_task"
).split()


def contract_broken() -> str:
    """What we use of nats-py's client and it does not have; ``""`` when all is there."""
    for name, parameters in _METHODS.items():
        method = getattr(Client, name, None)
        if method is None or list(inspect.signature(method).parameters)[1:] != parameters:
            return f"Client.{name}({', '.join(parameters)})"
    made = {
        Client(): _ATTRIBUTES,
        TcpTransport(): [  # type: ignore[no-untyped-call]
            "_io_reader",
            "_io_writer",
        ],
        asyncio.StreamReader(loop=_NO_LOOP): ["_buffer", "feed_data"],
    }
    return next(
        (
            f"{type(thing).__name__}.{name}"
            for thing, names in made.items()
            for name in names
            if not hasattr(thing, name)
        ),
        "",
    )


class Link(Client):
    """One life of a connection, reconnects included."""

    writes: Callable[[], int] = staticmethod(lambda: 0)
    """How many clients this turn's end will write to."""

    def __init__(self) -> None:
        super().__init__()
        self._scheduled = False
        self.ended = asyncio.Event()  # nats-py does nothing more for it, but to close it

    @property
    def hears(self) -> bool:
        """Whether the server answers: pings go out every two seconds."""
        return bool(self.is_connected and self._pings_outstanding < 2)

    # In: the hot path of a node that others speak to.

    async def _read_loop(self) -> None:
        transport: Any = self._transport
        reader, writer = transport._io_reader, transport._io_writer
        Inbound(reader, writer.transport, self._take, self.writes)  # lives as long as the stream
        await super()._read_loop()

    def _take(self, sid: int, subject: bytes, data: bytes, headers: bytes | None) -> int:
        sub: Any = self._subs.get(sid)
        if sub is None:
            return 0
        try:
            return sub.handler(sub, subject, data, headers)  # type: ignore[no-any-return]
        except Exception:
            logger.exception("a message from the backplane could not be handled")
            return 0

    # Out. Nothing waits: whoever publishes is in the middle of a callback.

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the network that no more is taken."""
        return bool(self._pending_data_size > PENDING)

    def post(self, subject: str, *parts: bytes) -> None:
        """Publish, on a link that is connected."""
        size = sum(map(len, parts))
        self._command(b"".join((f"PUB {subject} {size}\r\n".encode(), *parts, b"\r\n")))

    def _command(self, command: bytes) -> None:
        self._pending.append(command)
        self._pending_data_size += len(command)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        """Write what was published in the turn that ends: nats-py's flusher takes a future and two
        turns of its own for that, and is left the case that the network does not keep up."""
        self._scheduled = False
        if not self._pending or not self.is_connected:
            return
        transport: Any = self._transport
        transport = transport._io_writer.transport
        if transport.is_closing():  # lost, which nats-py hears in a later turn
            return
        if transport.get_write_buffer_size():
            assert self._flush_queue is not None
            if self._flush_queue.empty():
                self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())
            return
        transport.write(b"".join(self._pending))
        self._pending = []
        self._pending_data_size = 0

    # Subscriptions. While disconnected they are only noted: nats-py sends them when it is back.

    def add(self, sub: Subscription) -> None:
        """Subscribe."""
        self._sid += 1
        sub.sid = self._sid
        self._subs[sub.sid] = cast(Any, sub)  # as much of one as nats-py looks at
        if self.is_connected:
            self._subscribe(sub)

    def _subscribe(self, sub: Subscription) -> None:
        self._command(f"SUB {sub._subject}  {sub.sid}\r\n".encode())

    def drop(self, sub: Subscription) -> None:
        """Unsubscribe."""
        self._subs.pop(sub.sid, None)
        if self.is_connected:
            self._command(f"UNSUB {sub.sid}\r\n".encode())

    async def subscribed_again(self) -> None:
        """Subscribe again to all there is, and return when the server has taken it: it heeds what
        it had refused, and ignores what stands. Raises as :meth:`settled`."""
        for sub in cast("list[Subscription]", list(self._subs.values())):
            self._subscribe(sub)
        await self.settled()

    async def settled(self) -> None:
        """Return when the server has taken what was sent before, subscriptions above all.

        Raises ``TimeoutError`` when it does not."""
        assert self._flush_queue is not None
        loop = asyncio.get_running_loop()
        flushed, answered = loop.create_future(), loop.create_future()
        await self._flush_queue.put(flushed)  # a ping overtakes what waits for the flusher
        await _within(_SETTLING, flushed)
        await self._send_ping(answered)
        await _within(_SETTLING, answered)

    async def _attempt_reconnect(self) -> None:
        # nats-py closes the old transport and waits until it has sent what it holds: for ever,
        # where the server is frozen.
        self.abort()
        try:
            await super()._attempt_reconnect()
        except Exception as error:  # nats-py goes on after those that it expects
            self.ended.set()
            logger.warning("no more reconnecting on this connection: %r", error)

    # The end.

    @property
    def is_dead(self) -> bool:
        """Whether it will never hear anything again, which nats-py may not have told."""
        task = self._reading_task if self.is_connected else self._reconnection_task
        return self.ended.is_set() or task is None or task.done()

    def abort(self) -> None:
        """Cut the connection."""
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def give_up(self) -> None:
        """Close, whatever state it is in, and send nothing more."""
        self._pending, self._pending_data_size = [], 0
        self.abort()
        await self.close()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        # nats-py sends first what waits. That may take for ever, and where it fails nobody is told.
        if status == Client.CLOSED:
            self.ended.set()
        try:
            await super()._close(status, do_cbs)
        except OSError as error:
            logger.info("the last messages to the backplane are lost: %s", error)


async def _within(seconds: float, future: asyncio.Future[None]) -> None:
    """Wait for a future of nats-py's and never cancel it: nats-py sets its result all the same,
    and where that fails its reading ends."""
    if not (await asyncio.wait([future], timeout=seconds))[0]:
        raise TimeoutError(f"no answer within {seconds:g} s")
