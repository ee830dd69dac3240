"""Which other nodes live: each says so every two seconds."""

from __future__ import annotations

from typing import Any

HEARTBEAT = 2.0  # seconds
DEAD = 7.0  # seconds of silence


class Peers:
    """The other nodes, by name."""

    __slots__ = ("_heard", "_told")

    def __init__(self) -> None:
        self._heard: dict[str, float] = {}
        self._told: dict[str, dict[str, Any]] = {}

    def heard(self, node: str, now: float, told: dict[str, Any]) -> bool:
        """A heartbeat came. Whether the node is new."""
        new = node not in self._heard
        self._heard[node] = now
        self._told[node] = told
        return new

    def gone(self, node: str) -> bool:
        """The node took its leave. Whether it was known."""
        self._told.pop(node, None)
        return self._heard.pop(node, None) is not None

    def bury(self, now: float) -> list[str]:
        """Forget those that have been silent for too long, and name them."""
        dead = [node for node, heard in self._heard.items() if now - heard >= DEAD]
        for node in dead:
            self.gone(node)
        return dead

    def live(self, now: float) -> list[str]:
        """The nodes that live."""
        return [node for node, heard in self._heard.items() if now - heard < DEAD]

    def is_live(self, node: str, now: float) -> bool:
        """Whether one node lives."""
        return now - self._heard.get(node, -DEAD) < DEAD
