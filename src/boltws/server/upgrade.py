"""The opening handshake: what RFC 6455, section 4.2, asks of the request, and the answers."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import Iterable
from http import HTTPStatus

import httptools
from websockets.utils import accept_key

Headers = Iterable[tuple[bytes, bytes]]

# What a header line may hold (RFC 9110, section 5).
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class BadUpgrade(Exception):
    """A request that asks for a WebSocket in a way that cannot be granted."""

    def __init__(self, status: int, text: str, headers: Headers = ()) -> None:
        self.status = status
        self.text = text
        self.headers = headers


def asked_for(headers: Headers) -> bytes | None:
    """What a request asks to upgrade to; ``Connection`` may stand on several lines."""
    tokens: set[bytes] = set()
    upgrade = None
    for name, value in headers:
        if name == b"connection":
            tokens.update(token.strip().lower() for token in value.split(b","))
        elif name == b"upgrade":
            upgrade = value.strip().lower()
    return upgrade if b"upgrade" in tokens else None


def check_upgrade(method: str, version: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The request's key. Raises :class:`BadUpgrade` for one that breaks the RFC."""
    if method != "GET" or version != "1.1":
        raise BadUpgrade(400, "a WebSocket handshake is a GET of HTTP/1.1")
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value.strip())
    if len(found.get(b"host", ())) != 1:
        raise BadUpgrade(400, "a handshake has one Host header")
    if b"transfer-encoding" in found or found.get(b"content-length", [b"0"]) != [b"0"]:
        raise BadUpgrade(400, "a handshake has no body")
    if found.get(b"sec-websocket-version") != [b"13"]:
        raise BadUpgrade(426, "version 13 is spoken here", [(b"sec-websocket-version", b"13")])
    keys = found.get(b"sec-websocket-key", [])
    try:
        if len(keys) != 1 or len(base64.b64decode(keys[0], validate=True)) != 16:
            raise ValueError
    except (binascii.Error, ValueError):
        raise BadUpgrade(400, "a handshake has one Sec-WebSocket-Key of 16 bytes") from None
    return keys[0]


def split_target(url: bytes) -> tuple[bytes, bytes]:
    """The path, which is ASCII, and the query that a handshake asks for. Raises
    :class:`BadUpgrade` where there is no path."""
    path = query = b""
    with contextlib.suppress(httptools.HttpParserError):
        parsed = httptools.parse_url(url)
        path, query = parsed.path or b"", parsed.query or b""
    if not path.startswith(b"/") or not path.isascii():
        raise BadUpgrade(400, "a handshake asks for a path")
    return path, query


def subprotocols(headers: Headers) -> list[str]:
    """The subprotocols that the peer offers, in its order of preference."""
    offered: list[str] = []
    for name, value in headers:
        if name == b"sec-websocket-protocol":
            offered += [t for part in value.decode("latin-1").split(",") if (t := part.strip())]
    return offered


def accept(key: bytes, subprotocol: str | None, headers: Headers) -> bytes:
    """The answer 101."""
    lines = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(key.decode()).encode()),
    ]
    if subprotocol:
        lines.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
    return _head(101, [*lines, *headers])


def denial(status: int, headers: Headers, body: bytes) -> bytes:
    """An answer that refuses the handshake; the connection closes behind it."""
    given = [(name.lower(), value) for name, value in headers]
    given = [(n, v) for n, v in given if n not in (b"connection", b"transfer-encoding")]
    names = {name for name, _ in given}
    if b"content-length" not in names:
        given.append((b"content-length", str(len(body)).encode()))
    if body and b"content-type" not in names:
        given.append((b"content-type", b"text/plain; charset=utf-8"))
    return _head(status, [*given, (b"connection", b"close")]) + body


def _head(status: int, headers: Headers) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}".encode()]
    for name, value in headers:
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise RuntimeError(f"not a header that can be sent: {name!r}: {value!r}")
        lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])
