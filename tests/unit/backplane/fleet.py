"""Nodes in one loop, on a NATS server that is the test.

Each node is a real Bolt with a real NatsBackplane; only its :class:`Link` is replaced, by one that
ends in :class:`Nats`. What is published arrives in order, in later turns of the loop. Nothing that
a handler raises is swallowed: it fails the test.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import nats.errors

from boltws import Bolt
from boltws.backplane import envelope
from boltws.backplane.nats import NatsBackplane
from boltws.backplane.receiver import Receiver
from boltws.backplane.subjects import room_token
from boltws.backplane.subscription import Subscription
from boltws.ledger import Stats

from ..flow import FakeClient, Flow, Start, turns_until


class Posted(NamedTuple):
    """A message on its way through the server."""

    subject: str
    payload: bytes
    headers: bytes | None = None

    @property
    def operation(self) -> int:
        return self.payload[1]

    @property
    def body(self) -> bytes:
        """What follows the head of an envelope."""
        return self.payload[envelope.SIZE :]


class Nats:
    """A server, as much of one as nodes see."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.posted: list[Posted] = []  # by nodes, in order
        self.raised: list[BaseException] = []  # by the nodes' handlers
        self.loses: Callable[[Posted], bool] = lambda message: False  # what comes to nobody
        self.down = False
        self.max_payload = 2**20

    def publish(
        self,
        subject: str,
        payload: bytes,
        headers: bytes | None = None,
        by: FakeLink | None = None,
    ) -> None:
        """Route one message: to each subscription that matches it, but for the publisher's own."""
        message = Posted(subject, payload, headers)
        if by is not None:
            self.posted.append(message)
        if self.loses(message):
            return
        for link in self.links:
            if link is not by and link.is_connected:
                for sub in link.candidates(subject):
                    if matches(sub._subject, subject):
                        link.inbox.put(lambda link=link, sub=sub: link.hear(sub, message))

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not any(link.inbox.busy or link.outbox.busy for link in self.links)

    def on(self, part: str) -> list[Posted]:
        """What nodes posted to subjects with `part` in them, heartbeats apart."""
        return [m for m in self.posted if part in m.subject and not m.subject.endswith(".hb")]


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is among those of a subscription, ``*`` standing for any one token."""
    wanted, given = pattern.split("."), subject.split(".")
    return len(wanted) == len(given) and all(
        w in ("*", g) for w, g in zip(wanted, given, strict=True)
    )


class Pipe:
    """What is put in is done in its order, in later turns of the loop, while it is not held."""

    def __init__(self) -> None:
        self._queue: deque[Callable[[], None]] = deque()
        self._held = False

    @property
    def busy(self) -> bool:
        return bool(self._queue) and not self._held

    def put(self, call: Callable[[], None]) -> None:
        self._queue.append(call)
        if len(self._queue) == 1 and not self._held:
            asyncio.get_running_loop().call_soon(self._next)

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False
        if self._queue:
            asyncio.get_running_loop().call_soon(self._next)

    def clear(self) -> None:
        self._queue.clear()

    def _next(self) -> None:
        for _ in range(min(len(self._queue), 100)):
            if self._held or not self._queue:  # what was done has held or cleared it
                return
            self._queue[0]()
            if self._queue:
                self._queue.popleft()
        if self._queue and not self._held:
            asyncio.get_running_loop().call_soon(self._next)


class FakeLink:
    """What NatsBackplane asks of a Link. The test cuts it, freezes it, fills it."""

    def __init__(self, nats: Nats) -> None:
        self.nats = nats
        self.is_connected = self.is_closed = False
        self.is_full = False
        self.deaf = False  # pings are not answered
        self.stuck = False  # nats-py does nothing more for it, and has not said so
        self.ended = asyncio.Event()
        self.inbox, self.outbox = Pipe(), Pipe()
        # As the server has them: by the last token of their subject, and by number.
        self._routes: dict[str, dict[int, Subscription]] = {}
        self.commands: list[tuple[str, str]] = []  # SUB and UNSUB, with their subject
        self.options: dict[str, Any] = {}
        self.refuses = ""  # the subject that the server lets nobody subscribe to
        self._subs: dict[int, Subscription] = {}
        self._sid = 0

    @property
    def interest(self) -> dict[int, Subscription]:
        """The subscriptions that the server has, by number."""
        return {sid: sub for route in self._routes.values() for sid, sub in route.items()}

    def candidates(self, subject: str) -> list[Subscription]:
        """Those that may match a subject."""
        last = subject.rpartition(".")[2]
        routes = self._routes.get(last, {}), self._routes.get("*", {})
        return [sub for route in routes for sub in route.values()]

    @property
    def max_payload(self) -> int:
        return self.nats.max_payload

    @property
    def hears(self) -> bool:
        return self.is_connected and not self.deaf

    async def connect(self, **options: Any) -> None:
        self.options = options
        await asyncio.sleep(0)
        if self.nats.down:
            raise ConnectionRefusedError("connection refused")
        self.nats.links.append(self)
        self.is_connected = True

    def post(self, subject: str, *parts: bytes) -> None:
        assert self.is_connected, "posted on a link that is not connected"
        payload = b"".join(parts)
        self.outbox.put(lambda: self.nats.publish(subject, payload, by=self))

    def add(self, sub: Subscription) -> None:
        self._sid += 1
        sub.sid = self._sid
        self._subs[sub.sid] = sub
        if self.is_connected:
            self._subscribe(sub)

    def _subscribe(self, sub: Subscription) -> None:
        self.commands.append(("SUB", sub._subject))
        route = self._routes.setdefault(sub._subject.rpartition(".")[2], {})
        self.outbox.put(lambda: route.__setitem__(sub.sid, sub))

    def drop(self, sub: Subscription) -> None:
        self._subs.pop(sub.sid, None)
        if self.is_connected:
            self.commands.append(("UNSUB", sub._subject))
            route = self._routes.setdefault(sub._subject.rpartition(".")[2], {})
            self.outbox.put(lambda: route.pop(sub.sid, None) and None)

    async def subscribed_again(self) -> None:
        if self.refuses:
            await self.deny("Subscription", self.refuses)
        await self.settled()

    async def settled(self) -> None:
        pong = asyncio.get_running_loop().create_future()
        self.outbox.put(lambda: pong.done() or pong.set_result(None))
        async with asyncio.timeout(5):
            await pong

    @property
    def is_dead(self) -> bool:
        return self.stuck or self.ended.is_set()

    async def close(self) -> None:
        self.ended.set()
        while self.outbox.busy:
            await asyncio.sleep(0)
        self.abort()

    def abort(self) -> None:
        if not self.is_closed:
            self.is_connected = False
            self.is_closed = True
            self._routes.clear()
            self.inbox.clear()

    async def give_up(self) -> None:
        self.outbox.clear()
        await self.close()

    def hear(self, sub: Subscription, message: Posted) -> None:
        """A message arrives. As nats-py has it, not for one that has unsubscribed meanwhile."""
        if self._subs.get(sub.sid) is sub:
            try:
                sub.handler(sub, message.subject.encode(), message.payload, message.headers)
            except Exception as error:
                self.nats.raised.append(error)

    # What happens to it.

    async def deny(self, what: str, subject: str) -> None:
        """The server says what is not permitted."""
        error = nats.errors.Error(f'nats: Permissions Violation for {what} to "{subject}"')
        await self.options["error_cb"](error)

    async def cut(self) -> None:
        """The connection is lost, with all that was under way on it."""
        self.is_connected = False
        self._routes.clear()
        self.inbox.clear()
        self.outbox.clear()
        await self.options["disconnected_cb"]()

    async def mend(self) -> None:
        """It is back, and nats-py has subscribed to all anew."""
        self.is_connected = True
        for sub in self._subs.values():
            self._subscribe(sub)
        await self.options["reconnected_cb"]()


class Node:
    """One Bolt of the fleet."""

    def __init__(self, fleet: Fleet, backplane: NatsBackplane, flow: Flow) -> None:
        self.fleet = fleet
        self.backplane = backplane
        self.flow = flow
        self.bolt = flow.bolt

    @property
    def id(self) -> str:
        return self.backplane.node

    @property
    def link(self) -> FakeLink:
        link: Any = self.backplane.link
        assert isinstance(link, FakeLink)
        return link

    @property
    def receiver(self) -> Receiver:
        assert self.backplane._receiver is not None
        return self.backplane._receiver

    @property
    def stats(self) -> Stats:
        return self.bolt.stats()

    def client(self, *rooms: str) -> FakeClient:
        """A client of this node, in these rooms."""
        client = self.flow.connect()
        for room in rooms:
            self.bolt.ws_room_join(room, client.id)
        return client

    def subscribed(self, room: str) -> bool:
        """Whether the server routes a room's messages here."""
        interest = self.backplane.subjects.room_interest(room_token(room))
        return interest in [sub._subject for sub in self.link.interest.values()]

    async def stop(self) -> None:
        """A shutdown in good order."""
        for client in self.flow.clients:
            client.leaves()
        await self.flow.runtime.drain()


class Fleet:
    """The nodes of a test, and the server between them."""

    def __init__(self, start: Start) -> None:
        self.nats = Nats()
        self.nodes: list[Node] = []
        self._start = start

    def bolt(self, **options: Any) -> Bolt:
        """A Bolt on the fleet's server, not started yet."""
        bolt = Bolt(backplane=NatsBackplane("nats://nats.example"), **options)
        bolt.ws("/p")
        return bolt

    async def node(self, bolt: Bolt | None = None) -> Node:
        """One more node, which all others have heard of."""
        node = self.begin(bolt)
        await node.flow.runtime.connected()
        await self.quiet()
        return node

    def begin(self, bolt: Bolt | None = None) -> Node:
        """One more node, which is only about to connect."""
        bolt = bolt or self.bolt()
        flow = self._start(bolt)
        backplane: Any = flow.hub.remote
        node = Node(self, backplane, flow)
        self.nodes.append(node)
        return node

    async def two(self) -> tuple[Node, Node]:
        return await self.node(), await self.node()

    async def quiet(self) -> None:
        """Let the loop turn until nothing is under way on the server."""
        calm = 0

        def is_calm() -> bool:
            nonlocal calm
            calm = calm + 1 if self.nats.idle else 0
            return calm > 8  # tasks that have been woken had their turn

        await turns_until(is_calm)

    async def a_heartbeat(self) -> None:
        """Until each node has told its numbers once more. Needs the test's clock."""
        await asyncio.sleep(2.01)
        await self.quiet()


def head(
    operation: int,
    flags: int = 0,
    node: str = "ffffffffff",
    series: int = 0,
    sequence: int = 0,
    version: int = envelope.VERSION,
) -> bytes:
    """The head of an envelope, of a node that is none of the fleet unless it is named."""
    name = bytes.fromhex(node)
    return envelope.pack_head(version, operation, flags, name, series, sequence)


def beat(
    node: str = "ffffffffff",
    hello: bool = False,
    series: int | None = None,
    more: bool = False,
    **sequences: Any,
) -> bytes:
    """A heartbeat. The last series, unless it is given, is the last of those that it tells of."""
    if series is None:
        series = max((begun for begun, _ in sequences.values()), default=0)
    told = {"hello": hello, "series": series, "sequences": sequences, "more": more, "new": []}
    return head(envelope.BEAT, node=node) + json.dumps(told).encode()
