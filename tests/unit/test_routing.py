"""Paths: patterns, parameters, percent-encoding, and which endpoint wins."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws import Bolt, ConfigurationError
from boltws.routing import Pattern, Router

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def router(*paths: str) -> Router[str]:
    """Routes whose endpoint is the path they were registered with."""
    return Router((Pattern(path), path) for path in paths)


def match(pattern: str, path: str) -> dict[str, str] | None:
    found = router(pattern).match(path)
    return None if found is None else found[1]


def values(pattern: str, path: str) -> dict[str, Any]:
    """The parameters of a path, converted."""
    params = match(pattern, path)
    assert params is not None
    converters = Pattern(pattern).converters
    return {name: converters[name](value) for name, value in params.items()}


@pytest.mark.parametrize(
    ("pattern", "path", "params"),
    [
        ("/chat", "/chat", {}),
        ("/", "/", {}),
        ("/a/b/", "/a/b/", {}),
        ("/chat/:room", "/chat/blue", {"room": "blue"}),
        ("/chat/{room}", "/chat/blue", {"room": "blue"}),
        ("/chat/{room:str}", "/chat/blue", {"room": "blue"}),
        ("/:a/x/:b", "/1/x/2", {"a": "1", "b": "2"}),
        ("/{a}-{b}", "/x-y", {"a": "x", "b": "y"}),
        ("/v{n:int}.json", "/v12.json", {"n": "12"}),
        ("/f/{rest:path}", "/f/a/b/c", {"rest": "a/b/c"}),
        ("/f/{rest:path}", "/f/", {"rest": ""}),
        ("/{rest:path}", "/", {"rest": ""}),
        ("/:a/{rest:path}", "/x/y/", {"a": "x", "rest": "y/"}),
        ("/a.b", "/a.b", {}),
        ("/grüße", "/gr%C3%BC%C3%9Fe", {}),
        ("/a b", "/a%20b", {}),
        ("/c/:x", "/c/%0A", {"x": "\n"}),
        ("/c/:x", "/c/a+b", {"x": "a+b"}),
    ],
)
def test_a_path_that_fits(pattern: str, path: str, params: dict[str, str]) -> None:
    """Both notations, any place in a segment, what is percent-decoded and what is not."""
    assert match(pattern, path) == params


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/chat", "/chat/"),
        ("/chat/", "/chat"),
        ("/chat", "/Chat"),
        ("/chat", "chat"),
        ("/chat", ""),
        ("/chat", "//chat"),
        ("/chat/:room", "/chat/"),
        ("/chat/:room", "/chat"),
        ("/chat/:room", "/chat/a/b"),
        ("/chat/:room", "/other/a"),
        ("/f/{rest:path}", "/f"),
        ("/a.b", "/axb"),
        ("/{a}.x", "/y-x"),
        ("/v{n:int}", "/v"),
    ],
)
def test_a_path_that_does_not_fit(pattern: str, path: str) -> None:
    """Segments are matched whole; a parameter is never empty; a dot is a dot."""
    assert match(pattern, path) is None


@pytest.mark.parametrize("escape", ["%2F", "%2f"])
def test_an_escaped_slash_is_no_separator(escape: str) -> None:
    """It is part of a parameter, and of no literal path."""
    assert match("/chat/:room", f"/chat/a{escape}b") == {"room": "a/b"}
    assert match("/chat/a/b", f"/chat/a{escape}b") is None
    assert match("/chat/:x/:y", f"/chat/a{escape}b") is None
    assert match("/f/{rest:path}", f"/f/a{escape}b/c") == {"rest": "a/b/c"}


def test_a_path_is_decoded_once() -> None:
    """What decodes to an escape stays one."""
    assert match("/chat/:room", "/chat/%2561%252F") == {"room": "%61%2F"}


@pytest.mark.parametrize("path", ["/chat/%FF", "/chat/%C3", "/chat/%C3%28"])
def test_what_is_not_utf8_fits_nothing(path: str) -> None:
    """A path that does not decode is nobody's, rather than an error or a guess."""
    assert match("/chat/:room", path) is None


@given(text)
def test_a_parameter_survives_the_path(value: str) -> None:
    """Whatever a client percent-encodes into one segment, the handler gets it back."""
    assert match("/chat/:room", "/chat/" + quote(value, safe="")) == {"room": value}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4))
def test_the_rest_survives_the_path(segments: list[str]) -> None:
    """A path parameter takes all segments, each decoded by itself."""
    raw = "/".join(quote(segment, safe="") for segment in segments)
    assert match("/f/{rest:path}", f"/f/{raw}") == {"rest": "/".join(segments)}


@given(
    st.text(st.characters(codec="ascii", exclude_characters="/{}:?#<"), min_size=1).filter(
        lambda literal: unquote(literal) == literal and literal not in ("*", "**")
    ),
    st.data(),
)
def test_needless_escapes_change_nothing(literal: str, data: st.DataObject) -> None:
    """A client may escape any character of a literal path (RFC 3986, section 2.3)."""
    escaped = "".join(
        f"%{ord(c):02x}" if c == "%" or data.draw(st.booleans()) else c for c in literal
    )
    assert match(f"/{literal}", f"/{escaped}") == {}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_no_path_is_an_error(path: str) -> None:
    """Whatever comes as a path: an endpoint or none."""
    routes = router("/", "/a", "/:x", "/{n:int}/{f:float}", "/u/{u:uuid}", "/r/{rest:path}")
    found = routes.match(path)
    assert found is None or isinstance(found[1], dict)


# Which endpoint.


def test_literal_paths_win() -> None:
    """Over parameters, whichever was registered first."""
    routes = router("/chat/:room", "/chat/lobby", "/{rest:path}")
    assert routes.match("/chat/lobby") == ("/chat/lobby", {})
    assert routes.match("/chat/%6Cobby") == ("/chat/lobby", {})
    assert routes.match("/chat/other") == ("/chat/:room", {"room": "other"})
    assert routes.match("/x") == ("/{rest:path}", {"rest": "x"})


def test_then_the_order_of_registration() -> None:
    """The first that fits, though a later one may fit more closely."""
    assert router("/:a/x", "/{n:int}/x").match("/7/x") == ("/:a/x", {"a": "7"})
    assert router("/{n:int}/x", "/:a/x").match("/7/x") == ("/{n:int}/x", {"n": "7"})
    assert router("/{n:int}/x", "/:a/x").match("/y/x") == ("/:a/x", {"a": "y"})


# Converters.


@pytest.mark.parametrize(
    ("pattern", "path", "value"),
    [
        ("/{x:int}", "/007", 7),
        ("/{x:float}", "/1.50", 1.5),
        ("/{x:float}", "/2", 2.0),
        ("/{x:str}", "/2", "2"),
        (
            "/{x:uuid}",
            "/12345678-1234-1234-1234-1234567890AB",
            UUID("12345678-1234-1234-1234-1234567890ab"),
        ),
        ("/{x:path}", "/1/2", "1/2"),
    ],
)
def test_converters(pattern: str, path: str, value: object) -> None:
    """The value that event.params gives, of the type that the pattern names."""
    converted = values(pattern, path)["x"]
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/{x:int}", "/-1"),
        ("/{x:int}", "/1.0"),
        ("/{x:int}", "/1_000"),
        ("/{x:int}", "/%D9%A3"),  # an Arabic digit
        ("/{x:int}", "/1%0A"),
        ("/{x:float}", "/1."),
        ("/{x:float}", "/.5"),
        ("/{x:float}", "/inf"),
        ("/{x:float}", "/1e5"),
        ("/{x:uuid}", "/12345678123412341234123456789012"),
        ("/{x:uuid}", "/12345678-1234-1234-1234-12345678901"),
    ],
)
def test_what_a_converter_refuses(pattern: str, path: str) -> None:
    """A path whose value does not convert fits no endpoint."""
    assert match(pattern, path) is None


def test_what_fits_converts() -> None:
    """A peer cannot make event.params raise: a number too long for int() does not fit, or
    converts."""
    path = "/" + "9" * 5000
    if match("/{x:int}", path) is not None:
        values("/{x:int}", path)


# where().


def test_where_narrows_a_parameter() -> None:
    """The expression is matched as a whole, alternatives included."""
    pattern = Pattern("/chat/:room")
    pattern.where("room", "[a-z]+|lobby1")
    routes = Router([(pattern, "chat")])
    assert routes.match("/chat/blue") == ("chat", {"room": "blue"})
    assert routes.match("/chat/lobby1") == ("chat", {"room": "lobby1"})
    for path in ("/chat/Blue", "/chat/blue1", "/chat/blue%0A", "/chat/lobby12"):
        assert routes.match(path) is None


def test_where_sees_decoded_text() -> None:
    """As does everything else about a parameter."""
    pattern = Pattern("/chat/:room")
    pattern.where("room", "a/b")
    assert Router([(pattern, "chat")]).match("/chat/a%2Fb") == ("chat", {"room": "a/b"})


def test_what_where_refuses() -> None:
    """A parameter that the path lacks, with those that it has; an expression that is none."""
    pattern = Pattern("/chat/:room")
    with pytest.raises(ConfigurationError, match="no parameter 'rom'; it has: room"):
        pattern.where("rom", ".")
    with pytest.raises(ConfigurationError, match="no parameter 'x'; it has: none"):
        Pattern("/chat").where("x", ".")
    with pytest.raises(ConfigurationError, match=r"where\('room', '\('\) is no regular expression"):
        pattern.where("room", "(")
    with pytest.raises(ConfigurationError, match="is no regular expression"):
        pattern.where("room", None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="is no regular expression: cannot use a bytes"):
        pattern.where("room", b"[a-z]+")  # type: ignore[arg-type]


# Patterns that are none.


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("chat", "starts with '/'"),
        ("", "starts with '/'"),
        (None, "starts with '/'"),
        (b"/chat", "starts with '/'"),
        ("/chat?x=1", "query"),
        ("/chat#x", "fragment"),
        ("/chat/*", "{rest:path} as the last segment takes all"),
        ("/{", "brace"),
        ("/}", "brace"),
        ("/{a", "brace"),
        ("/{a}}", "brace"),
        ("/:", "name"),
        ("/{}", "name"),
        ("/{1a}", "name"),
        ("/:a-b", "name"),
        ("/{a b}", "name"),
        ("/:a/:a", "twice"),
        ("/{a}-{a}", "twice"),
        ("/{a}{b}", "text must stand between"),
        ("/x{a}{b:int}y", "text must stand between"),
        ("/{a:number}", "no converter 'number' for 'a'; there are str, int, float, uuid, path"),
        ("/{a:}", "no converter ''"),
        ("/{a:path}/b", "last segment"),
        ("/x{a:path}", "last segment"),
        ("/%C3%BC", "it is compared decoded; write 'ü' for '%C3%BC'"),
        ("/x%20y/{a}", "write 'x y'"),
        ("/<room>", "did you mean {room} by '<room>'?"),
        ("/a/<int:id>/b", "did you mean {id:int} by '<int:id>'?"),
    ],
)
def test_a_pattern_that_is_none(path: Any, what: str) -> None:
    """It raises where it is registered, and says what is wrong with which path."""
    with pytest.raises(ConfigurationError, match=what) as caught:
        Bolt().ws(path)
    assert repr(path) in str(caught.value)


@given(st.text("/:{}ab_1-int", max_size=12))
def test_any_pattern(path: str) -> None:
    """Whatever is registered: a pattern, or a ConfigurationError."""
    try:
        pattern = Pattern("/" + path)
    except ConfigurationError:
        return
    assert pattern.path == "/" + path
    assert pattern.is_literal == (not pattern.converters)


def test_a_percent_sign_that_is_no_escape() -> None:
    """It is a character like another."""
    assert match("/100%", "/100%25") == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/chat", "/chat"),
        ("/chat/:room", "/chat/{room}"),
        ("/chat/{room}", "/chat/{room:str}"),
        ("/:a/{rest:path}", "/{a}/{rest:path}"),
        ("/s/{a}", "/s/:b"),
        ("/{a}-{b}", "/{x}-{y}"),
        ("/v{a:int}.json", "/v{b:int}.json"),
    ],
)
def test_a_path_is_registered_once(one: str, other: str) -> None:
    """The same path in either notation, whatever its parameters are called, is an endpoint that
    could never be reached."""
    bolt = Bolt()
    bolt.ws(one)
    with pytest.raises(ConfigurationError, match=f"twice: {one!r} comes first.* for {other!r}"):
        bolt.ws(other)


@pytest.mark.parametrize(
    ("first", "second", "twice"),
    [
        ("[a-z]+", "[0-9]+", False),
        ("[a-z]+", None, False),
        ("[a-z]+", "[a-z]+", True),
    ],
)
def test_where_tells_paths_apart(first: str, second: str | None, twice: bool) -> None:
    """Unless it is the same for both, as the start sees."""
    bolt = Bolt()
    bolt.ws("/t/{a}").where("a", first)
    other = bolt.ws("/t/{b}")
    if second is not None:
        other.where("b", second)
    if twice:
        with pytest.raises(ConfigurationError, match="registered twice"):
            bolt._runtime.seal()
    else:
        bolt._runtime.seal()


def test_paths_that_differ_in_a_converter() -> None:
    """They are two endpoints."""
    bolt = Bolt()
    bolt.ws("/{id:int}")
    bolt.ws("/{id}")
    bolt._runtime.seal()
    assert len(bolt._runtime.endpoints) == 2
