"""Who may connect: Origin, Host, and the proxies that are believed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws.options import Options, make_options
from boltws.origin import Peer, is_loopback


def peer(
    origin: str | None = None,
    host: str = "example.com",
    *,
    scheme: str = "ws",
    client: str | None = "127.0.0.1",
    loopback: bool | None = False,
    proxies: list[str] | None = None,
    server: tuple[str, int] | None = None,
    **headers: str | list[str],
) -> Peer:
    """The peer of a handshake with these headers; `x_forwarded_for` and the like by keyword."""
    lines = [(b"host", host.encode("latin-1"))]
    if origin is not None:
        lines.append((b"origin", origin.encode("latin-1")))
    for name, values in headers.items():
        for value in [values] if isinstance(values, str) else values:
            lines.append((name.replace("_", "-").encode(), value.encode("latin-1")))
    scope: dict[str, Any] = {"scheme": scheme, "headers": lines, "server": server}
    scope["client"] = (client, 4711) if client else None
    return Peer(scope, make_options({"trusted_proxies": proxies or []}).trusted_proxies, loopback)


def cause(peer: Peer, origins: Any = None) -> str | None:
    """Why the peer is refused."""
    refusal = peer.refusal(make_options({"origins": origins}))
    return None if refusal is None else refusal[0]


# Origin.


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        (None, "example.com", "ws"),  # no browser
        ("http://example.com", "example.com", "ws"),
        ("http://EXAMPLE.com", "example.COM", "ws"),
        ("http://example.com:80", "example.com", "ws"),
        ("http://example.com", "example.com:80", "ws"),
        ("http://example.com:8080", "example.com:8080", "ws"),
        ("https://example.com", "example.com", "wss"),
        ("https://example.com:443", "example.com", "wss"),
        ("https://example.com", "example.com:443", "wss"),
        ("https://example.com", "example.com", "ws"),  # TLS ended at a proxy
        ("http://[2001:db8::1]:3000", "[2001:db8::1]:3000", "ws"),
    ],
)
def test_the_same_host(origin: str | None, host: str, scheme: str) -> None:
    """A page may talk to where it came from, and who is no browser sends no origin."""
    assert cause(peer(origin, host, scheme=scheme)) is None


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("http://evil.example", "example.com", "ws"),
        ("http://example.com.evil.example", "example.com", "ws"),
        ("http://evil.example/example.com", "example.com", "ws"),
        ("http://example.com@evil.example", "example.com", "ws"),
        ("http://sub.example.com", "example.com", "ws"),
        ("http://example.com:8080", "example.com", "ws"),
        ("http://example.com", "example.com:8080", "ws"),
        ("https://example.com", "example.com:8080", "ws"),
        ("http://example.com", "example.com", "wss"),
        ("https://example.com:8443", "example.com", "wss"),
        ("null", "example.com", "ws"),
        ("", "example.com", "ws"),
        ("example.com", "example.com", "ws"),
        ("file://", "example.com", "ws"),
        ("chrome-extension://example.com", "example.com", "ws"),
        ("http://example.com:99999", "example.com:99999", "ws"),
        ("http://[", "example.com", "ws"),
        ("http://example.com", "[", "ws"),
        ("http://", "", "ws"),
    ],
)
def test_another_host(origin: str, host: str, scheme: str) -> None:
    """Another host, port or scheme, and whatever is no origin of a page."""
    assert cause(peer(origin, host, scheme=scheme)) == "origin"


@pytest.mark.parametrize(
    ("origin", "origins", "refused"),
    [
        ("https://a.example", ["https://a.example"], None),
        ("HTTPS://A.example", ["https://a.EXAMPLE"], None),
        ("https://a.example", ["https://a.example:443"], None),
        ("https://a.example:443", ["https://a.example:443"], None),
        ("http://a.example", ["http://a.example:80"], None),
        ("http://a.example", ["http://a.example:443"], "origin"),
        ("https://a.example", "*", None),
        ("null", ["null"], None),
        ("null", "*", None),
        ("http://a.example", ["https://a.example"], "origin"),
        ("https://a.example:8443", ["https://a.example"], "origin"),
        ("https://a.example", [], "origin"),
        ("http://example.com", ["https://a.example"], None),  # its own host all the same
        (None, [], None),
    ],
)
def test_origins(origin: str | None, origins: Any, refused: str | None) -> None:
    """What is listed may connect beside the request's own host."""
    assert cause(peer(origin), origins) == refused


def test_the_line_that_would_allow_it() -> None:
    """The log says what to write, for whoever refused a page of theirs by mistake."""
    refusal = peer("https://a.example").refusal(Options())
    assert refusal is not None
    assert "Bolt(origins=['https://a.example'])" in refusal[1]
    assert "'example.com'" in refusal[1]


def test_the_list_that_it_would_be_added_to() -> None:
    """Where there is one, which may be the endpoint's own, another on the Bolt helps nobody."""
    refusal = peer("https://a.example").refusal(make_options({"origins": ["https://b.example"]}))
    assert refusal is not None
    assert "add 'https://a.example' to the list that counts here: bolt.ws(..., " in refusal[1]


def test_nobody_is_told_to_allow_null() -> None:
    """Every page in a sandboxed frame has that origin, an attacker's too."""
    refusal = peer("null").refusal(Options())
    assert refusal is not None
    assert "origins" not in refusal[1]
    assert "serve it over HTTP" in refusal[1]


@given(st.text(max_size=20), st.text(max_size=20), st.booleans())
def test_whatever_a_peer_sends(origin: str, host: str, loopback: bool) -> None:
    """No Origin or Host is an error of the server."""
    seen = peer(None, "", loopback=loopback)
    seen.origin, seen.host = origin, host
    assert seen.refusal(Options()) is None or len(cause(seen) or "") > 0


# Host, on loopback.


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:3000", "127.0.0.1:3000", "127.8.8.8", "[::1]:3000", "app.localhost"],
)
def test_a_loopback_name(host: str) -> None:
    """The names by which this machine knows itself."""
    assert cause(peer(None, host, loopback=True)) is None
    assert cause(peer(f"http://{host}", host, loopback=True)) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:3000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "",
        "[",
        "localhost@evil.example",
        "xlocalhost",
    ],
)
def test_dns_rebinding(host: str) -> None:
    """A name that a page's owner points at 127.0.0.1 has the page's origin, and is refused."""
    assert cause(peer(f"http://{host}", host, loopback=True)) == "host"
    assert cause(peer(None, host, loopback=True)) == "host"
    assert cause(peer(f"http://{host}", host, loopback=True), "*") is None


def test_a_listed_origin_on_loopback() -> None:
    """Who lists an origin knows it: a page elsewhere may use a server of this machine."""
    allowed = ["https://a.example"]
    assert cause(peer("https://a.example", "a.example", loopback=True), allowed) is None
    assert cause(peer("https://b.example", "a.example", loopback=True), allowed) == "host"


def test_not_on_loopback() -> None:
    """Any Host is right where the server has a name in the network."""
    assert cause(peer(None, "whatever.example", loopback=False)) is None


@pytest.mark.parametrize(
    ("server", "refused"),
    [(("127.0.0.1", 80), "host"), (("::1", 80), "host"), (("10.0.0.1", 80), None), (None, None)],
)
def test_on_another_server(server: tuple[str, int] | None, refused: str | None) -> None:
    """There the address that was connected to says whether this is loopback."""
    assert cause(peer(None, "evil.example", loopback=None, server=server)) == refused


@pytest.mark.parametrize(
    ("client", "refused"), [("127.0.0.1", "host"), (None, "host"), ("203.0.113.7", None)]
)
def test_a_server_that_believes_a_proxy(client: str | None, refused: str | None) -> None:
    """Nobody comes to loopback from elsewhere, so the address is what a proxy told the server: no
    page of a browser on this machine is behind it."""
    came = peer(
        "https://example.com", scheme="wss", client=client, loopback=None, server=("127.0.0.1", 80)
    )
    assert cause(came) == refused


def test_the_line_that_would_believe_a_proxy() -> None:
    """A proxy on this machine passes on a name that is not loopback: the log says what to do."""
    refusal = peer(None, "example.com", client="127.0.0.1", loopback=True).refusal(Options())
    assert refusal is not None
    assert "Bolt(trusted_proxies=['127.0.0.1'])" in refusal[1]
    behind = peer(None, "example.com", client="127.0.0.1", loopback=True, proxies=["127.0.0.1"])
    assert cause(behind) is None
    evil = peer("http://evil.example", client="127.0.0.1", loopback=True, proxies=["127.0.0.1"])
    assert cause(evil) == "origin"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("example.com", False),
        ("notlocalhost", False),
    ],
)
def test_is_loopback(host: str, loopback: bool) -> None:
    """What the server is bound to; every interface is not loopback."""
    assert is_loopback(host) == loopback


# Proxies.


@pytest.mark.parametrize(
    ("client", "proxies", "forwarded", "address"),
    [
        ("10.0.0.1", ["10.0.0.0/8"], "198.51.100.4", "198.51.100.4"),
        ("10.0.0.1", ["10.0.0.0/8"], "6.6.6.6, 198.51.100.4", "198.51.100.4"),
        ("10.0.0.1", ["10.0.0.0/8"], "198.51.100.4, 10.2.3.4", "198.51.100.4"),
        ("10.0.0.1", ["10.0.0.0/8"], ["6.6.6.6", "198.51.100.4"], "198.51.100.4"),
        ("10.0.0.1", ["10.0.0.0/8"], "10.9.9.9", "10.9.9.9"),
        ("10.0.0.1", ["10.0.0.0/8"], "[2001:db8::1]", "2001:db8::1"),
        ("10.0.0.1", ["10.0.0.0/8"], "6.6.6.6, unknown", "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.0/8"], "6.6.6.6, unknown, 10.2.3.4", "10.2.3.4"),
        ("10.0.0.1", ["10.0.0.0/8"], "", "10.0.0.1"),
        ("203.0.113.7", ["10.0.0.0/8"], "198.51.100.4", "203.0.113.7"),
        ("10.0.0.1", [], "198.51.100.4", "10.0.0.1"),
        ("::1", ["::1"], "198.51.100.4", "198.51.100.4"),
    ],
)
def test_whose_address_counts(
    client: str, proxies: list[str], forwarded: Any, address: str
) -> None:
    """The last hop that no trusted proxy is: what stands before it, anyone can write."""
    seen = peer(client=client, proxies=proxies, x_forwarded_for=forwarded)
    assert seen.address is not None
    assert seen.address.host == address
    assert seen.address.port == (4711 if address == client else 0)


@pytest.mark.parametrize(
    ("client", "proto", "scheme"),
    [
        ("10.0.0.1", "https", "wss"),
        ("10.0.0.1", "wss", "wss"),
        ("10.0.0.1", "http", "ws"),
        ("10.0.0.1", "HTTPS, http", "wss"),
        ("10.0.0.1", "gopher", "ws"),
        ("203.0.113.7", "https", "ws"),
    ],
)
def test_whose_scheme_counts(client: str, proto: str, scheme: str) -> None:
    """A trusted proxy's, and no one else's."""
    assert peer(client=client, proxies=["10.0.0.1"], x_forwarded_proto=proto).scheme == scheme


def test_a_proxy_that_speaks_tls() -> None:
    """With its word on the scheme, an http page is another origin than the https one."""
    proxy: dict[str, Any] = {"client": "10.0.0.1", "proxies": ["10.0.0.1"]}
    proxy["x_forwarded_proto"] = "https"
    assert cause(peer("https://example.com", **proxy)) is None
    assert cause(peer("http://example.com", **proxy)) == "origin"


def test_a_unix_socket() -> None:
    """There is no address, and that is no error."""
    assert peer(client=None).address is None
    assert cause(peer("http://example.com", client=None)) is None
