"""The event channel: what waits for an endpoint's handlers, in order, bounded, counted.

There is one :class:`Channel` an endpoint, and it keeps no state: that lives in the client, so
that an idle connection pays for it with a few empty slots. A client's next event starts when its
last one's pipeline is done; clients do not wait for each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any

from .client import DISCONNECTED, FULL, OPEN, Client
from .errors import HANDLER_ERROR, HANDLER_TIMEOUT, OVERFLOW
from .event import (
    CONNECT,
    DISCONNECT,
    MESSAGE,
    ConnectEvent,
    DisconnectEvent,
    Event,
    MessageEvent,
    reset_current,
    set_current,
)
from .options import Options
from .pipeline import Pipeline, is_awaitable
from .rate import limited

if TYPE_CHECKING:
    from .endpoint import Endpoint
    from .hub import Hub

logger = logging.getLogger("boltws")

TURN = 64  # events of one client in one turn of the loop

Message = str | bytes
OnError = Callable[[Event, BaseException], None]


class Channel:
    """Takes an endpoint's events in and runs its pipelines."""

    __slots__ = (
        "_connect",
        "_disconnect",
        "_message",
        "_on_error",
        "_pauses",
        "endpoint",
        "hub",
        "ledger",
        "options",
        "put",
    )

    def __init__(
        self,
        hub: Hub,
        endpoint: Endpoint,
        options: Options,
        pipelines: tuple[Pipeline, Pipeline, Pipeline],
        on_error: OnError,
    ) -> None:
        self.hub = hub
        self.ledger = hub.ledger
        self.endpoint = endpoint
        self.options = options
        self._connect, self._message, self._disconnect = pipelines
        self._on_error = on_error
        self._pauses = options.overflow == "pause"
        self.put: Callable[[Client, Message], bool]
        """Take a message of a client. True: take no more from it, reading is on hold."""
        self.put = limited(self._put, hub, options) if options.rate_limit else self._put

    # The hot path: a message of a client that is idle is handled on the spot, in the call that
    # brought the bytes. No queue, no task, no callback of the loop: those cost 1 to 2 us each,
    # as much as the rest of the way.

    def _put(self, client: Client, message: Message) -> bool:
        ledger = self.ledger
        ledger.received += 1
        if client.busy or client.leaving or client.state != OPEN:
            return self._wait(client, message)
        client.busy = True
        ledger.started += 1
        event = MessageEvent(client, message)
        token = set_current(event)
        try:
            result = self._message(event)
            if result is not None and is_awaitable(result):
                self._work(client, event, result)
                return False
            if event.aborted is None:
                ledger.handled += 1
            else:
                ledger.aborted += 1
        except BaseException as error:
            self._failed(event, error)
        finally:
            reset_current(token)
        client.busy = False
        if client.waiting:
            self._go_on(client)
        return False

    # Waiting.

    def _wait(self, client: Client, message: Message) -> bool:
        if client.state != OPEN:
            self.ledger.dropped_in["closed"] += 1
            return False
        if client.leaving:
            self.ledger.dropped_in["shutdown"] += 1
            return False
        waiting = client.waiting
        if waiting is None:
            waiting = client.waiting = deque()
        options = self.options
        size = size_of(message)
        full = len(waiting) >= options.channel_capacity or (
            len(waiting) > 0 and client.waiting_bytes + size > options.channel_bytes
        )
        if full and not self._pauses:
            self.ledger.dropped_in["overflow"] += 1
            if options.overflow == "close":
                client.close(OVERFLOW)
            if options.overflow != "drop_oldest":
                return False
            # The newest may need the room of several that are older.
            client.waiting_bytes -= size_of(waiting.popleft())
            while waiting and client.waiting_bytes + size > options.channel_bytes:
                self.ledger.dropped_in["overflow"] += 1
                client.waiting_bytes -= size_of(waiting.popleft())
        waiting.append(message)
        client.waiting_bytes += size
        if self._pauses and (
            len(waiting) >= options.channel_capacity
            or client.waiting_bytes >= options.channel_bytes
        ):
            client.hold(FULL)
            return True
        return False

    # The two events that are never dropped.

    def connected(self, client: Client, event: Event) -> None:
        """The handshake was answered: run `on_connect` and the afters."""
        client.busy = True
        self._run(client, event)
        if not client.busy:
            self._go_on(client)

    def disconnected(self, client: Client) -> None:
        """The connection has ended: `disconnect` is behind all that waits, and the last."""
        if client.waiting is None:
            client.waiting = deque()
        client.waiting.append(DISCONNECTED)
        if not client.busy:
            # Not at once: whoever closes may be in the middle of another client's handler, whose
            # context variables are not this client's either.
            self.resume(client, self.hub.context.copy())

    def give_up(self, client: Client) -> None:
        """Drop what waits, counted: the shutdown's deadline has passed."""
        if client.waiting:
            behind = client.waiting[-1] is DISCONNECTED
            self.ledger.dropped_in["shutdown"] += len(client.waiting) - behind
            client.waiting_bytes = 0
            client.waiting = deque([DISCONNECTED] if behind else ())

    def abandon(self, client: Client) -> None:
        """Count the event that was running when the loop ended."""
        self.ledger.timed_out += self.ledger.started > self.ledger.over()

    # Running.

    def resume(self, client: Client, context: Context | None = None) -> None:
        """Run what waits, in the next turn of the loop (in `context`, else in a copy of this one);
        the client is marked as busy until then."""
        client.busy = True
        assert self.hub.loop is not None
        self.hub.loop.call_soon(self._go_on, client, context=context)

    def _go_on(self, client: Client) -> None:
        """Run what waits until it is done or must be awaited."""
        for _ in range(TURN):
            event = self._next(client)
            if event is None:
                client.busy = False
                return
            client.busy = True
            self._run(client, event)
            if client.busy:
                return
        self.resume(client)

    def _next(self, client: Client) -> Event | None:
        waiting = client.waiting
        if not waiting:
            client.waiting = None
            return None
        message = waiting.popleft()
        if message is DISCONNECTED:
            return DisconnectEvent(client)
        client.waiting_bytes -= size_of(message)
        if client.held & FULL and len(waiting) <= self.options.channel_capacity // 2:
            if client.waiting_bytes <= self.options.channel_bytes // 2:
                client.release(FULL)
        self.ledger.started += 1
        return MessageEvent(client, message)

    def _run(self, client: Client, event: Event) -> None:
        """Run one event's pipeline; ``client.busy`` stays set when it must be awaited."""
        token = set_current(event)
        try:
            result = self._pipeline(event)(event)
            if result is not None and is_awaitable(result):
                self._work(client, event, result)
                return
            self._succeeded(event)
        except BaseException as error:
            self._failed(event, error)
        finally:
            reset_current(token)
        client.busy = False

    def _pipeline(self, event: Event) -> Pipeline:
        kind = event.type
        if kind == MESSAGE:
            return self._message
        return self._connect if kind == CONNECT else self._disconnect

    def _work(self, client: Client, event: Event, pending: Awaitable[Any]) -> None:
        """Await what the pipeline of `event` returned, and what waits behind it, in a task."""
        assert self.hub.loop is not None
        task = self.hub.loop.create_task(self._worker(client, event, pending))
        self.hub.running[task] = client

        def ended(task: asyncio.Task[None]) -> None:
            self.hub.running.pop(task, None)
            if task.cancelled():  # before it began: `_worker` lets no later one through
                if event.type == DISCONNECT and client in self.hub.cutting:
                    self._work(client, event, pending)  # what runs is cut, and it waited
                    return
                if isinstance(pending, Coroutine):
                    pending.close()
                self._failed(event, asyncio.CancelledError(), timed_out=client in self.hub.cutting)
                self._go_on(client)

        task.add_done_callback(ended)

    async def _worker(self, client: Client, event: Event, pending: Awaitable[Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        goes_on = await self._finish(task, event, pending)
        ran = 1
        while True:
            # A callback may cancel its task and return: that takes effect here, and ends here.
            if goes_on and (ran % TURN == 0 or task.cancelling()):
                goes_on = await self._yield(client)
            if not goes_on:
                # Where it raised as well, its cancellation is still to come (before Python 3.13).
                await self._yield(client)
                self.resume(client)  # in another task: this one was cancelled, for a reason
                return
            following = self._next(client)
            if following is None:
                break
            set_current(following)
            try:
                result = self._pipeline(following)(following)
            except BaseException as error:
                self._failed(following, error)
            else:
                if result is not None and is_awaitable(result):
                    goes_on = await self._finish(task, following, result)
                else:
                    self._succeeded(following)
            ran += 1
        client.busy = False

    async def _yield(self, client: Client) -> bool:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            _uncancel()
            return client in self.hub.cutting
        return True

    async def _finish(self, task: asyncio.Task[Any], event: Event, pending: Awaitable[Any]) -> bool:
        """Await a pipeline within `handler_timeout`, and account for its end. False when its task
        was cancelled, which may still be to come."""
        timeout = self.options.handler_timeout
        limit = asyncio.timeout(timeout)
        try:
            if timeout is None:
                await pending
            else:
                async with limit:
                    await pending
        except BaseException as error:
            if isinstance(error, GeneratorExit) and not _runs(task):
                raise  # its loop has ended, and it is thrown away
            cancelled = _uncancel()
            cut = cancelled and event.client in self.hub.cutting
            if cut or (timeout is not None and limit.expired()):
                await self._timed_out(event, error)
            else:
                self._failed(event, error)
            return not cancelled
        self._succeeded(event)
        return True

    # Accounting.

    def _succeeded(self, event: Event) -> None:
        if event.type == MESSAGE:
            if event.aborted is None:
                self.ledger.handled += 1
            else:
                self.ledger.aborted += 1
        elif event.type != CONNECT:
            self.hub.finished(event.client)

    async def _timed_out(self, event: Event, error: BaseException) -> None:
        thread: asyncio.Future[Any] | None = getattr(event, "thread", None)
        if thread is None or thread.done():
            self._failed(event, error, timed_out=True)
            return
        # A thread cannot be stopped: the client is closed, and its disconnect waits.
        event.client.close(HANDLER_TIMEOUT)
        if event.client in self.hub.cutting:
            self._failed(event, error, timed_out=True)
            return
        if event.type == MESSAGE:
            self.ledger.timed_out += 1
        self.report(event, error)
        while not thread.done():
            try:
                await asyncio.wait([thread])
            except asyncio.CancelledError:  # the shutdown's deadline: it waits for no thread
                _uncancel()
                break
        if event.type not in (CONNECT, MESSAGE):
            self.hub.finished(event.client)

    def _failed(self, event: Event, error: BaseException, timed_out: bool = False) -> None:
        """A callback raised. No text of the exception reaches the peer."""
        kind = event.type
        if kind == MESSAGE:
            if timed_out:
                self.ledger.timed_out += 1
            else:
                self.ledger.failed += 1
        elif kind != CONNECT:
            self.hub.finished(event.client)
        self.report(event, error)
        established = not isinstance(event, ConnectEvent) or event.established
        if not established or self.options.error_policy == "close":
            event.client.close(HANDLER_TIMEOUT if timed_out else HANDLER_ERROR)

    def report(self, event: Event, error: BaseException) -> None:
        """Count and log what a callback raised, and give it to ``bolt.on_error``."""
        self.ledger.errors += 1
        logger.error(
            "%s callback of %s raised for client %s",
            event.type,
            self.endpoint.path,
            event.client.id,
            exc_info=error,
        )
        token = set_current(event)
        try:
            self._on_error(event, error)
        finally:
            reset_current(token)


def _runs(task: asyncio.Task[Any]) -> bool:
    """Whether `task` is the running one."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs
        return False


def _uncancel() -> bool:
    """Undo a cancellation of the running task, which goes on. Whether there was one."""
    task = asyncio.current_task()
    assert task is not None
    cancelled = task.cancelling() > 0
    while task.uncancel():
        pass
    return cancelled


def size_of(message: Message) -> int:
    """The bytes that a message takes as UTF-8; a str that is ASCII knows without encoding."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())
