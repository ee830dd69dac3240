"""How many connections each address has, for `max_connections_per_address`."""

from __future__ import annotations

from .request import Address, Request


class Addresses:
    """Connections and handshakes by address; an address without any takes no memory."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def count(self, host: str) -> int:
        """How many come from `host`."""
        return self._counts.get(host, 0)

    def add(self, host: str) -> None:
        """One more from `host`."""
        self._counts[host] = self._counts.get(host, 0) + 1

    def drop(self, host: str) -> None:
        """One less from `host`."""
        self._counts[host] -= 1
        if not self._counts[host]:
            del self._counts[host]


def host_of(address: Address | None) -> str:
    """What a connection is counted under; ``""`` where it has no address."""
    return address.host if address else ""


def host_of_request(packed: bytes) -> str:
    """The same, of a packed request."""
    return host_of(Request(packed).client)
