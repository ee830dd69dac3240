"""Which other nodes live: each says so every two seconds."""

from __future__ import annotations

from math import inf

HEARTBEAT = 2.0  # seconds
DEAD = 7.0  # seconds of silence
LATE = 3.0  # seconds after our last heartbeat: what others have said waits to be read
FORGOTTEN = 600.0  # seconds; until then one that was only cut off is known again


class Peers:
    """The other nodes, by name."""

    __slots__ = ("_beat", "_dead", "_heard", "_since")

    def __init__(self) -> None:
        self._beat = self._since = -inf
        self._heard: dict[str, float] = {}
        self._dead: dict[str, float] = {}  # when they were last heard

    def beat(self, now: float) -> bool:
        """It is time for our own heartbeat. False where it comes late, as something has blocked
        us: nobody is dead then for not having been heard."""
        late = self.is_late(now)
        self._beat = now
        if late:
            self._since = now
        return not late

    def is_late(self, now: float) -> bool:
        """Whether our own heartbeat should have been before now."""
        return now - self._beat >= LATE

    def heard_for(self, now: float) -> float:
        """For how many seconds the others have been heard without a break."""
        return 0.0 if self.is_late(now) else now - self._since

    def heard(self, node: str, now: float) -> bool:
        """A heartbeat came. Whether the node is new, or lives again."""
        new = node not in self._heard
        self._heard[node] = now
        self._dead.pop(node, None)
        return new

    def gone(self, node: str) -> bool:
        """The node took its leave. Whether it was known."""
        known = self._heard.pop(node, None) is not None
        return self._dead.pop(node, None) is not None or known

    def bury(self, now: float) -> list[str]:
        """Those that have been silent for too long since the last call."""
        buried = [node for node, heard in self._heard.items() if now - heard >= DEAD]
        for node in buried:
            self._dead[node] = self._heard.pop(node)
        return buried

    def forget(self, now: float) -> list[str]:
        """Those that have been dead for so long that they will not come back."""
        forgotten = [node for node, heard in self._dead.items() if now - heard >= FORGOTTEN]
        for node in forgotten:
            del self._dead[node]
        return forgotten

    @property
    def silent(self) -> bool:
        """Whether one is dead that may come back."""
        return bool(self._dead)

    def live(self, now: float) -> list[str]:
        """The nodes that live."""
        return [node for node, heard in self._heard.items() if now - heard < DEAD]

    def is_live(self, node: str, now: float) -> bool:
        """Whether one node lives."""
        return now - self._heard.get(node, -DEAD) < DEAD
