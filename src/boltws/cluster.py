"""`bolt.cluster`: what all nodes together know."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

from .errors import NotRunning
from .hub import Hub, check_id, check_room
from .reads import answer
from .remote import Asked

_TIMEOUT = 1.0  # seconds


class Cluster:
    """Questions to every live node at once. Without a backplane this process is all there is.

    Each takes `timeout`, seconds until the answers that have come are what there is, and gives
    ``(value, complete, missing)``: see :class:`Asked`. None raises because a node is slow. They
    are for the event loop that Bolt runs on; elsewhere, and before the start, they raise
    :class:`NotRunning`.
    """

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def room_count(self, room: str, *, timeout: float = _TIMEOUT) -> Asked:
        """How many members a room has. Value: ``int``."""
        check_room(room)
        answers, missing, whole = await self._ask("room_count", timeout, room=room)
        return Asked(sum(answers), whole, missing)

    async def room_members(self, room: str, *, timeout: float = _TIMEOUT) -> Asked:
        """The ids of a room's members. Value: ``list[str]``."""
        check_room(room)
        answers, missing, whole = await self._ask("room_members", timeout, room=room)
        return Asked([member for members in answers for member in members], whole, missing)

    async def client_list(
        self, *, limit: int = 1000, after: str = "", timeout: float = _TIMEOUT
    ) -> Asked:
        """A page of the ids of all clients, in their own order. Value: ``list[str]``.

        Args:
            limit: how many at most.
            after: the last id of the page before; ``""`` for the first.
        """
        if limit < 1:
            raise ValueError(f"limit must be 1 or more, not {limit}")
        answers, missing, whole = await self._ask("client_list", timeout, limit=limit, after=after)
        ids = sorted(client_id for found in answers for client_id in found)
        return Asked(ids[:limit], whole, missing)

    async def connection_count(self, *, timeout: float = _TIMEOUT) -> Asked:
        """How many clients there are. Value: ``int``."""
        answers, missing, whole = await self._ask("connection_count", timeout)
        return Asked(sum(answers), whole, missing)

    async def nodes(self, *, timeout: float = _TIMEOUT) -> Asked:
        """The live nodes. Value: a list of ``dict``: node, host, pid, connections, rooms."""
        answers, missing, whole = await self._ask("node", timeout)
        return Asked(sorted(answers, key=lambda told: str(told["node"])), whole, missing)

    async def room_join(self, room: str, client_id: str, *, timeout: float = _TIMEOUT) -> bool:
        """Put a client into a room, and return when its node is subscribed to the room: what is
        published from now on reaches it. False for an unknown client, or no answer in time."""
        check_room(room)
        check_id(client_id)
        hub = self._here()
        if hub.remote is None:
            return hub.join(room, client_id)
        return await hub.remote.joined(room, client_id, timeout)

    def _here(self) -> Hub:
        if self._hub.thread != get_ident():
            raise NotRunning("bolt.cluster works on the server's own event loop, while it runs")
        return self._hub

    async def _ask(
        self, kind: str, timeout: float, **about: Any
    ) -> tuple[list[Any], tuple[str, ...], bool]:
        hub = self._here()
        if hub.remote is None:
            return [answer(hub, kind, about)], (), True
        answers, missing = await hub.remote.ask(kind, timeout, **about)
        good = {node: value for node, value in answers.items() if _FITS[kind](value)}
        missing = tuple(sorted({*missing, *(answers.keys() - good.keys())}))
        # Cut off, or blocked, this node may have buried all the others.
        return list(good.values()), missing, not missing and hub.remote.hears_all


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


_FITS: dict[str, Callable[[Any], bool]] = {
    "room_count": lambda value: isinstance(value, int),
    "room_members": _is_ids,
    "client_list": _is_ids,
    "connection_count": lambda value: isinstance(value, int),
    "node": lambda value: isinstance(value, dict) and "node" in value,
}
