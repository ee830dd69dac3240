"""All that one server has on its wires: who is attached, the sweeper, the drainers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from ..client import BACKLOG, OPEN
from ..errors import KEEPALIVE_TIMEOUT, UNFINISHED
from ..hub import Hub
from ..options import Options
from .wire import Wire

if TYPE_CHECKING:
    from ..runtime import Runtime
    from .socket import Socket

logger = logging.getLogger("boltws")

_TICK = 0.5  # seconds; every time limit of a connection is kept to within two of these


class ServerState(Protocol):
    """uvicorn's state of one server, as far as we touch it."""

    connections: set[Any]


class Pending(Protocol):
    """A connection whose request is not complete."""

    def give_up(self) -> None:
        """It took too long."""


class Wires:
    """One server's connections beyond HTTP.

    One sweeper looks after the times of all of them (keepalive, unfinished messages, unfinished
    requests), so that no connection needs a timer or a task of its own.
    """

    def __init__(self, connections: set[Any]) -> None:
        self.attached = 0
        self.parting = 0  # half closed behind a refusal
        self.unmade = 0  # of `pending`: in their TLS handshake, or failed there, which nobody says
        self.stopping = False  # the server's shutdown has begun
        self.clock = 0.0
        self.pending: dict[Pending, tuple[float, float]] = {}  # since when, how long it may take
        self.options = Options()  # those the server was made with
        self.foreign = Hub()  # sockets of apps that are no Bolt
        self._connections = connections
        self._drainers: dict[Runtime, Drainer] = {}
        self._sweeping = False

    def start(self) -> None:
        """Begin to sweep, unless that is so."""
        if not self._sweeping:
            self._sweeping = True
            loop = asyncio.get_running_loop()
            self.foreign.start(loop)
            self.clock = loop.time()
            loop.call_later(_TICK, self._sweep, loop)

    @property
    def drainers(self) -> int:
        """How many of uvicorn's connections are drainers of ours."""
        return sum(drainer in self._connections for drainer in self._drainers.values())

    def register(self, runtime: Runtime) -> None:
        """Have uvicorn wait for the clients of `runtime` when it shuts down."""
        runtime.own_server = True
        if runtime not in self._drainers:
            self._warn_of_other_options(runtime.options)
            drainer = self._drainers[runtime] = Drainer(runtime, self, self._connections.discard)
            self._connections.add(drainer)

    def _warn_of_other_options(self, options: Options) -> None:
        """A request's head is read before it is known which Bolt it is for."""
        for name in ("handshake_timeout", "max_header_size"):
            ours = getattr(self.options, name)
            if getattr(options, name) != ours:
                logger.warning(
                    "%s of a mounted Bolt has no effect: the server reads the head of a request "
                    "before it knows whose it is, and keeps to %s. It is an option of the Bolt "
                    "that is served: Bolt(http=app, %s=…)",
                    name,
                    ours,
                    name,
                )

    def keep(self, socket: Socket) -> Callable[[], None]:
        """Have uvicorn tell `socket` of its shutdown, and wait until the result is called."""
        self._connections.add(socket)
        return partial(self._connections.discard, socket)

    # The sweeper.

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.clock = now = loop.time()
        for pending, (since, limit) in list(self.pending.items()):
            if now - since > limit:
                pending.give_up()
        for wire, options in list(self._wires()):
            self._look_at(wire, options, now)
        if self.attached or self.pending:
            loop.call_later(_TICK, self._sweep, loop)
        else:
            self._sweeping = False

    def _wires(self) -> Iterator[tuple[Wire, Options]]:
        for runtime in self._drainers:
            for client in runtime.hub.clients.values():
                if isinstance(client, Wire):
                    yield client, runtime.options
        for client in self.foreign.clients.values():
            if isinstance(client, Wire):
                yield client, client.channel.options

    def _look_at(self, wire: Wire, options: Options, now: float) -> None:
        if wire.state != OPEN:
            return
        if wire.held & ~BACKLOG:  # who sends more than a turn's worth is listened to
            self._look_at_held(wire, options, now)
            return
        partial = wire.partial
        limit = wire.channel.options.message_timeout
        if partial is not None and limit is not None and now - partial.since > limit:
            wire.fail(UNFINISHED)
            return
        if wire.seen == 0.0:  # heard since the last look
            wire.seen = now
            wire.pinged = 0.0
        elif wire.pinged and options.ping_timeout is not None:
            if now - wire.pinged > options.ping_timeout:
                wire.close(KEEPALIVE_TIMEOUT)
                asyncio.get_running_loop().call_soon(wire.abort)  # behind the close
        elif options.ping_interval is not None:
            if now - max(wire.seen, wire.pinged) >= options.ping_interval:
                wire.ping(now)

    def _look_at_held(self, wire: Wire, options: Options, now: float) -> None:
        """We do not listen, so its silence says nothing. But a peer that is gone shows only when
        it is written to."""
        wire.pinged = 0.0
        if wire.seen == 0.0:
            wire.seen = now
        elif options.ping_interval is not None and now - wire.seen >= options.ping_interval:
            wire.ping(now)
            wire.seen, wire.pinged = now, 0.0


class Drainer:
    """Stands for a Bolt among uvicorn's connections: it is told of the shutdown and waited for,
    under a mount too, where no lifespan reaches."""

    def __init__(self, runtime: Runtime, server: object, gone: Callable[[Drainer], None]) -> None:
        self._runtime = runtime
        self._server = server
        self._gone = gone
        self._task: asyncio.Task[None] | None = None

    def shutdown(self) -> None:
        """uvicorn shuts down."""
        if self._task is None:
            self._runtime.accepting = False
            self._task = asyncio.get_running_loop().create_task(self._runtime.drain(self._server))
            self._task.add_done_callback(lambda _: self._gone(self))


_servers: WeakKeyDictionary[Any, Wires] = WeakKeyDictionary()


def wires_of(state: ServerState) -> Wires:
    """The wires of the server that `state` belongs to."""
    wires = _servers.get(state)
    if wires is None:
        wires = _servers[state] = Wires(state.connections)
    wires.start()
    return wires


def runtimes_of(state: ServerState) -> list[Runtime]:
    """The Bolts whose clients are, or were, on the server that `state` belongs to. From any
    thread."""
    wires = _servers.get(state)
    return [] if wires is None else list(wires._drainers)
