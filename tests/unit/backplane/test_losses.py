"""What is lost adds up: a real publisher and a real receiver, and between them a channel that
loses, delays and repeats."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from boltws.backplane import envelope
from boltws.backplane.nats import NatsBackplane
from boltws.backplane.peers import Peers
from boltws.backplane.questions import Questions
from boltws.backplane.receiver import Receiver
from boltws.backplane.sequences import KEPT, REPORTED
from boltws.backplane.subjects import Subjects, room_token
from boltws.frames import TEXT, decode, encode

PUBLISHER = "aaaaaaaaaa"
ROOMS = ["blue", "red"]


class Message(NamedTuple):
    """One that was published to a room: its place there, and its series."""

    number: int
    series: int
    payload: bytes


class Out:
    """The publisher's link. Its server takes so little that each heartbeat tells of one room."""

    is_connected = True
    is_full = False
    max_payload = 2200

    def __init__(self) -> None:
        self.posted: list[bytes] = []

    def post(self, subject: str, *parts: bytes) -> None:
        self.posted.append(b"".join(parts))

    def take(self) -> list[bytes]:
        taken, self.posted = self.posted, []
        return taken


class Clients:
    """The receiver's hub."""

    node = "bbbbbbbbbb"
    rooms = ()

    def __init__(self) -> None:
        self.got: list[tuple[str, int]] = []

    def deliver(self, room: str, frame: bytes, exclude: object) -> int:
        ((message, _),) = decode(frame)
        self.got.append((room, int(message)))
        return 1


class Here:
    """The receiver's backplane."""

    def __init__(self) -> None:
        self.subjects = Subjects()
        self.peers = Peers()
        self.questions = Questions()
        self.dropped: Counter[str] = Counter()

    def tell_soon(self) -> None:
        """Nobody listens."""

    def asked(self, keys: list[str]) -> None:
        """Nobody hears its questions."""

    async def settled(self) -> None:
        """Its link: what it subscribes to stands at once."""


def at_once(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run what waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits")


class Room:
    """What the model knows of one room."""

    def __init__(self) -> None:
        self.published: list[Message] = []
        self.subscribed = self.stands = False
        self.reset()

    def reset(self) -> None:
        """The receiver begins anew."""
        self.begun: int | None = None  # from which message on they are due
        self.taken: set[int] = set()
        self.late: list[Message] = []
        # When the last whole heartbeat came, and if the subscription stood then: how many there
        # were when it was sent.
        self.known: int | None = None

    def begin(self, message: Message, otherwise: int) -> None:
        """The first sign of this publisher in this room: due is all of a series that was begun
        after that heartbeat, and else what comes from now on."""
        if self.begun is None:
            first = next(m.number for m in self.published if m.series == message.series)
            after = self.known is not None and first >= self.known
            self.begun = first if after else otherwise

    @property
    def missed(self) -> int:
        if self.begun is None:
            return 0
        return len(self.published) - self.begun - len(self.taken)


class Losses(RuleBasedStateMachine):
    """Whatever the channel does, at each heartbeat that arrives whole the receiver has counted
    exactly those that were due and that it did not take; and it took none twice.

    At most three heartbeats in a row are lost, or as many as numbers are kept and then all are
    told: there are four after the last message of a series.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.publisher: Any = NatsBackplane("nats://nats.example")
        self.publisher._name = bytes.fromhex(PUBLISHER)
        self.publisher.link = self.out = Out()
        self.clients = Clients()
        self.here: Any = Here()
        self.receiver = asyncio.run(self._receiver())
        self.receiver._clock = lambda: self.now
        self.rooms = {room: Room() for room in ROOMS}
        self.counted = 0  # of subscriptions, and lives of the publisher, that are over
        self.silent = 0  # heartbeats in a row that did not come whole

    async def _receiver(self) -> Receiver:
        clients: Any = self.clients
        return Receiver(self.here, clients)

    def hears(self, key: str, payload: bytes) -> None:
        """Something arrives, some time later."""
        self.now += 1
        sub = self.receiver._by_key[key]
        sub.handler(sub, b"boltws.r.token", payload, None)
        assert not self.here.dropped

    # Messages.

    @rule(
        name=st.sampled_from(ROOMS),
        fates=st.lists(st.sampled_from(["arrives", "is lost", "is late"]), min_size=1, max_size=3),
    )
    def publish(self, name: str, fates: list[str]) -> None:
        room = self.rooms[name]
        for fate in fates:
            message = self.published(name)
            if room.subscribed and fate == "arrives":
                self.arrives(name, message)
            elif room.subscribed and fate == "is late":
                room.late.append(message)

    def published(self, name: str) -> Message:
        self.now += 1
        every = self.rooms[name].published
        assert self.publisher.broadcast(name, encode(TEXT, str(len(every)).encode()), ())
        (payload,) = self.out.take()
        every.append(Message(len(every), envelope.unpack_head(payload)[4], payload))
        return every[-1]

    def arrives(self, name: str, message: Message) -> None:
        room = self.rooms[name]
        self.clients.got.clear()
        self.hears(room_token(name), message.payload)
        room.begin(message, message.number)
        if self.clients.got:
            assert self.clients.got == [(name, message.number)]
            assert message.number not in room.taken, "taken twice"
            room.taken.add(message.number)

    @precondition(lambda self: any(room.late for room in self.rooms.values()))
    @rule(data=st.data())
    def late_arrival(self, data: st.DataObject) -> None:
        """It comes now, and perhaps once more later."""
        name = data.draw(st.sampled_from([n for n, room in self.rooms.items() if room.late]))
        self.arrives(name, data.draw(st.sampled_from(self.rooms[name].late)))

    # Subscriptions.

    @rule(name=st.sampled_from(ROOMS))
    def subscribe(self, name: str) -> None:
        room = self.rooms[name]
        if not room.subscribed:
            room.subscribed = True
            self.receiver.add_room(name, None)

    @rule()
    def subscriptions_stand(self) -> None:
        self.now += 1
        at_once(self.receiver.settle(self.here))
        for room in self.rooms.values():
            room.stands = room.subscribed

    @rule(name=st.sampled_from(ROOMS))
    def unsubscribe(self, name: str) -> None:
        room = self.rooms[name]
        if room.subscribed:
            self.whole_heartbeat(hello=True)
            self.counted += room.missed
            self.receiver.drop_room(name, None)
            room.subscribed = room.stands = False
            room.reset()

    # Heartbeats.

    def heartbeat(self, hello: bool = False) -> list[bytes]:
        self.publisher.tell(everything=hello, hello=hello)
        return self.out.take()

    def tells(self, part: bytes) -> None:
        """One part of a heartbeat arrives."""
        self.hears(Subjects().heartbeats, part)
        for name, room in self.rooms.items():
            told = json.loads(part[envelope.SIZE :])["sequences"].get(room_token(name))
            if told is not None and room.stands:
                of_series = [m for m in room.published if m.series == told[0]]
                room.begin(of_series[0], of_series[0].number + told[1])

    @rule(hello=st.booleans())
    def whole_heartbeat(self, hello: bool) -> None:
        for part in self.heartbeat(hello):
            self.tells(part)
        for room in self.rooms.values():
            room.known = len(room.published) if room.stands else None
            if room.begun is None:  # nothing begins with a message that is as late as that
                room.late.clear()
        self.silent = 0
        missed = sum(room.missed for room in self.rooms.values())
        assert self.receiver.lost == self.counted + missed

    @precondition(lambda self: self.silent < REPORTED - 1)
    @rule(data=st.data())
    def cut_heartbeat(self, data: st.DataObject) -> None:
        """It is lost, all of it or its end: the connection was."""
        parts = self.heartbeat()
        for part in parts[: data.draw(st.integers(0, len(parts) - 1))]:
            self.tells(part)
        self.silent += 1

    @rule(count=st.integers(REPORTED, REPORTED + 2) | st.integers(KEPT - 2, KEPT + 2))
    def idles(self, count: int) -> None:
        """Until a series is told no more, or is forgotten; some heartbeats are lost."""
        for _ in range(count):
            if self.silent < REPORTED - 1:
                self.heartbeat()
                self.silent += 1
            else:
                self.whole_heartbeat(hello=False)

    @rule(
        names=st.lists(st.sampled_from(ROOMS), max_size=4),
        beats=st.integers(0, KEPT - REPORTED),
    )
    def cut_off(self, names: list[str], beats: int) -> None:
        """Nothing comes for up to a minute; then it asks for all numbers."""
        for name in names:
            self.published(name)
        for _ in range(beats):
            self.heartbeat()
        self.whole_heartbeat(hello=True)

    @rule()
    def forgotten(self) -> None:
        """The publisher was away for ten minutes: counting begins anew, with what it says next."""
        self.whole_heartbeat(hello=True)
        self.receiver.forget(PUBLISHER)
        for room in self.rooms.values():
            self.counted += room.missed
            room.reset()

    def teardown(self) -> None:
        self.whole_heartbeat(hello=True)


Losses.TestCase.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
TestLosses = Losses.TestCase
