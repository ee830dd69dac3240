"""What comes from other nodes, and from publishers outside, goes to the clients here."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from ..errors import Close, check_close
from ..frames import BINARY, TEXT, encode
from ..hub import Hub, check_room
from ..reads import answer
from . import envelope
from .envelope import BadMessage
from .heartbeat import Beat, read_beat
from .questions import answer_parts
from .subjects import room_token
from .subscription import Handler, Subscription

if TYPE_CHECKING:
    from .link import Link
    from .nats import NatsBackplane

logger = logging.getLogger("boltws")

_OUTSIDE = ord("x")
_NORMAL = 1000  # the close code where none is given
_AGAIN = 0.25  # seconds until what was not confirmed is asked for again
# What reading something that is no message of ours may raise; RecursionError is JSON's.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class Receiver:
    """The subscriptions of one node, and what is done with what comes on them."""

    def __init__(self, backplane: NatsBackplane, hub: Hub) -> None:
        self.received = 0
        self.lost = 0
        self._hub = hub
        self._backplane = backplane
        self._clock = asyncio.get_running_loop().time
        self._settling = False
        self._settled = asyncio.Event()  # of the next confirmation, or failure
        self.new: list[str] = []  # subjects that the next heartbeat asks about
        self._own = bytes.fromhex(hub.node)
        # Each node's last series, and when it said so.
        self._told: dict[bytes, tuple[int, float]] = {}
        subjects = self._subjects = backplane.subjects
        self._kind_at = len(subjects.outside) - 2  # where a subject says r or x
        node = hub.node
        fixed = [
            Subscription(subjects.heartbeats, "", self._reading(self._on_heartbeat)),
            Subscription(subjects.everyone, "all", self._reading(self._on_everyone)),
            Subscription(subjects.outside_everyone, "", self._reading(self._on_outside_everyone)),
            Subscription(subjects.node(node), f"n.{node}", self._reading(self._on_node)),
            Subscription(subjects.outside_node(node), "", self._reading(self._on_outside_node)),
        ]
        self._by_key = {sub.key or sub._subject: sub for sub in fixed}
        self._unconfirmed = dict.fromkeys(fixed)
        for room in hub.rooms:
            self.add_room(room, None)

    # Subscriptions.

    def subscribe_all(self, link: Link) -> None:
        """Subscribe to all there is, on a new link."""
        for sub in self._by_key.values():
            link.add(sub)

    async def settle(self, link: Link) -> bool:
        """Return when the server has taken all subscriptions. False where it has not: the link
        reconnects then, and this is called again."""
        subs = list(self._unconfirmed)
        try:
            await link.settled()
        except Exception as error:
            logger.info(
                "subscriptions have not been confirmed: %s", str(error) or type(error).__name__
            )
            return False
        else:
            now = self._clock()
            for sub in subs:
                if sub in self._unconfirmed:
                    del self._unconfirmed[sub]
                    sub.stood = now
                    if sub.room:
                        self.new.append(sub.key)
            return True
        finally:
            self._settled.set()
            self._settled = asyncio.Event()

    def add_room(self, room: str, link: Link | None) -> None:
        """Subscribe to a room."""
        token = room_token(room)
        interest = self._subjects.room_interest(token)
        sub = self._by_key[token] = Subscription(interest, token, self._on_room, room)
        self._unconfirmed[sub] = None
        if link is not None:
            link.add(sub)
            self._settle_soon()

    def _settle_soon(self) -> None:
        link = self._backplane.link
        if not self._settling and link is not None and link.is_connected:
            self._settling = True
            self._backplane.spawn(self._settle_all())

    async def _settle_all(self) -> None:
        """One confirmation at a time, each for all that came since the last. While the link is
        away there is nothing to do: all are settled when it is back."""
        try:
            await asyncio.sleep(0)  # those of one turn are confirmed together
            while self._unconfirmed and (link := self._backplane.link) and link.is_connected:
                if not await self.settle(link):
                    await asyncio.sleep(_AGAIN)
        finally:
            self._settling = False

    def drop_room(self, room: str, link: Link | None) -> None:
        """Unsubscribe from a room."""
        sub = self._by_key.pop(room_token(room))
        self._unconfirmed.pop(sub, None)
        if link is not None:
            link.drop(sub)

    def forget(self, node: str) -> None:
        """A node is gone, and its numbers with it."""
        name = bytes.fromhex(node)
        self._told.pop(name, None)
        for sub in self._by_key.values():
            sub.incoming.forget(name)
        self._backplane.questions.gone(node)

    # From nodes. Each handler says how many clients it delivered to.

    def _open(self, sub: Subscription, data: bytes) -> tuple[int, int, str]:
        """Operation (0: ignore it), flags and node of an envelope; what is numbered is counted."""
        if len(data) < envelope.SIZE or data[0] != envelope.VERSION:
            return self._bad(sub, "no envelope of this version"), 0, ""
        _, operation, flags, node, series, sequence = envelope.unpack_head(data)
        if node == self._own:  # it was stuck on a connection that we have given up
            return 0, 0, ""
        if sequence:
            gap = sub.incoming.heard(node, series, sequence)
            if gap is None:
                gap = sequence - 1 if self._begin(sub, node, series, sequence) else 0
            if gap:
                if gap < 0:
                    return 0, 0, ""
                self.lost += gap
            self.received += 1
        return operation, flags, node.hex()

    def _begin(self, sub: Subscription, node: bytes, series: int, sequence: int) -> bool:
        """Count a node's messages from here. Whether those of the series before are lost: it was
        begun after a heartbeat, and that came when the subscription stood."""
        sub.incoming.begin(node, series, sequence)
        before, at = self._told.get(node, (series, 0.0))
        return series > before and 0 < sub.stood < at

    def _reading(self, handler: Handler) -> Handler:
        """`handler`, for which what cannot be read is counted."""

        def read(sub: Subscription, subject: bytes, data: bytes, headers: bytes | None) -> int:
            try:
                return handler(sub, subject, data, headers)
            except _UNREADABLE as bad:
                return self._bad(sub, bad)

        return read

    def _bad(self, sub: Subscription, why: object) -> int:
        self._backplane.dropped["bad_message"] += 1
        logger.info("a message on %s cannot be read: %s", sub._subject, why)
        return 0

    def _on_room(
        self, sub: Subscription, subject: bytes, data: bytes, headers: bytes | None
    ) -> int:
        # As `_reading`, without a call more: most of what comes, comes here.
        try:
            if subject[self._kind_at] == _OUTSIDE:
                return self._outside_broadcast(sub.room, data, headers)
            operation, flags, _ = self._open(sub, data)
            if operation != envelope.ROOM:
                return 0
            return self._broadcast(sub.room, flags, data)
        except ValueError as bad:
            return self._bad(sub, bad)

    def _on_everyone(
        self, sub: Subscription, subject: bytes, data: bytes, headers: bytes | None
    ) -> int:
        operation, flags, node = self._open(sub, data)
        if operation == envelope.EVERYONE:
            return self._broadcast(None, flags, data)
        if operation == envelope.ASK:
            self._answer(node, data[envelope.SIZE :])
        return 0

    def _broadcast(self, room: str | None, flags: int, data: bytes) -> int:
        exclude: tuple[str, ...] = ()
        if flags > envelope.BINARY:
            exclude, name, payload = envelope.unpack_extras(flags, data)
            if name and name != room:
                return 0
        else:
            payload = data[envelope.SIZE :]
        frame = encode(BINARY if flags & envelope.BINARY else TEXT, payload)
        return self._hub.deliver(room, frame, exclude)

    def _on_node(
        self, sub: Subscription, subject: bytes, data: bytes, headers: bytes | None
    ) -> int:
        operation, flags, node = self._open(sub, data)
        if not operation:
            return 0
        body = data[envelope.SIZE :]
        if operation == envelope.ANSWER:
            self._backplane.questions.take(node, body)
            return 0
        client_id = envelope.unpack_id(body)
        rest = body[16:]
        if operation == envelope.SEND:
            opcode = BINARY if flags & envelope.BINARY else TEXT
            return self._hub.send(client_id, encode(opcode, rest))
        if operation == envelope.CLOSE:
            close = Close(int.from_bytes(rest[:2]), rest[2:].decode())
            check_close(*close)
            self._hub.close(client_id, close)
        elif operation == envelope.JOIN:
            self._hub.join(rest.decode(), client_id)
        elif operation == envelope.LEAVE:
            self._hub.leave(rest.decode(), client_id)
        return 0

    def _on_heartbeat(
        self, sub: Subscription, subject: bytes, data: bytes, headers: bytes | None
    ) -> int:
        operation, _, node = self._open(sub, data)
        backplane = self._backplane
        if operation == envelope.BYE:
            if backplane.peers.gone(node):
                self.forget(node)
        elif operation == envelope.BEAT:
            self._beat(node, read_beat(data[envelope.SIZE :]))
        return 0

    def _beat(self, node: str, beat: Beat) -> None:
        new = self._backplane.peers.heard(node, self._clock())
        name = bytes.fromhex(node)
        for key, (begun, sequence) in beat.sequences.items():
            sub = self._by_key.get(key)
            if sub is None:
                continue
            lost = sub.incoming.told(name, begun, sequence)
            if lost is None:
                lost = 0
                if sub.stood and self._begin(sub, name, begun, sequence):
                    lost = sequence
            self.lost += lost
        if not beat.more and beat.series >= self._told.get(name, (0, 0.0))[0]:
            self._told[name] = (beat.series, self._clock())
        self._backplane.asked(beat.new)
        if new or (beat.hello and not beat.more):
            self._backplane.tell_soon()

    # Questions.

    def _answer(self, node: str, data: bytes) -> None:
        asked = json.loads(data)
        number, kind = asked.pop("number"), asked.pop("kind")
        if kind != "join":
            self._backplane.answer(node, answer_parts(number, answer(self._hub, kind, asked)))
        elif asked["node"] == self._hub.node:
            room, client_id = asked["room"], asked["client_id"]
            check_room(room)
            if not isinstance(client_id, str):
                raise BadMessage("a client id is a str")
            self._backplane.spawn(self._join(node, number, room, client_id))

    async def _join(self, node: str, number: int, room: str, client_id: str) -> None:
        done = await self.join(room, client_id)
        self._backplane.answer(node, answer_parts(number, done))

    async def join(self, room: str, client_id: str) -> bool:
        """Put a client of this node into a room, and wait until the subscription stands."""
        if client_id not in self._hub.clients or not self._hub.join(room, client_id):
            return False
        sub = self._by_key[room_token(room)]
        while True:
            link = self._backplane.link
            if link is None or not link.is_connected or self._by_key.get(sub.key) is not sub:
                return False
            if sub.stood:
                return self._backplane.hears
            self._settle_soon()
            await self._settled.wait()

    # From publishers outside (see `subjects`): the payload is the message.

    def _on_outside_everyone(
        self, sub: Subscription, subject: bytes, data: bytes, headers: bytes | None
    ) -> int:
        return self._outside_broadcast(None, data, headers)

    def _outside_broadcast(self, room: str | None, data: bytes, headers: bytes | None) -> int:
        fields = _fields(headers)
        frame = self._outside_frame(data, fields)
        names = fields.get("boltws-exclude", "")
        return self._hub.deliver(room, frame, tuple(filter(None, names.split(","))))

    def _on_outside_node(
        self, sub: Subscription, subject: bytes, data: bytes, headers: bytes | None
    ) -> int:
        verb, _, client_id = subject[self._kind_at + 2 :].decode().split(".")
        if verb == "close":
            return self._outside_close(client_id, data)
        if verb != "to":
            raise BadMessage(f"nothing is called {verb!r}")
        return self._hub.send(client_id, self._outside_frame(data, _fields(headers)))

    def _outside_frame(self, data: bytes, fields: dict[str, str]) -> bytes:
        binary = fields.get("boltws-type") == "binary"
        if not binary:
            data.decode()  # a text is UTF-8
        self.received += 1
        return encode(BINARY if binary else TEXT, data)

    def _outside_close(self, client_id: str, data: bytes) -> int:
        code, _, reason = data.decode().partition(" ")
        close = Close(int(code or _NORMAL), reason)
        check_close(*close)
        self.received += 1
        self._hub.close(client_id, close)
        return 0


def _fields(headers: bytes | None) -> dict[str, str]:
    """NATS' header lines, names in lower case."""
    fields: dict[str, Any] = {}
    for line in (headers or b"").decode("utf-8", "replace").split("\r\n")[1:]:
        name, separator, value = line.partition(":")
        if separator:
            fields[name.strip().lower()] = value.strip()
    return fields
