"""The life of a Bolt: sealed and started on an event loop, drained, stopped."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import copy_context
from threading import get_ident
from typing import Any

from .addresses import Addresses, host_of
from .client import OPEN, Client
from .endpoint import Endpoint, Middleware
from .errors import GOING_AWAY, AlreadyStarted, BackplaneError, ConfigurationError
from .event import Event
from .hub import GRACE, Hub
from .options import SERVER_OPTIONS, Options, make_options, override_options
from .outbox import ENOUGH
from .pipeline import is_awaitable
from .remote import Backplane
from .request import Address
from .routing import Router
from .siblings import workers_asked_for
from .watchdog import Watchdog
from .workers import Workers

logger = logging.getLogger("boltws")

_POLL = 0.01  # seconds between looks while draining
_FIRST_MOVE = 0.25  # seconds in which another server may end the connections at its stop
_RESERVED = 64  # descriptors that stay free for files, the loop, the http app's own connections


class Runtime:
    """What a Bolt is made of behind its names."""

    def __init__(
        self, given: Mapping[str, Any], backplane: Callable[[Options], Backplane | None]
    ) -> None:
        self.options = make_options(given)
        self.hub = Hub()
        self.hub.remote = backplane(self.options)
        self.middleware = Middleware("Bolt")
        self.endpoints: list[Endpoint] = []
        self.router: Router[Endpoint] = Router(())
        self.error_handler: Callable[[Event, BaseException], Any] | None = None
        self.accepting = False
        self.by_lifespan = False
        self.own_server = False  # our protocol is underneath: every option is enforced
        self.handshakes: set[asyncio.Task[Any]] = set()
        self.max_connections = 0
        self._server_options = set(given) & SERVER_OPTIONS
        self._tasks: set[asyncio.Task[Any]] = set()
        self._workers: Workers | None = None
        self._watchdog: Watchdog | None = None
        self.patience = 1.0  # seconds that the event loop may be blocked before it is told
        self._drained: asyncio.Task[None] | None = None
        # The last shutdown of a server without a lifespan: its loop, and what it is known by.
        self._parted: tuple[asyncio.AbstractEventLoop, object] | None = None

    def add_endpoint(self, path: str, given: Mapping[str, Any]) -> Endpoint:
        """Register an endpoint. Raises :class:`ConfigurationError` when its path is taken; the
        start does where both have a :meth:`Endpoint.where`, which is not known here yet."""
        self.middleware.check_open()
        endpoint = Endpoint(path, override_options(self.options, given, f"bolt.ws({path!r}, ...)"))
        _check_taken(self.endpoints, endpoint)
        self.endpoints.append(endpoint)
        self._server_options |= set(given) & SERVER_OPTIONS
        return endpoint

    # Start.

    @property
    def started(self) -> bool:
        """Whether operations on clients work."""
        return self.hub.loop is not None

    def seal(self) -> None:
        """Look up names, compose the pipelines. Raises :class:`ConfigurationError`."""
        if self.hub.remote is not None:
            self.hub.remote.check()
        for place, endpoint in enumerate(self.endpoints):
            _check_taken(self.endpoints[:place], endpoint)
        workers = self._workers = Workers(self.options.blocking_threads)
        try:
            around = self.middleware.seal(workers if self.options.blocking else None)
            for endpoint in self.endpoints:
                endpoint.seal(self.hub, around, workers, self._on_error)
        except BaseException:
            self.unseal()
            raise
        limits = [endpoint.options.send_buffer_limit for endpoint in self.endpoints]
        self.hub.outbox.enough = min([ENOUGH, *limits])
        self.router = Router((endpoint.pattern, endpoint) for endpoint in self.endpoints)

    def unseal(self) -> None:
        """Registering is open again, unless it runs: on another loop, say."""
        if self.started:
            return
        self.middleware.unseal()
        for endpoint in self.endpoints:
            endpoint.unseal()

    def start(self, by_lifespan: bool = False, server: object = None) -> None:
        """Start on the running loop, unless that is done. `server` is what our own is known by.
        Raises what :meth:`seal` raises, and :class:`AlreadyStarted` while it runs on another
        loop."""
        loop = asyncio.get_running_loop()
        if self.hub.loop is loop and self.hub.thread == get_ident():
            self.by_lifespan |= by_lifespan
            return
        if not by_lifespan and self._has_parted(loop, server):
            return  # the server is shutting down: handshakes are refused
        if self.hub.loop is not None and self.hub.loop.is_running():
            raise AlreadyStarted(
                "this Bolt runs on another event loop; one Bolt serves one loop at a time"
            )
        if self.hub.loop is not None:
            self.stop()  # its loop ended without a word: a test client's, say
        self.seal()
        if not self.endpoints and self.hub.remote is None:  # with one it may be there to publish
            logger.warning(
                "this Bolt has no endpoint, so every WebSocket gets a 404: import the modules that "
                "register them before the start"
            )
        self.max_connections = most_connections(self.options)
        self._drained = None
        self.by_lifespan = by_lifespan
        self.accepting = True
        self.handshakes.clear()  # of a loop that ended without a word
        # Without a lifespan it is a request that starts us, and its context is that client's.
        self.hub.start(loop, copy_context() if by_lifespan else None)
        if self.options.max_connections_per_address is not None:
            self.hub.addresses = Addresses()
        if self.hub.remote is not None:
            self.hub.remote.start(self.hub)
            if not by_lifespan:
                self.spawn(self._tell_of_backplane())
        elif (workers := workers_asked_for()) > 1:
            logger.warning(
                "one of %d workers, and no backplane: a broadcast reaches the clients of its own "
                "worker alone. Serve with `boltws run --workers`, or give backplane=",
                workers,
            )
        self._watchdog = Watchdog(loop, get_ident(), self._loop_was_blocked, self.patience)
        self._watchdog.start()

    def _has_parted(self, loop: asyncio.AbstractEventLoop, server: object) -> bool:
        """Whether `server` has had its shutdown; a request beside a WebSocket names no server."""
        if self._parted is None or self._parted[0] is not loop:
            return False
        return server is None or server is self._parted[1]

    async def connected(self) -> None:
        """Return when other nodes are heard. Raises :class:`BackplaneError`."""
        if self.hub.remote is not None:
            await self.hub.remote.connected()

    async def _tell_of_backplane(self) -> None:
        """No lifespan waits for the backplane: say so where it is not there."""
        try:
            await self.connected()
        except BackplaneError as error:
            if self.started:
                logger.warning("%s; trying on", error)

    def not_ready(self) -> str:
        """Why no traffic should be sent here; ``""`` where it should."""
        if not self.started:
            return "not started"
        if not self.accepting:
            return "draining"
        if self.hub.remote is not None and not self.hub.remote.hears:
            return "the backplane is not heard"
        return ""

    @contextmanager
    def handshake(self, task: asyncio.Task[Any], address: Address | None) -> Iterator[None]:
        """A handshake is in progress: it is told of the stop, and counts as a connection."""
        addresses, host = self.hub.addresses, host_of(address)
        self.handshakes.add(task)
        if addresses is not None:
            addresses.add(host)
        try:
            yield
        finally:
            self.handshakes.discard(task)
            if addresses is not None:
                addresses.drop(host)

    def is_full(self, address: Address | None) -> bool:
        """Whether there are too many connections, at all or from `address`; the handshake that
        asks is among them."""
        if len(self.hub.clients) + len(self.handshakes) > self.max_connections:
            return True
        most = self.options.max_connections_per_address
        if most is None or self.hub.addresses is None:
            return False
        return self.hub.addresses.count(host_of(address)) > most

    def warn_if_not_enforced(self) -> None:
        """Say once which options were set that the server underneath will not enforce."""
        if self._server_options and not self.own_server:
            names = ", ".join(sorted(self._server_options))
            logger.warning(
                "not enforced on this server: %s. They belong to boltws' own protocol: "
                "serve with bolt.run() or `boltws run module:app`, or set the server's own",
                names,
            )
            self._server_options = set()

    # Errors.

    def _on_error(self, event: Event, error: BaseException) -> None:
        handler = self.error_handler
        if handler is None:
            return
        try:
            result = handler(event, error)
            if is_awaitable(result):
                self.spawn(_awaiting(result))
        except BaseException:
            logger.exception("the on_error callback raised")

    def _loop_was_blocked(self) -> None:
        self.hub.ledger.blocked += 1

    def spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        """Run a coroutine in a task that is kept until it is done."""
        assert self.hub.loop is not None
        task: asyncio.Task[Any] = self.hub.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Stop.

    async def drain(self, server: object = None) -> None:
        """Part with all clients, as a shutdown must (of `server`, where it is our own and no
        lifespan reaches it); whoever calls first, it happens once."""
        if not self.started:
            return
        if self._drained is None:
            self._drained = self.spawn(self._drain(server))
        await asyncio.shield(self._drained)

    async def _drain(self, server: object) -> None:
        loop = asyncio.get_running_loop()
        hub = self.hub
        self.accepting = False
        spread = self.options.shutdown_spread
        began = loop.time()
        # Other servers end the connections themselves, some (granian 2) at the same moment, and
        # a close of ours would then be stuck in them.
        while not self.own_server and hub.clients and loop.time() < began + _FIRST_MOVE:
            await asyncio.sleep(_POLL)
        deadline = began + spread + self.options.shutdown_timeout
        waiting = deque(hub.clients.values())
        total = len(waiting)
        leaving: list[Client] = []
        while (now := loop.time()) < deadline:
            due = total if now >= began + spread else int(total * (now - began) / spread)
            while waiting and total - len(waiting) < due:
                leaving.append(waiting.popleft())
                # It is still listened to: its pings and its close are answered.
                leaving[-1].leaving = True
            # Pipelines may still send to clients that have nothing to do: those stay until all
            # that were told to stop have come to an end.
            if all(map(is_idle, leaving)):
                self._part_with(leaving)
                leaving.clear()
            if not (waiting or leaving):
                waiting.extend(hub.clients.values())  # a handshake was ahead of us
                total = len(waiting)
            if not (waiting or leaving or self.handshakes or hub.ending or hub.closing):
                break
            await asyncio.sleep(_POLL)
        else:
            await self._cut()
        if self.hub.remote is not None:
            await self.hub.remote.stop()
        if not self.by_lifespan:
            self._parted = (loop, server)
            self.stop()

    def _part_with(self, clients: Iterable[Client]) -> None:
        for client in clients:
            client.close(GOING_AWAY)

    async def _cut(self) -> None:
        """The deadline has passed: cancel what runs, count what waits, abort who is left."""
        hub = self.hub
        loop = asyncio.get_running_loop()
        logger.warning(
            "shutdown: %d pipelines and %d handshakes were still running at the deadline",
            len(hub.running),
            len(self.handshakes),
        )
        self._part_with(list(hub.clients.values()))
        for _ in range(2):  # pipelines first, then the disconnects that hang as well
            hub.cut(hub.ending)
            for task in self.handshakes:
                task.cancel()
            grace = loop.time() + GRACE
            while (hub.ending or self.handshakes) and loop.time() < grace:
                await asyncio.sleep(_POLL)
        for client in list(hub.closing):
            client.abort()
        grace = loop.time() + GRACE
        while hub.closing and loop.time() < grace:
            await asyncio.sleep(_POLL)

    def stop(self) -> None:
        """Operations raise from now on."""
        self.accepting = False
        if self.hub.remote is not None:
            self.hub.remote.abandon()
        self.hub.stop()
        if self._workers is not None:
            self._workers.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
        self.unseal()


def _check_taken(before: Iterable[Endpoint], endpoint: Endpoint) -> None:
    for other in before:
        if other.pattern.leaves_nothing_for(endpoint.pattern):
            raise ConfigurationError(
                f"an endpoint is registered twice: {other.path!r} comes first, and leaves nothing "
                f"for {endpoint.path!r}"
            )


def is_idle(client: Client) -> bool:
    """Whether nothing of the client runs or waits."""
    return client.state != OPEN or not (client.busy or client.waiting)


async def _awaiting(result: Any) -> None:
    try:
        await result
    except GeneratorExit:
        raise
    except BaseException:
        logger.exception("the on_error callback raised")


def most_connections(options: Options) -> int:
    """`max_connections`, which unset leaves some of this process' descriptors free."""
    return options.max_connections or _descriptor_limit() - _RESERVED


def most_told(options: Options) -> int:
    """Up to how many connections those above `max_connections` are told so; beyond, they are
    closed at once, or they would take the last descriptors."""
    return max(most_connections(options), _descriptor_limit() - _RESERVED // 2)


def _descriptor_limit() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 8192
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**20 if soft == resource.RLIM_INFINITY else max(soft, 2 * _RESERVED)
