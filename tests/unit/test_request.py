"""The request that opened a connection: packed as one bytes, parsed when asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws.request import Address, Fields, Request, pack, raw_path


def request(client: Address | None = None, subprotocol: str | None = None, **scope: Any) -> Request:
    """What a handler gets of a scope."""
    return Request(pack({"path": "/", "headers": [], **scope}, client, subprotocol))


def test_everything_of_a_request() -> None:
    """What goes in at the handshake comes out in any handler."""
    seen = request(
        Address("203.0.113.7", 4711),
        "chat.v2",
        path="/chat/a b",
        raw_path=b"/chat/a%20b",
        query_string=b"token=x%20y&token=z&empty=",
        scheme="wss",
        headers=[
            (b"host", b"example.com"),
            (b"sec-websocket-protocol", b"chat.v1, chat.v2"),
            (b"cookie", b"a=1; b=2"),
        ],
    )
    assert seen.path == "/chat/a b"
    assert seen.raw_path == "/chat/a%20b"
    assert seen.query_string == "token=x%20y&token=z&empty="
    assert seen.query["token"] == "z"
    assert seen.query.getlist("token") == ["x y", "z"]
    assert seen.query["empty"] == ""
    assert seen.scheme == "wss"
    assert seen.client == ("203.0.113.7", 4711)
    assert seen.subprotocol == "chat.v2"
    assert seen.subprotocols == ["chat.v1", "chat.v2"]
    assert seen.headers["Host"] == "example.com"
    assert seen.cookies == {"a": "1", "b": "2"}


def test_nothing_of_a_request() -> None:
    """What a server need not give is empty, and no error."""
    seen = request()
    assert (seen.path, seen.raw_path, seen.query_string) == ("/", "/", "")
    assert dict(seen.query) == dict(seen.headers) == seen.cookies == {}
    assert (seen.scheme, seen.client) == ("ws", None)
    assert (seen.subprotocol, seen.subprotocols) == (None, [])


@pytest.mark.parametrize(
    "address", [Address("203.0.113.7", 1), Address("2001:db8::1", 65535), Address("::1", 0)]
)
def test_addresses(address: Address) -> None:
    """IPv6 too, whose colons are no port; port 0 is a proxy's word."""
    assert request(address).client == address


def test_an_escaped_slash_is_seen() -> None:
    """`path` cannot tell it from a separator: `raw_path` can."""
    seen = request(path="/a/b", raw_path=b"/a%2Fb")
    assert (seen.path, seen.raw_path) == ("/a/b", "/a%2Fb")


def test_a_server_without_a_raw_path() -> None:
    """The path is encoded again; a query that stands in the raw path is cut off."""
    assert raw_path({"path": "/a b/ü"}) == "/a%20b/%C3%BC"
    assert raw_path({"path": "/x", "raw_path": b""}) == "/x"
    assert raw_path({"path": "/x", "raw_path": b"/%78?q=1"}) == "/%78"


def test_headers() -> None:
    """Names without regard to case; several of a name joined as RFC 9110 has it, or each."""
    headers = request(
        headers=[(b"X-Tag", b"a"), (b"x-tag", b"b: c"), (b"empty", b""), (b"l", b"\xe9")]
    ).headers
    assert headers["X-TAG"] == "a, b: c"
    assert headers.getlist("X-Tag") == ["a", "b: c"]
    assert headers["empty"] == ""
    assert headers["l"] == "é"
    assert "x-tag" in headers
    assert "x-none" not in headers
    assert headers.get("x-none") is None
    assert headers.getlist("x-none") == []
    assert list(headers) == ["x-tag", "empty", "l"]
    assert len(headers) == 3
    with pytest.raises(KeyError, match="x-none"):
        headers["x-none"]


def test_query_names_keep_their_case() -> None:
    """They are not headers."""
    query = request(query_string=b"A=1&a=2").query
    assert (query["A"], query["a"]) == ("1", "2")
    assert repr(query) == "Fields([('A', '1'), ('a', '2')])"


printable = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=12)


@given(st.lists(st.tuples(st.text("abc-", min_size=1, max_size=4), printable), max_size=6))
def test_any_headers_survive(pairs: list[tuple[str, str]]) -> None:
    """Whatever may stand in header lines comes out as it came, in its order."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in pairs]
    seen = request(headers=headers).headers
    for name in {name for name, _ in pairs}:
        assert seen.getlist(name) == [value for key, value in pairs if key == name]
    assert seen == Fields(pairs, fold=True)


@given(st.binary(max_size=20).filter(lambda query: b"\n" not in query))
def test_any_query(query: bytes) -> None:
    """No query a peer can send is an error."""
    seen = request(query_string=query)
    assert seen.query_string.encode("latin-1") == query
    assert isinstance(dict(seen.query), dict)


@pytest.mark.parametrize(
    ("headers", "cookies"),
    [
        ([b"a=1"], {"a": "1"}),
        ([b"a=1;b=2 ;  c=3"], {"a": "1", "b": "2", "c": "3"}),
        ([b"a=1", b"b=2"], {"a": "1", "b": "2"}),
        ([b'a="x y"'], {"a": "x y"}),
        ([b'a="'], {"a": '"'}),
        ([b"a=b=c"], {"a": "b=c"}),
        ([b"a="], {"a": ""}),
        ([b"a=1; a=2"], {"a": "1"}),
        ([b"junk; =x; a=1; ;"], {"a": "1"}),
    ],
)
def test_cookies(headers: list[bytes], cookies: dict[str, str]) -> None:
    """As browsers send them (RFC 6265): of two of a name the first, the more specific one."""
    assert request(headers=[(b"cookie", header) for header in headers]).cookies == cookies


def test_subprotocols_of_several_headers() -> None:
    """They are one list, in order (RFC 6455, section 4.2.2)."""
    name = b"sec-websocket-protocol"
    assert request(headers=[(name, b"a,b"), (name, b" c ,")]).subprotocols == ["a", "b", "c"]
