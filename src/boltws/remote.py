"""What the flow asks of a backplane: the interface, and its guarantee.

Without one, a process is alone: nothing of this is called and nothing of it costs. With one, what
reaches the hub's local clients reaches those of every other node as well: at most once, in the
order of one node's publishes to one room, and what is lost on the way is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from .errors import Close
    from .hub import Hub


class Asked(NamedTuple):
    """What all live nodes together answer."""

    value: Any
    complete: bool
    """Whether every live node has answered in time."""
    missing: tuple[str, ...]
    """The nodes that have not."""


class Traffic(NamedTuple):
    """A backplane's counters, of messages."""

    published: int = 0
    received: int = 0
    lost: int = 0
    dropped: Mapping[str, int] = {}


class Backplane(Protocol):
    """All is called on the event loop of the hub it was started with."""

    # Its life.

    def check(self) -> None:
        """Raise :class:`StartError` where it cannot work here: a package is missing."""

    def start(self, hub: Hub) -> None:
        """Connect, and go on trying."""

    async def connected(self) -> None:
        """Return when it hears others. Raises :class:`BackplaneError` when it takes too long."""

    async def stop(self) -> None:
        """Take leave of the others, and disconnect."""

    def abandon(self) -> None:
        """The loop has ended without a word: forget it."""

    @property
    def hears(self) -> bool:
        """Whether others are heard now."""

    @property
    def hears_all(self) -> bool:
        """Whether each node that lives is known by now."""

    def traffic(self) -> Traffic:
        """The counters."""

    # Writes, as far as they concern others. Each says whether it was published.

    def check_size(self, frame: bytes, excluded: int = 0) -> None:
        """Raise ``ValueError`` for a message, with so many ids to leave out, that is too large to
        be published."""

    def send(self, client_id: str, frame: bytes) -> bool:
        """To a client that is not here."""

    def close(self, client_id: str, close: Close) -> bool:
        """Close a client that is not here."""

    def join(self, room: str, client_id: str) -> bool:
        """Put a client that is not here into a room."""

    def leave(self, room: str, client_id: str) -> bool:
        """Take a client that is not here out of a room."""

    def broadcast(self, room: str | None, frame: bytes, exclude: Iterable[str]) -> bool:
        """To a room's members elsewhere, or to all clients elsewhere."""

    # Interest.

    def occupied(self, room: str) -> None:
        """A room has its first member here."""

    def emptied(self, room: str) -> None:
        """A room has lost its last member here."""

    # Reads.

    async def ask(
        self, kind: str, timeout: float, **about: Any
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """What each live node answers, this one included, and who has not in time."""

    async def joined(self, room: str, client_id: str, timeout: float) -> bool:
        """Join, and return when the room is subscribed to where the client is."""
