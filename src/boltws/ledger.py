"""The books: every message in and out is counted, and the counts balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass


class Ledger:
    """The counters of one Bolt, added to where things happen. Read through :class:`Stats`."""

    __slots__ = (
        "aborted",
        "blocked",
        "bytes_in",
        "bytes_out",
        "closed",
        "connections_opened",
        "connections_peak",
        "dropped_in",
        "dropped_out",
        "errors",
        "failed",
        "handed",
        "handled",
        "received",
        "refused",
        "sends",
        "slow_clients",
        "started",
        "timed_out",
    )

    def __init__(self) -> None:
        self.received = self.started = 0
        self.handled = self.failed = self.aborted = self.timed_out = 0
        self.sends = self.handed = 0
        self.connections_opened = self.connections_peak = 0
        self.errors = self.blocked = self.bytes_in = self.bytes_out = self.slow_clients = 0
        self.dropped_in: Counter[str] = Counter()
        self.dropped_out: Counter[str] = Counter()
        self.closed: Counter[int] = Counter()
        self.refused: Counter[str] = Counter()

    def over(self) -> int:
        """How many messages' pipelines have ended, in whatever way."""
        return self.handled + self.failed + self.aborted + self.timed_out


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the ledger, from ``bolt.stats()``. All counts are since construction."""

    received: int
    """Messages that came in, whole and valid."""
    handled: int
    """Messages whose pipeline ran to its end."""
    failed: int
    """Messages whose pipeline raised."""
    aborted: int
    """Messages that a before aborted."""
    timed_out: int
    """Messages whose pipeline was cut at `handler_timeout` or at the shutdown's deadline."""
    running: int
    """Messages whose pipeline is under way."""
    waiting: int
    """Messages in the event channels."""
    dropped_in: Mapping[str, int]
    """Messages dropped, by cause: overflow, rate, closed (came when the server had closed),
    shutdown (came when the server had begun to stop, or waited past its deadline)."""
    sends: int
    """Messages to send, one for each client it was meant for."""
    handed: int
    """Sends that the transport took."""
    dropped_out: Mapping[str, int]
    """Sends dropped, by cause: slow, no_client, lost (its connection was lost before the
    transport had it)."""
    connections_opened: int
    """Handshakes answered with 101."""
    connections_now: int
    connections_peak: int
    closing: int
    """Connections that are closed for the app and whose sockets are still ending."""
    closed: Mapping[int, int]
    """Ended connections by close code: 1005 none was given, 1006 lost without a close."""
    refused: Mapping[str, int]
    """Refused handshakes by cause: abort, error, origin, host, limit, gone, shutdown,
    no_endpoint. Where boltws' own server serves the Bolt itself, also requests that came to no
    handshake: bad_request, head_too_large, timeout, busy (uvicorn's limit_concurrency)."""
    errors: int
    """Callbacks that raised, of whatever event."""
    blocked: int
    """Times that the event loop was blocked for a second or more; the log says by whom."""
    bytes_in: int
    bytes_out: int
    slow_clients: int
    rooms: int
    backplane_published: int
    """Messages and operations given to the backplane for other nodes."""
    backplane_received: int
    """Those that came from other nodes, and from publishers outside."""
    backplane_lost: int
    """Those that this node should have had and has not: gaps in other nodes' numbers, known within
    a heartbeat (2 s)."""
    backplane_dropped: Mapping[str, int]
    """By cause: disconnected, full (not published: more than 8 MiB waited), bad_message (came, and
    cannot be read)."""

    def imbalance(self) -> str:
        """An empty ``str`` when the books balance, else the equation that does not hold."""
        came = self.handled + self.failed + self.aborted + self.timed_out
        came += self.running + self.waiting + sum(self.dropped_in.values())
        if self.received != came or self.running < 0:
            return f"received {self.received}, accounted for {came}: {self}"
        went = self.handed + sum(self.dropped_out.values())
        if self.sends != went:
            return f"sends {self.sends}, accounted for {went}: {self}"
        ended = self.connections_now + sum(self.closed.values())
        if self.connections_opened != ended:
            return f"connections opened {self.connections_opened}, accounted for {ended}: {self}"
        return ""
