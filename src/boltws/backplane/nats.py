"""The backplane on NATS: what reaches the clients here reaches those of all other nodes.

Core NATS, at most once: nothing is stored, and what is lost is counted (see `sequences`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import ssl
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType as Frozen
from typing import TYPE_CHECKING, Any

from ..errors import Close, StartError
from ..frames import head_size
from ..hub import Hub
from ..options import make_options
from ..reads import answer
from ..remote import Traffic
from . import envelope
from .heartbeat import beat_parts
from .interest import Interest
from .keeper import Keeper
from .peers import HEARTBEAT, Peers
from .questions import Questions
from .receiver import Receiver
from .sequences import Outgoing
from .settings import Settings
from .subjects import DEFAULT_PREFIX, Subjects, is_hashed, node_of, room_token

if TYPE_CHECKING:
    from .link import Link

logger = logging.getLogger("boltws")

MOMENT = 0.1  # seconds; all who ask for our numbers within it are told at once
LISTENED = HEARTBEAT  # seconds until whoever lives has been heard
_MAX_PAYLOAD = 2**20  # bytes; NATS' default, until the server has told its own
_ROOM_FOR_HEAD = 2048  # bytes of a payload that are ours: head, a room's name


class NatsBackplane:
    """A node of a fleet that talks over NATS. ``Bolt(backplane="nats://…")`` makes one; make it
    yourself to give credentials beside the URL.

    Args:
        url, user, password, token, nkey, creds, tls: see
            :class:`boltws.backplane.settings.Settings`.
        prefix: stands before every subject; one for each app that shares the servers.
        connect_timeout: seconds until a start without a server fails.

    Raises:
        ConfigurationError: a URL, a file or a prefix that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = DEFAULT_PREFIX,
        user: str | None = None,
        password: str | None = None,
        token: str | None = None,
        nkey: str | os.PathLike[str] | None = None,
        creds: str | os.PathLike[str] | None = None,
        tls: bool | str | os.PathLike[str] | ssl.SSLContext | None = None,
        connect_timeout: float = 5.0,
    ) -> None:
        self.settings = Settings.of(
            url, user=user, password=password, token=token, nkey=nkey, creds=creds, tls=tls
        )
        self.subjects = Subjects(make_options({"prefix": prefix}).prefix)
        self.connect_timeout = connect_timeout
        self.node = ""
        self.peers = Peers()
        self.questions = Questions()
        self.dropped: Counter[str] = Counter()
        self.published = 0
        self.link: Link | None = None
        self._receiver: Receiver | None = None
        self._outgoing = Outgoing()
        self._name = b""
        self._keeper: Keeper | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._interest: Interest | None = None
        self._telling: asyncio.TimerHandle | None = None

    # Life.

    @staticmethod
    def check() -> None:
        """Raise :class:`StartError` where nats-py is missing, or is one we do not know."""
        try:
            from .link import contract_broken
        except ImportError as error:
            raise StartError(
                f"a backplane needs nats-py: pip install 'nats-py[nkeys]' ({error})"
            ) from None
        if missing := contract_broken():
            raise StartError(f"this nats-py has no {missing}: install one that boltws supports")

    def start(self, hub: Hub) -> None:
        """Connect, and go on trying."""
        self.check()
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self.node = hub.node
        self._name = bytes.fromhex(hub.node)
        self.peers = Peers()
        self._outgoing = Outgoing()
        before = self._receiver
        receiver = self._receiver = Receiver(self, hub)
        self._interest = Interest(
            lambda room: receiver.add_room(room, self.link),
            lambda room: receiver.drop_room(room, self.link),
        )
        if before is not None:  # counts are since construction
            self._receiver.received, self._receiver.lost = before.received, before.lost
        self._keeper = Keeper(self.settings, self.node, hub.outbox.waiting, self._up)
        self.spawn(self._keeper.keep())
        self.spawn(self._beat())

    def spawn(self, coroutine: Any) -> asyncio.Task[None]:
        """Run a coroutine until the stop."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("backplane: %r", error, exc_info=error)

    async def connected(self) -> None:
        """Return when it is connected. Raises :class:`BackplaneError` after `connect_timeout`."""
        assert self._keeper is not None
        await self._keeper.connected(self.connect_timeout)

    async def stop(self) -> None:
        """Take leave of the others, and disconnect."""
        if self._keeper is None or self._keeper.stopping or self.link is None:
            self.abandon()
            return
        self._keeper.stopping = True
        self.tell()
        self._post(self.subjects.heartbeats, envelope.BYE)
        # In a task of its own: nats-py cancels what it then waits for.
        await asyncio.wait([self.spawn(self.link.close())], timeout=HEARTBEAT)
        self.abandon()

    def abandon(self) -> None:
        """Forget the connection and what runs for it."""
        if self._keeper is not None:
            self._keeper.stopping = True
        for task in list(self._tasks):
            with contextlib.suppress(RuntimeError):  # its loop has closed
                task.cancel()
        if self._interest is not None:
            self._interest.end()
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        link, self.link = self.link, None
        if link is not None:
            with contextlib.suppress(RuntimeError):  # the same, or none runs
                link.abort()
                if asyncio.get_running_loop() is self._loop and not link.is_closed:
                    self.spawn(link.give_up())

    async def _up(self, link: Link, new: bool) -> None:
        """A link has connected, or connected again."""
        assert self._receiver is not None
        if new:
            self.link = link
            self._receiver.subscribe_all(link)
        await self._receiver.settle(link)
        self.tell(everything=True, hello=True)

    @property
    def hears(self) -> bool:
        """Whether the server answers, and lets us hear others."""
        refused = self._keeper is None or self._keeper.refused
        return self.link is not None and self.link.hears and not refused

    @property
    def hears_all(self) -> bool:
        """Whether each node that lives has had the time to say so, and has been heard."""
        if self._keeper is None or not self.hears:
            return False
        now = asyncio.get_running_loop().time()
        return min(now - self._keeper.since, self.peers.heard_for(now)) >= LISTENED

    def traffic(self) -> Traffic:
        """The counters."""
        receiver = self._receiver
        return Traffic(
            self.published,
            0 if receiver is None else receiver.received,
            0 if receiver is None else receiver.lost,
            Frozen(self.dropped),
        )

    # Heartbeats.

    async def _beat(self) -> None:
        assert self._receiver is not None
        clock = asyncio.get_running_loop().time
        self.peers.beat(clock())
        while True:
            await asyncio.sleep(HEARTBEAT)
            self.tell()
            now = clock()
            for node in self.peers.bury(now) if self.peers.beat(now) else ():
                logger.warning("node %s has not been heard for too long: it is gone", node)
                self.questions.gone(node)
            for node in self.peers.forget(now):
                self._receiver.forget(node)

    def asked(self, keys: list[str]) -> None:
        """Other nodes have subscribed to these."""
        self._outgoing.asked(keys)

    def tell(self, everything: bool = False, hello: bool = False) -> None:
        """One heartbeat: that we live, and the last numbers of what we have published lately, or
        ever. A `hello` asks the others to tell all of theirs at once."""
        if self.link is None or not self.link.is_connected:
            return  # numbers that nobody is told may not grow old
        new: list[str] = []
        if self._receiver is not None:
            new, self._receiver.new = self._receiver.new, new
        report = self._outgoing.report(everything, self.peers.silent)
        for part in beat_parts(report, new, self._outgoing.series, hello, self._most()):
            self._post(self.subjects.heartbeats, envelope.BEAT, part)

    def tell_soon(self) -> None:
        """Tell everything, once to all who ask within a moment: when the server comes back, every
        node asks every other."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(MOMENT, self._tell_all)

    def _tell_all(self) -> None:
        self._telling = None
        self.tell(everything=True)

    # Publishing.

    def _post(self, subject: str, operation: int, *parts: bytes) -> None:
        """Publish what is not counted, where that is possible."""
        link = self.link
        if link is not None and link.is_connected and not link.is_full:
            head = envelope.pack_head(envelope.VERSION, operation, 0, self._name, 0, 0)
            link.post(subject, head, *parts)

    def _publish(self, subject: str, key: str, operation: int, flags: int, *parts: bytes) -> bool:
        """Publish a message that is numbered, and counted where it cannot go out."""
        link = self.link
        if link is None or not link.is_connected:
            self.dropped["disconnected"] += 1
            return False
        if link.is_full:
            self.dropped["full"] += 1
            return False
        series, sequence, _ = self._outgoing.next(key)
        head = envelope.pack_head(envelope.VERSION, operation, flags, self._name, series, sequence)
        link.post(subject, head, *parts)
        self.published += 1
        return True

    def _most(self) -> int:
        """Bytes that the server takes in one message, besides what is ours."""
        told = 0 if self.link is None else self.link.max_payload
        return max(0, (told or _MAX_PAYLOAD) - _ROOM_FOR_HEAD)

    def check_size(self, frame: bytes, excluded: int = 0) -> None:
        """Raise ``ValueError`` for a message that the server would not take."""
        most = self._most()
        size = len(frame) - head_size(frame)  # the frame's own head does not travel
        if excluded > envelope.MOST_EXCLUDED or size + excluded * 16 > most:
            without = f" and {excluded:,} ids to leave out" if excluded else ""
            raise ValueError(
                f"a message to other nodes has at most {most:,} bytes, 16 for each id to leave "
                f"out (max_payload of nats-server), and this one has {size:,}{without}"
            )

    def broadcast(self, room: str | None, frame: bytes, exclude: Iterable[str]) -> bool:
        """To a room's members elsewhere, or to all clients elsewhere."""
        flags, payload = envelope.unframe(frame)
        parts = [payload]
        if room is None:
            subject, key, operation = self.subjects.everyone, "all", envelope.EVERYONE
        else:
            key = room_token(room)
            subject, operation = self.subjects.room(key), envelope.ROOM
            if is_hashed(key):
                flags |= envelope.NAME
                parts.insert(0, envelope.pack_name(room))
        if exclude:
            flags |= envelope.EXCLUDE
            parts.insert(0, envelope.pack_exclude(exclude))
        return self._publish(subject, key, operation, flags, *parts)

    def send(self, client_id: str, frame: bytes) -> bool:
        """To a client that is not here."""
        node = self._elsewhere(client_id)
        if node is None:
            return False
        self.check_size(frame)
        flags, payload = envelope.unframe(frame)
        return self._to(node, envelope.SEND, flags, envelope.pack_id(client_id), payload)

    def close(self, client_id: str, close: Close) -> bool:
        """Close a client that is not here."""
        node = self._elsewhere(client_id)
        about = close.code.to_bytes(2) + close.reason.encode()
        return node is not None and self._to(
            node, envelope.CLOSE, 0, envelope.pack_id(client_id), about
        )

    def join(self, room: str, client_id: str) -> bool:
        """Put a client that is not here into a room."""
        return self._move(envelope.JOIN, room, client_id)

    def leave(self, room: str, client_id: str) -> bool:
        """Take a client that is not here out of a room."""
        return self._move(envelope.LEAVE, room, client_id)

    def _move(self, operation: int, room: str, client_id: str) -> bool:
        node = self._elsewhere(client_id)
        return node is not None and self._to(
            node, operation, 0, envelope.pack_id(client_id), room.encode()
        )

    def _elsewhere(self, client_id: str) -> str | None:
        """The live node that a client is on; None for one of ours, or of nobody's."""
        node = node_of(client_id)
        if node is None or node == self.node:
            return None
        return node if self.peers.is_live(node, asyncio.get_running_loop().time()) else None

    def _to(self, node: str, operation: int, flags: int, *parts: bytes) -> bool:
        subject = self.subjects.node(node)
        return self._publish(subject, f"n.{node}", operation, flags, *parts)

    # Interest.

    def occupied(self, room: str) -> None:
        """A room has its first member here: subscribe, unless that is so still."""
        assert self._interest is not None
        self._interest.occupied(room)

    def emptied(self, room: str) -> None:
        """A room has lost its last member here: unsubscribe in a while."""
        assert self._interest is not None
        self._interest.emptied(room)

    # Reads.

    async def ask(
        self, kind: str, timeout: float, **about: Any
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What each live node answers, this one included, and who has not in time."""
        others = self.peers.live(asyncio.get_running_loop().time())
        answers, missing = await self._question(others, timeout, kind=kind, **about)
        return {self.node: answer(self._hub, kind, about), **answers}, missing

    async def _question(
        self, nodes: list[str], timeout: float, **asked: Any
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What `nodes` answer, and who of them has not in time."""

        def publish(number: int) -> None:
            if nodes:
                payload = json.dumps({"number": number, **asked}).encode()
                self._post(self.subjects.everyone, envelope.ASK, payload)

        return await self.questions.ask(nodes, publish, timeout)

    def answer(self, node: str, parts: Iterable[bytes]) -> None:
        """Answer a question of another node."""
        for part in parts:
            self._post(self.subjects.node(node), envelope.ANSWER, part)

    async def joined(self, room: str, client_id: str, timeout: float) -> bool:
        """Join, and return when the room is subscribed to where the client is."""
        node = self._elsewhere(client_id)
        if node is None:
            assert self._receiver is not None
            try:
                async with asyncio.timeout(timeout):
                    return await self._receiver.join(room, client_id)
            except TimeoutError:
                return False
        answers, _ = await self._question(
            [node], timeout, kind="join", node=node, room=room, client_id=client_id
        )
        return bool(answers.get(node))
