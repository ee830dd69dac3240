"""The HTTP request that opened a connection, kept as one ``bytes`` and parsed when asked.

An idle connection holds on to its request for as long as it lives. As parsed objects a browser's
headers take some 3 KB, packed they take their own length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote


class Address(NamedTuple):
    """A peer's address. The port is 0 where a proxy named the address."""

    host: str
    port: int


class Fields(Mapping[str, str]):
    """Named values in the order they came; a name may stand more than once.

    ``fields[name]`` gives all values of a header joined with ``", "``, or the last value of a
    query parameter; ``getlist(name)`` gives each.
    """

    __slots__ = ("_fold", "_items")

    def __init__(self, items: list[tuple[str, str]], *, fold: bool) -> None:
        self._items = items
        self._fold = fold

    def getlist(self, name: str) -> list[str]:
        """All values of `name`, ``[]`` where there is none."""
        if self._fold:
            name = name.lower()
        return [value for key, value in self._items if key == name]

    def __getitem__(self, name: str) -> str:
        values = self.getlist(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values) if self._fold else values[-1]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._items))

    def __len__(self) -> int:
        return len(dict(self._items))

    def __repr__(self) -> str:
        return f"Fields({self._items!r})"


def pack(
    scope: Mapping[str, Any],
    client: Address | None,
    subprotocol: str | None,
    scheme: str | None = None,
) -> bytes:
    """The request of an ASGI scope as one ``bytes``; `scheme` and `client` are as a trusted proxy
    says."""
    address = f"{client.host} {client.port}" if client else ""
    lines = [
        raw_path(scope).encode(),
        scope.get("query_string", b""),
        (scheme or str(scope.get("scheme", "ws"))).encode(),
        address.encode(),
        (subprotocol or "").encode(),
    ]
    lines += [name + b":" + value for name, value in scope["headers"]]
    return b"\n".join(lines)


def raw_path(scope: Mapping[str, Any]) -> str:
    """The path of an ASGI scope, percent-encoded; servers need not give it so."""
    raw: bytes | None = scope.get("raw_path")
    if raw:
        return raw.partition(b"?")[0].decode("latin-1")
    return quote(scope["path"])


class Request:
    """The request that opened the connection."""

    __slots__ = ("_lines",)

    def __init__(self, packed: bytes) -> None:
        self._lines = packed.split(b"\n")

    @property
    def path(self) -> str:
        """The actual path, percent-decoded."""
        return unquote(self.raw_path)

    @property
    def raw_path(self) -> str:
        """The actual path as it came, percent-encoded."""
        return self._lines[0].decode("latin-1")

    @property
    def query_string(self) -> str:
        """What stood behind the question mark, percent-encoded."""
        return self._lines[1].decode("latin-1")

    @property
    def query(self) -> Fields:
        """The query's parameters, decoded."""
        return Fields(parse_qsl(self.query_string, keep_blank_values=True), fold=False)

    @property
    def scheme(self) -> str:
        """``"ws"`` or ``"wss"``."""
        return self._lines[2].decode()

    @property
    def client(self) -> Address | None:
        """The peer's address: what a trusted proxy says it is, else the socket's; None if unknown
        (a Unix socket)."""
        host, _, port = self._lines[3].decode().rpartition(" ")
        return Address(host, int(port)) if host else None

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""
        return self._lines[4].decode() or None

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the peer offered, in its order of preference."""
        offered = self.headers.get("sec-websocket-protocol", "")
        return [token for part in offered.split(",") if (token := part.strip())]

    @property
    def headers(self) -> Fields:
        """The headers; names are compared without regard to case."""
        pairs = (line.decode("latin-1").partition(":") for line in self._lines[5:])
        return Fields([(name.lower(), value) for name, _, value in pairs], fold=True)

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies by name."""
        cookies: dict[str, str] = {}
        for header in self.headers.getlist("cookie"):
            for part in header.split(";"):
                name, equals, value = part.strip().partition("=")
                if equals and name:
                    quoted = len(value) > 1 and value[0] == value[-1] == '"'
                    cookies.setdefault(name, value[1:-1] if quoted else value)
        return cookies
