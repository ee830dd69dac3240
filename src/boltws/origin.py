"""Who may connect: a browser's ``Origin``, the ``Host`` it came to, the proxies that are believed.

A browser sends cookies with any page's WebSocket handshake and tells whose page it was in
``Origin`` (RFC 6455, section 10.2), so an origin that is not checked lets any site act for the
user. ``Host`` is checked on loopback because a page can point its own name at 127.0.0.1 (DNS
rebinding) and then has the same origin.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from .options import Network, Options, plain_origin
from .request import Address

_FEW = 128  # most handshakes of a server have the same hosts and origins, and strangers' are long
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class Peer:
    """Where a handshake came from, and where it believes it went."""

    __slots__ = ("address", "host", "loopback", "origin", "proxied", "scheme")

    def __init__(
        self, scope: Mapping[str, Any], proxies: tuple[Network, ...], loopback: bool | None
    ) -> None:
        headers: dict[bytes, bytes] = dict(reversed(list(scope["headers"])))  # the first counts
        client = scope.get("client")
        self.address = Address(client[0], client[1] or 0) if client else None
        self.scheme: str = scope.get("scheme", "ws")
        self.host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin")
        self.origin = None if origin is None else origin.decode("latin-1").lower()
        server = scope.get("server")
        self.loopback = is_loopback(server[0]) if loopback is None and server else bool(loopback)
        if self.loopback and self.address and not is_loopback(self.address.host):
            # Nobody comes to loopback from elsewhere: the server, or a middleware, has believed a
            # proxy, and no page's script can name another address than its browser's.
            self.loopback = False
        self.proxied = bool(self.address and _is_in(self.address.host, proxies))
        if self.proxied:
            self._believe(scope, headers.get(b"x-forwarded-proto", b""), proxies)

    def _believe(
        self, scope: Mapping[str, Any], proto: bytes, proxies: tuple[Network, ...]
    ) -> None:
        """Take the scheme, and the last address that is no trusted proxy's."""
        forwarded: list[str] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                forwarded += value.decode("latin-1").split(",")
        said = proto.decode("latin-1").split(",")[0].strip().lower()
        if said in _PORTS:
            self.scheme = "wss" if _PORTS[said] == 443 else "ws"
        for hop in reversed(forwarded):
            host = hop.strip().strip("[]")
            try:
                ipaddress.ip_address(host)
            except ValueError:
                return
            self.address = Address(host, 0)
            if not _is_in(host, proxies):
                return

    def refusal(self, options: Options) -> tuple[str, str] | None:
        """Why this peer may not connect, as a cause and a line for the log, or None."""
        allowed = options.origins
        if allowed == "*":
            return None
        if self.origin is not None and allowed and plain_origin(self.origin) in allowed:
            return None
        if self.loopback and not self.proxied and not is_loopback(_hostname(self.host)):
            return "host", (
                f"Host {self.host!r} is not a loopback name, and the server is bound to loopback. "
                "Behind a proxy on this machine: "
                f"Bolt(trusted_proxies=[{self.address.host if self.address else '127.0.0.1'!r}])"
            )
        if self.origin is None or _same_host(self.origin, self.host, self.scheme):
            return None
        return "origin", (
            f"Origin {self.origin!r} is not {self.host!r}, where the request went. "
            + _how_to_allow(self.origin, allowed)
        )


def _how_to_allow(origin: str, allowed: tuple[str, ...] | None) -> str:
    if origin == "null":  # it would let in every such page, whose ever it is
        return "A page from a file, or in a sandboxed frame, has no origin: serve it over HTTP"
    if allowed is None:
        return f"To allow it: Bolt(origins=[{origin!r}])"
    return (
        f"To allow it, add {origin!r} to the list that counts here: bolt.ws(..., origins=[...]), "
        "or Bolt(origins=[...]) where the endpoint has none"
    )


@lru_cache(_FEW)
def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@lru_cache(_FEW)
def _hostname(netloc: str) -> str:
    try:
        return urlsplit("//" + netloc).hostname or ""
    except ValueError:
        return ""


@lru_cache(_FEW)
def _same_host(origin: str, host: str, scheme: str) -> bool:
    """Whether `origin` has the host and port that the request went to.

    A ``Host`` without a port may have lost TLS at a proxy: there an https origin without a port
    is the same.
    """
    try:
        ours = urlsplit("//" + host)
        theirs = urlsplit(origin)
        if theirs.scheme not in ("http", "https") or "@" in theirs.netloc or theirs.path:
            return False  # no origin that a browser sends (RFC 6454, section 6.2)
        if not theirs.hostname or theirs.hostname != ours.hostname:
            return False
        their_port = theirs.port or _PORTS[theirs.scheme]
        if ours.port is None and theirs.port is None and theirs.scheme == "https":
            return True
        return their_port == (ours.port or _PORTS.get(scheme, 80))
    except ValueError:
        return False


def _is_in(host: str, networks: tuple[Network, ...]) -> bool:
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)
