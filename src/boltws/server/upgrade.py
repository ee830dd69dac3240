"""The opening handshake: what RFC 6455, section 4.2, asks of the request, and the answers."""

from __future__ import annotations

import binascii
import contextlib
import re
from base64 import b64decode
from collections.abc import Iterable
from http import HTTPStatus

import httptools
from websockets.utils import accept_key

Headers = Iterable[tuple[bytes, bytes]]

# What a header line may hold (RFC 9110, section 5).
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

_ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-accept: "
)


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


def check_upgrade(method: str, http_version: str, headers: list[tuple[bytes, bytes]]) -> bytes:
    """The request's key. Raises :class:`BadUpgrade` for one that breaks the RFC."""
    if method != "GET" or http_version != "1.1":
        raise BadUpgrade(400, "a WebSocket handshake is a GET of HTTP/1.1")
    names = [name for name, _ in headers]
    if names.count(b"host") != 1:
        raise BadUpgrade(400, "a handshake has one Host header")
    given = dict(headers)
    length = given.get(b"content-length", b"0").strip()
    if b"transfer-encoding" in given or length != b"0" or names.count(b"content-length") > 1:
        raise BadUpgrade(400, "a handshake has no body")
    version = given.get(b"sec-websocket-version", b"").strip()
    if version != b"13" or names.count(b"sec-websocket-version") != 1:
        raise BadUpgrade(426, "version 13 is spoken here", [(b"sec-websocket-version", b"13")])
    key = given.get(b"sec-websocket-key", b"").strip()
    try:
        if names.count(b"sec-websocket-key") != 1 or len(b64decode(key, validate=True)) != 16:
            raise ValueError
    except (binascii.Error, ValueError):
        raise BadUpgrade(400, "a handshake has one Sec-WebSocket-Key of 16 bytes") from None
    return key


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
    lines = [_ACCEPT + accept_key(key.decode()).encode()]
    if subprotocol:
        headers = [(b"sec-websocket-protocol", subprotocol.encode("latin-1")), *headers]
    return _head(lines, headers)


def denial(status: int, headers: Headers, body: bytes) -> bytes:
    """An answer that refuses the handshake; the connection closes behind it."""
    given = [(name.lower(), value) for name, value in headers]
    given = [(n, v) for n, v in given if n not in (b"connection", b"transfer-encoding")]
    names = {name for name, _ in given}
    if b"content-length" not in names:
        given.append((b"content-length", str(len(body)).encode()))
    if body and b"content-type" not in names:
        given.append((b"content-type", b"text/plain; charset=utf-8"))
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    first = f"HTTP/1.1 {status} {phrase}".encode()
    return _head([first], [*given, (b"connection", b"close")]) + body


def _head(lines: list[bytes], headers: Headers) -> bytes:
    for name, value in headers:
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
            raise RuntimeError(f"not a header that can be sent: {name!r}: {value!r}")
        lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])
