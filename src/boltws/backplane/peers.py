"""Which other nodes live: each says so every two seconds."""

from __future__ import annotations

HEARTBEAT = 2.0  # seconds
DEAD = 7.0  # seconds of silence
FORGOTTEN = 600.0  # seconds; until then one that was only cut off is known again


class Peers:
    """The other nodes, by name."""

    __slots__ = ("_dead", "_heard")

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._dead: dict[str, float] = {}  # when they were last heard

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
