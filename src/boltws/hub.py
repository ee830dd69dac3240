"""Clients and rooms, both ways; sending to one, to a room and to all.

Every operation may be called from any thread: elsewhere than on the loop it runs on the loop and
blocks for its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextvars import Context
from itertools import chain
from threading import get_ident
from types import MappingProxyType as Frozen

from .addresses import Addresses, host_of_request
from .calls import Calls
from .client import CLOSED, OPEN, Client, waiting_messages
from .errors import LOST, SLOW_CONSUMER, Close, NotRunning
from .ids import id_source
from .ledger import Ledger, Stats
from .outbox import ENOUGH, Outbox
from .remote import Backplane, Traffic

GRACE = 1.0  # seconds that disconnects get when the shutdown's deadline has passed


class Hub:
    """The clients of one Bolt in this process."""

    __slots__ = (
        "_calls",
        "_drains",
        "addresses",
        "call",
        "clients",
        "closing",
        "context",
        "cutting",
        "deflating",
        "ending",
        "ledger",
        "loop",
        "next_id",
        "node",
        "outbox",
        "remote",
        "rooms",
        "running",
        "thread",
    )

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.clients: dict[str, Client] = {}
        self.rooms: dict[str, dict[Client, None]] = {}
        self.closing: set[Client] = set()  # ended, their sockets not yet
        self.ending: set[Client] = set()  # ended, their disconnect not yet handled
        self.running: dict[asyncio.Task[None], Client] = {}  # pipelines that await
        self.cutting: set[Client] = set()  # whose pipelines are cancelled: the deadline has passed
        self.addresses: Addresses | None = None  # where it is limited how many one may have
        self.context = Context()  # nobody's
        self.deflating = 0  # clients that agreed on compression
        self.outbox = Outbox(None, ENOUGH)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: int | None = None
        self.node, self.next_id = id_source()
        self.remote: Backplane | None = None  # the other nodes
        self._drains: dict[Client, list[asyncio.Future[bool]]] = {}
        self._calls = Calls()
        self.call = self._calls.call

    # Start and stop.

    def start(self, loop: asyncio.AbstractEventLoop, context: Context | None = None) -> None:
        """Work on `loop`, in the calling thread. `context` is the server's, where it is known."""
        self.loop = loop
        self.context = Context() if context is None else context
        self.outbox = Outbox(loop, self.outbox.enough)
        self.thread = get_ident()
        self.node, self.next_id = id_source()  # for each process, also after a fork
        self._calls.start(loop)
        self.running.clear()
        for client in [*self.clients.values(), *self.ending]:  # the last loop ended without a word
            self._inherit(client)
        self.closing.clear()

    def _inherit(self, client: Client) -> None:
        """Bring the life of a client whose loop is gone to its end, on this one."""
        if client.busy:
            client.channel.abandon(client)
        client.channel.give_up(client)
        client.busy = False
        if client.ended is None:
            client.end(Close(LOST))
        elif client.waiting:
            client.channel.resume(client)
        else:  # its disconnect was what ran
            self.finished(client)
        client.state = CLOSED

    def stop(self) -> None:
        """Refuse operations from now on, those that other threads wait for too."""
        self.loop = self.thread = None
        self._calls.stop()

    # Clients come and go.

    def add(self, client: Client) -> None:
        """The handshake of `client` was answered with 101."""
        client.state = OPEN
        client.write = client.writer()
        self.clients[client.id] = client
        self.deflating += client.deflate is not None
        if self.addresses is not None:
            self.addresses.add(host_of_request(client.request))
        ledger = self.ledger
        ledger.connections_opened += 1
        if len(self.clients) > ledger.connections_peak:
            ledger.connections_peak = len(self.clients)

    def remove(self, client: Client) -> None:
        """Take `client` off the lists and out of its rooms; ``client.rooms`` stays as it was."""
        del self.clients[client.id]
        self.deflating -= client.deflate is not None
        self.ending.add(client)
        self.closing.add(client)
        if self.addresses is not None:
            self.addresses.drop(host_of_request(client.request))
        assert client.ended is not None
        self.ledger.closed[client.ended.code] += 1
        for room in client.rooms or ():
            self._drop_member(room, client)
        if client.pending:  # the connection was lost before the turn's end
            self.ledger.handed -= len(client.pending)
            self.ledger.dropped_out["lost"] += len(client.pending)
            self.ledger.bytes_out -= sum(map(len, client.pending))
        if client.slow:
            client.slow = 0
            self.caught_up(client)

    def finished(self, client: Client) -> None:
        """The `disconnect` of `client` has been handled."""
        self.ending.discard(client)
        self.cutting.discard(client)
        client.finished()

    def cut(self, clients: Collection[Client]) -> None:
        """The shutdown's deadline has passed for `clients`: what waits is dropped, what runs is
        cancelled, both counted; a `disconnect` that waits runs still."""
        self.cutting.update(clients)
        for client in clients:
            client.channel.give_up(client)
        for task, client in list(self.running.items()):
            if client in self.cutting:
                task.cancel()

    # The hot path: sending. A frame is encoded once and the same bytes go to each client.

    def send(self, client_id: str, frame: bytes) -> bool:
        """Send to one client. Whether it was taken."""
        if get_ident() != self.thread:
            return self.call(self.send, client_id, frame)
        ledger = self.ledger
        client = self.clients.get(client_id)
        if client is None:
            if self.remote is not None and self.remote.send(client_id, frame):
                return True  # it is a send where the client is
            ledger.sends += 1
            ledger.dropped_out["no_client"] += 1
            return False
        ledger.sends += 1
        if client.deflate is not None:
            frame = client.deflate(frame)
        if self.outbox.send(client, frame):
            ledger.handed += 1
            ledger.bytes_out += len(frame)
            return True
        self._refused([client])
        return False

    def broadcast(self, room: str | None, frame: bytes, exclude: Collection[str] = ()) -> int:
        """Send to all members of `room`, or to all clients, here and elsewhere. How many here
        took it."""
        if get_ident() != self.thread:
            return self.call(self.broadcast, room, frame, exclude)
        remote = self.remote
        if remote is None:
            return self.deliver(room, frame, exclude)
        remote.check_size(frame, len(exclude))
        taken = self.deliver(room, frame, exclude)
        remote.broadcast(room, frame, exclude)
        return taken

    def deliver(self, room: str | None, frame: bytes, exclude: Collection[str] = ()) -> int:
        """Send to those of this node. How many took it."""
        members: Collection[Client]
        if room is None:
            members = self.clients.values()
        else:
            members = self.rooms.get(room, ())
        if exclude:
            skip = {self.clients.get(client_id) for client_id in exclude}
            members = [client for client in members if client not in skip]
        if self.deflating:
            return self._broadcast_mixed(members, frame)
        return self._send_all(members, frame)

    def _send_all(self, clients: Collection[Client], frame: bytes) -> int:
        ledger = self.ledger
        ledger.sends += len(clients)
        refused = self.outbox.send_all(clients, frame)
        taken = len(clients) - len(refused)
        ledger.handed += taken
        ledger.bytes_out += taken * len(frame)
        if refused:
            self._refused(refused)
        return taken

    def _broadcast_mixed(self, members: Collection[Client], frame: bytes) -> int:
        """Some clients take compressed frames: compress once for all that take the same."""
        alike: dict[Callable[[bytes], bytes] | None, list[Client]] = {}
        for client in members:
            alike.setdefault(client.deflate, []).append(client)
        return sum(
            self._send_all(clients, frame if deflate is None else deflate(frame))
            for deflate, clients in alike.items()
        )

    def _refused(self, clients: list[Client]) -> None:
        """Count what slow clients did not take, and part with those that must keep up."""
        self.ledger.dropped_out["slow"] += len(clients)
        for client in clients:
            if client.channel.options.slow_consumer == "close":
                client.close(SLOW_CONSUMER)

    # Slow clients.

    def became_slow(self, client: Client) -> None:
        """The wire of `client` holds more than its limit."""
        self.ledger.slow_clients += 1
        assert self.loop is not None
        self.loop.call_soon(_end_turn, client)

    def caught_up(self, client: Client) -> None:
        """The wire of `client` has little to send again."""
        self.ledger.slow_clients -= 1
        for waiter in self._drains.pop(client, ()):
            if not waiter.done():
                waiter.set_result(client.state == OPEN)

    async def drain(self, client_id: str) -> bool:
        """Wait until a client is not slow. False when it is gone."""
        if get_ident() != self.thread:
            raise NotRunning("ws_drain works on the server's own event loop only")
        client = self.clients.get(client_id)
        if client is None:
            return False
        if not client.slow:
            return True
        assert self.loop is not None
        waiter: asyncio.Future[bool] = self.loop.create_future()
        waiters = self._drains.setdefault(client, [])
        waiters.append(waiter)
        try:
            return await waiter
        finally:
            if waiter.cancelled():
                waiters.remove(waiter)

    # Closing.

    def close(self, client_id: str, close: Close) -> bool:
        """Close one client. False when there is no such client."""
        if get_ident() != self.thread:
            return self.call(self.close, client_id, close)
        client = self.clients.get(client_id)
        if client is None:
            return self.remote is not None and self.remote.close(client_id, close)
        return client.close(close)

    # Rooms.

    def join(self, room: str, client_id: str) -> bool:
        """Put a client into a room. False when there is no such client."""
        if get_ident() != self.thread:
            return self.call(self.join, room, client_id)
        check_room(room)
        client = self.clients.get(client_id)
        if client is None:
            return self.remote is not None and self.remote.join(room, client_id)
        if client.rooms is None:
            client.rooms = {}
        client.rooms[room] = None
        members = self.rooms.get(room)
        if members is None:
            members = self.rooms[room] = {}
            if self.remote is not None:
                self.remote.occupied(room)
        members[client] = None
        return True

    def leave(self, room: str, client_id: str) -> bool:
        """Take a client out of a room. False when it was not in it."""
        if get_ident() != self.thread:
            return self.call(self.leave, room, client_id)
        check_room(room)
        client = self.clients.get(client_id)
        if client is None:
            return self.remote is not None and self.remote.leave(room, client_id)
        if not client.rooms or room not in client.rooms:
            return False
        del client.rooms[room]
        self._drop_member(room, client)
        return True

    def _drop_member(self, room: str, client: Client) -> None:
        members = self.rooms[room]
        del members[client]
        if not members:
            del self.rooms[room]
            if self.remote is not None:
                self.remote.emptied(room)

    def members(self, room: str) -> list[str]:
        """The ids of a room's members, in the order they joined."""
        if get_ident() != self.thread:
            return self.call(self.members, room)
        check_room(room)
        return [client.id for client in self.rooms.get(room, ())]

    def count(self, room: str | None) -> int:
        """How many clients a room has, or how many there are at all."""
        if get_ident() != self.thread:
            return self.call(self.count, room)
        if room is None:
            return len(self.clients)
        check_room(room)
        return len(self.rooms.get(room, ()))

    def client_ids(self) -> list[str]:
        """The ids of all clients, in the order they came."""
        if get_ident() != self.thread:
            return self.call(self.client_ids)
        return list(self.clients)

    # The ledger.

    def dropped(self) -> int:
        """How many messages were dropped because an event channel was full."""
        if get_ident() != self.thread:
            return self.call(self.dropped)
        return self.ledger.dropped_in["overflow"]

    def stats(self) -> Stats:
        """A snapshot of the ledger; before the start and after the stop too."""
        if self.loop is not None and get_ident() != self.thread:
            try:
                return self.call(self.stats)
            except NotRunning:
                pass
        book = self.ledger
        traffic = Traffic() if self.remote is None else self.remote.traffic()
        return Stats(
            received=book.received,
            handled=book.handled,
            failed=book.failed,
            aborted=book.aborted,
            timed_out=book.timed_out,
            running=book.started - book.over(),
            waiting=sum(map(waiting_messages, chain(self.clients.values(), self.ending))),
            dropped_in=Frozen(dict(book.dropped_in)),
            sends=book.sends,
            handed=book.handed,
            dropped_out=Frozen(dict(book.dropped_out)),
            connections_opened=book.connections_opened,
            connections_now=len(self.clients),
            connections_peak=book.connections_peak,
            closing=len(self.closing),
            closed=Frozen(dict(book.closed)),
            refused=Frozen(dict(book.refused)),
            errors=book.errors,
            blocked=book.blocked,
            bytes_in=book.bytes_in,
            bytes_out=book.bytes_out,
            slow_clients=book.slow_clients,
            rooms=len(self.rooms),
            backplane_published=traffic.published,
            backplane_received=traffic.received,
            backplane_lost=traffic.lost,
            backplane_dropped=Frozen(dict(traffic.dropped)),
        )


def _end_turn(client: Client) -> None:
    if client.slow:
        client.slow = 2


def check_id(client_id: object) -> None:
    """Raise unless `client_id` is a ``str``."""
    # An event or a UUID in its place would be an unknown client, in silence.
    if not isinstance(client_id, str):
        raise TypeError(
            f"a client id is a str, not {type(client_id).__name__}; event.client_id is it"
        )


def check_room(room: str) -> None:
    """Raise unless `room` is a name of 1 to 1,024 UTF-8 bytes."""
    if not isinstance(room, str):
        raise TypeError(f"a room's name is a str, not {type(room).__name__}")
    try:
        size = len(room.encode())
    except UnicodeEncodeError:
        raise ValueError("a room's name must encode to UTF-8; it has a lone surrogate") from None
    if not 1 <= size <= 1024:
        raise ValueError(f"a room's name has 1 to 1,024 UTF-8 bytes, this one has {size}")
