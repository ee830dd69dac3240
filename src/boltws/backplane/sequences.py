"""Nothing is lost in silence between nodes: what is published is numbered, and gaps are counted.

A publisher numbers its messages per subject and tells the last numbers in its heartbeats, so a
node that should have had a message knows within one heartbeat that it had not.
"""

from __future__ import annotations

REPORTED = 4  # heartbeats that tell of a subject after its last message: one may be lost too
KEPT = 30  # heartbeats after which an idle subject's numbers are forgotten
# The same while some node is silent: it may only be cut off, and is remembered for 300 heartbeats.
KEPT_FOR_SILENT = 330

Report = dict[str, tuple[int, int]]  # subject's key -> series, last sequence


class Outgoing:
    """The numbers of one publisher."""

    __slots__ = ("_awaited", "_beat", "_last", "series")

    def __init__(self) -> None:
        self._beat = 0
        self._awaited = -REPORTED  # the last heartbeat at which some node was silent
        self.series = 0  # the last that was begun
        self._last: dict[str, list[int]] = {}  # key -> series, sequence, beat of the last message

    def next(self, key: str) -> list[int]:
        """Number one message: the first two of the result are its series and sequence."""
        entry = self._last.get(key)
        if entry is None:
            self.series += 1
            entry = self._last[key] = [self.series, 0, 0]
        entry[1] += 1
        entry[2] = self._beat
        return entry

    def asked(self, keys: list[str]) -> None:
        """Some node has just subscribed, and has no number to compare the next one with: tell of
        them as if a message had just gone out."""
        for key in keys:
            if (entry := self._last.get(key)) is not None:
                entry[2] = self._beat

    def report(self, everything: bool, silent: bool = False) -> Report:
        """What a heartbeat tells: the last numbers of what was published to lately, or of all.
        Where some node is `silent`, they are kept for its return."""
        if not everything:  # an answer to a hello is no heartbeat
            self._beat += 1
        if silent:
            self._awaited = self._beat
        # A node that is back has a moment to ask.
        kept = KEPT_FOR_SILENT if self._beat - self._awaited < REPORTED else KEPT
        told: Report = {}
        for key, (series, sequence, beat) in list(self._last.items()):
            age = self._beat - beat
            if age > kept:
                del self._last[key]
            elif everything or age <= REPORTED:
                told[key] = (series, sequence)
        return told


class Incoming:
    """What was heard from each node on one subject."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: dict[bytes, tuple[int, int]] = {}  # node -> series, sequence

    def heard(self, node: bytes, series: int, sequence: int) -> int | None:
        """A message came. How many before it did not; -1 when it was counted as lost before, so
        that it must be dropped; None when it is the first of its node: see :meth:`begin`."""
        last = self._last.get(node)
        if last is None:
            return None
        if series == last[0]:
            if sequence <= last[1]:
                return -1
            self._last[node] = (series, sequence)
            return sequence - last[1] - 1
        if series < last[0]:
            return -1
        self._last[node] = (series, sequence)
        return sequence - 1

    def told(self, node: bytes, series: int, sequence: int) -> int | None:
        """A heartbeat says what the last message was. How many of them did not come; None when
        nothing was heard of the node before."""
        last = self._last.get(node)
        if last is None:
            return None
        if (series, sequence) <= last:
            return 0
        self._last[node] = (series, sequence)
        return sequence - last[1] if series == last[0] else sequence

    def begin(self, node: bytes, series: int, sequence: int) -> None:
        """Count from here."""
        self._last[node] = (series, sequence)

    def forget(self, node: bytes) -> None:
        """The node is gone; another life of it has another name."""
        self._last.pop(node, None)
