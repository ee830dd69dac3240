"""The opening handshake: what is asked of the request, and the bytes of the answers."""

from __future__ import annotations

import pytest

from boltws.server.upgrade import BadUpgrade, accept, check_upgrade, denial, subprotocols

Headers = list[tuple[bytes, bytes]]

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # what RFC 6455, section 1.3, says of this key


def request(*more: tuple[bytes, bytes], **changed: bytes | None) -> Headers:
    """The headers of a good handshake. One that is given replaces its like, None leaves it out."""
    fields: dict[str, bytes | None] = {
        "host": b"example.com",
        "upgrade": b"websocket",
        "connection": b"Upgrade",
        "sec_websocket_version": b"13",
        "sec_websocket_key": KEY,
    }
    fields |= changed
    headers = [(k.replace("_", "-").encode(), v) for k, v in fields.items() if v is not None]
    return [*headers, *more]


def refusal(headers: Headers, method: str = "GET", version: str = "1.1") -> BadUpgrade:
    with pytest.raises(BadUpgrade) as caught:
        check_upgrade(method, version, headers)
    return caught.value


def head(answer: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Status line, headers and body of an answer; no header may stand twice."""
    top, body = answer.split(b"\r\n\r\n", 1)
    status, *lines = top.split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert len(headers) == len(lines), lines
    return status, headers, body


def test_a_good_handshake_gives_its_key() -> None:
    """Spaces around a value are no part of it."""
    assert check_upgrade("GET", "1.1", request()) == KEY
    spaced = request(sec_websocket_key=b" \t" + KEY + b" ", sec_websocket_version=b" 13 ")
    assert check_upgrade("GET", "1.1", spaced) == KEY


@pytest.mark.parametrize(
    ("method", "version"), [("POST", "1.1"), ("HEAD", "1.1"), ("get", "1.1"), ("GET", "1.0")]
)
def test_it_is_a_get_of_http_1_1(method: str, version: str) -> None:
    """RFC 6455, section 4.1, point 2: anything else is 400."""
    assert refusal(request(), method, version).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        request(host=None),
        request((b"host", b"example.com")),
        request((b"host", b"elsewhere.example")),
    ],
    ids=["none", "twice the same", "two"],
)
def test_it_has_one_host(headers: Headers) -> None:
    """RFC 9112, section 3.2: none or several are 400, also where they agree."""
    assert refusal(headers).status == 400


@pytest.mark.parametrize(
    "header",
    [
        (b"content-length", b"1"),
        (b"content-length", b"00"),
        (b"content-length", b""),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
    ],
)
def test_it_has_no_body(header: tuple[bytes, bytes]) -> None:
    """What is announced as a body could be taken for frames: 400."""
    assert refusal(request(header)).status == 400


def test_an_empty_body_is_none() -> None:
    """A content-length of 0 says what is so."""
    assert check_upgrade("GET", "1.1", request((b"content-length", b"0"))) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        request(sec_websocket_version=None),
        request(sec_websocket_version=b"8"),
        request(sec_websocket_version=b"013"),
        request(sec_websocket_version=b"13, 8"),
        request((b"sec-websocket-version", b"8")),
    ],
)
def test_another_version_is_426_and_told_ours(headers: Headers) -> None:
    """RFC 6455, section 4.4."""
    bad = refusal(headers)
    assert bad.status == 426
    assert list(bad.headers) == [(b"sec-websocket-version", b"13")]


@pytest.mark.parametrize(
    "headers",
    [
        request(sec_websocket_key=None),
        request(sec_websocket_key=b""),
        request(sec_websocket_key=b"not base64 at all"),
        request(sec_websocket_key=b"dGhlIHNhbXBsZSBub25jZQ"),
        request(sec_websocket_key=b"c2hvcnQ="),
        request(sec_websocket_key=b"c2l4dGVlbiBieXRlcyBhbmQgb25l"),
        request(sec_websocket_key=b"dGhlIHNhbXBsZSBub25jZQ==\xff"),
        request((b"sec-websocket-key", KEY)),
    ],
    ids=["none", "empty", "not base64", "no padding", "short", "long", "not ASCII", "two"],
)
def test_it_has_one_key_of_16_bytes(headers: Headers) -> None:
    """RFC 6455, section 4.1, point 7: anything else is 400."""
    assert refusal(headers).status == 400


# Subprotocols.


@pytest.mark.parametrize(
    ("values", "offered"),
    [
        ([], []),
        ([b"chat"], ["chat"]),
        ([b"chat, superchat,v2"], ["chat", "superchat", "v2"]),
        ([b"chat", b"v2, v1"], ["chat", "v2", "v1"]),
        ([b" , chat ,, "], ["chat"]),
        ([b"\xff"], ["ÿ"]),
    ],
)
def test_subprotocols_are_read_in_order(values: list[bytes], offered: list[str]) -> None:
    """From one header or several; empty places are none."""
    headers = request(*((b"sec-websocket-protocol", value) for value in values))
    assert subprotocols(headers) == offered


# Answers.


def test_the_key_is_answered_as_the_rfc_says() -> None:
    """The 101 carries the accept of the RFC's own example, and nothing that is not needed."""
    status, headers, rest = head(accept(KEY, None, []))
    assert status == b"HTTP/1.1 101 Switching Protocols"
    assert headers == {
        b"upgrade": b"websocket",
        b"connection": b"Upgrade",
        b"sec-websocket-accept": ACCEPT,
    }
    assert rest == b""


def test_a_101_carries_subprotocol_and_headers() -> None:
    """The subprotocol that was agreed on, and the headers given, cookies in their number."""
    answer = accept(KEY, "chat", [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
    assert b"\r\nsec-websocket-protocol: chat\r\n" in answer
    assert answer.endswith(b"\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n")


def test_a_denial_tells_its_length_and_closes() -> None:
    """An answer that refuses is complete in itself: a client need not wait for the close."""
    status, headers, body = head(denial(403, [(b"x-why", b"so")], "né".encode()))
    assert status == b"HTTP/1.1 403 Forbidden"
    assert headers == {
        b"x-why": b"so",
        b"content-length": b"3",
        b"content-type": b"text/plain; charset=utf-8",
        b"connection": b"close",
    }
    assert body == "né".encode()


def test_a_denial_without_a_body_says_so() -> None:
    """Length 0, and no type of nothing."""
    _, headers, body = head(denial(404, [], b""))
    assert headers == {b"content-length": b"0", b"connection": b"close"}
    assert body == b""


def test_a_denial_keeps_what_the_app_says_of_its_body() -> None:
    """Type and length given are taken; what is said of the connection is not: it closes."""
    given = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"2"),
        (b"Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"chunked"),
    ]
    _, headers, body = head(denial(429, given, b"{}"))
    assert headers == {
        b"content-type": b"application/json",
        b"content-length": b"2",
        b"connection": b"close",
    }
    assert body == b"{}"


def test_a_status_without_a_name_has_none() -> None:
    """Its line still has the space that RFC 9112, section 4, asks for."""
    assert denial(599, [], b"").startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize(
    "header",
    [
        (b"x\r\ny", b"1"),
        (b"x:", b"1"),
        (b"x y", b"1"),
        (b"", b"1"),
        (b"x", b"1\r\nset-cookie: stolen=1"),
        (b"x", b"1\n"),
        (b"x", b"\0"),
        (b"x", b"\x7f"),
        ("é".encode(), b"1"),
    ],
)
def test_a_header_cannot_break_the_answer(header: tuple[bytes, bytes]) -> None:
    """What would be another line, or no header, is an error of the app and goes nowhere."""
    with pytest.raises(RuntimeError, match="header"):
        accept(KEY, None, [header])
    with pytest.raises(RuntimeError, match="header"):
        denial(403, [header], b"")


@pytest.mark.parametrize("subprotocol", ["a\r\nset-cookie: stolen=1", "a\n"])
def test_a_subprotocol_cannot_either(subprotocol: str) -> None:
    """The same for the subprotocol, which an app may have taken from the request."""
    with pytest.raises(RuntimeError, match="header"):
        accept(KEY, subprotocol, [])


def test_a_header_may_hold_what_rfc_9110_allows() -> None:
    """Tabs, spaces and bytes above ASCII pass, and any token as a name."""
    answer = accept(KEY, None, [(b"x-!#$%&'*+.^_`|~9", b"a\tb c\xff")])
    assert b"\r\nx-!#$%&'*+.^_`|~9: a\tb c\xff\r\n" in answer
