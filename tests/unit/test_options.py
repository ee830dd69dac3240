"""The options: names, defaults, and what fits."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws import Bolt, ConfigurationError
from boltws.backplane.nats import NatsBackplane
from boltws.options import (
    SERVER_OPTIONS,
    EndpointOptions,
    Options,
    make_options,
    override_options,
)

NAMES = sorted(field.name for field in fields(Options))
ENDPOINT = set(EndpointOptions.__annotations__)

DEFAULTS = {
    "origins": None,
    "channel_capacity": 256,
    "channel_bytes": 4 * 1024 * 1024,
    "overflow": "drop",
    "send_buffer_limit": 1024 * 1024,
    "slow_consumer": "close",
    "max_message_size": 1024 * 1024,
    "message_timeout": 60,
    "max_fragments": 4096,
    "compression": False,
    "rate_limit": None,
    "rate_policy": "pause",
    "handler_timeout": None,
    "error_policy": "keep",
    "blocking": False,
    "subprotocols": (),
    "blocking_threads": 40,
    "max_connections": None,
    "max_connections_per_address": None,
    "handshake_timeout": 10,
    "max_header_size": 16 * 1024,
    "ping_interval": 20,
    "ping_timeout": 20,
    "close_timeout": 5,
    "shutdown_timeout": 10,
    "shutdown_spread": 0,
    "trusted_proxies": (),
    "attach": True,
    "backplane": None,
    "prefix": "boltws",
    "health": False,
}

# What is given, and what becomes of it.
GOOD: list[tuple[str, Any, Any]] = [
    ("origins", "*", "*"),
    ("origins", None, None),
    ("origins", [], ()),
    ("origins", "https://Example.com", ("https://example.com",)),
    ("origins", {"http://a:8080": 1}, ("http://a:8080",)),
    ("origins", ["https://a:443", "http://b:80"], ("https://a", "http://b")),
    ("origins", ["http://a:443", "https://[::1]:80"], ("http://a:443", "https://[::1]:80")),
    ("origins", ["null", "https://[::1]:3000"], ("null", "https://[::1]:3000")),
    ("channel_capacity", 1, 1),
    ("channel_bytes", 1, 1),
    ("overflow", "drop_oldest", "drop_oldest"),
    ("slow_consumer", "drop", "drop"),
    ("message_timeout", None, None),
    ("message_timeout", 1, 1.0),
    ("rate_limit", (10, 1), (10, 1.0)),
    ("rate_limit", [1, 0.5], (1, 0.5)),
    ("rate_limit", None, None),
    ("rate_policy", "close", "close"),
    ("handler_timeout", 0.001, 0.001),
    ("blocking", True, True),
    ("subprotocols", ["chat", "v1.json"], ("chat", "v1.json")),
    ("max_connections", 1, 1),
    ("max_connections", None, None),
    ("ping_interval", None, None),
    ("ping_timeout", None, None),
    ("shutdown_spread", 0, 0.0),
    (
        "trusted_proxies",
        ["10.0.0.0/8", "::1"],
        (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")),
    ),
    ("attach", False, False),
    ("backplane", "nats://127.0.0.1", "nats://127.0.0.1"),
    ("backplane", None, None),
    ("prefix", "shop.live_2", "shop.live_2"),
    ("health", True, True),
]

# What is given, and a piece of what the error says fits.
BAD: list[tuple[str, Any, str]] = [
    ("origins", "example.com", "https://example.com"),
    ("origins", "https://example.com/", "https://example.com"),
    ("origins", ["*"], "https://example.com"),
    ("origins", ["https://*.example.com"], 'without a "*" in it'),
    ("origins", "http://localhost:*", 'without a "*" in it'),
    ("origins", [1], "https://example.com"),
    ("origins", [None], "https://example.com"),
    ("origins", 5, "https://example.com"),
    ("channel_capacity", 0, "1 or more"),
    ("channel_capacity", -1, "1 or more"),
    ("channel_capacity", True, "whole number"),
    ("channel_capacity", 2.0, "whole number"),
    ("channel_capacity", "256", "whole number"),
    ("channel_capacity", None, "whole number"),
    ("channel_bytes", 0, "1 or more"),
    ("overflow", "drop-oldest", "'drop_oldest'"),
    ("overflow", ["drop"], "'drop_oldest'"),
    ("send_buffer_limit", 0, "1 or more"),
    ("slow_consumer", "pause", "'drop'"),
    ("max_message_size", 0, "1 or more"),
    ("message_timeout", 0, "above 0"),
    ("message_timeout", float("inf"), "None"),
    ("message_timeout", float("nan"), "None"),
    ("message_timeout", 10**400, "None"),
    ("message_timeout", True, "seconds"),
    ("max_fragments", 0, "1 or more"),
    ("compression", "deflate", "True"),
    ("rate_limit", 10, "(messages, seconds)"),
    ("rate_limit", (0, 1), "(messages, seconds)"),
    ("rate_limit", (1, 0), "(messages, seconds)"),
    ("rate_limit", (1.5, 1), "(messages, seconds)"),
    ("rate_limit", (1, 1, 1), "(messages, seconds)"),
    ("rate_limit", (1, 10**400), "(messages, seconds)"),
    ("rate_policy", "drop_oldest", "'pause'"),
    ("handler_timeout", -1, "above 0"),
    ("error_policy", "ignore", "'keep'"),
    ("blocking", 1, "True"),
    ("blocking", "yes", "True"),
    ("subprotocols", "chat", "list of tokens"),
    ("subprotocols", ["a b"], "list of tokens"),
    ("subprotocols", ["chat", ""], "list of tokens"),
    ("subprotocols", ["é"], "list of tokens"),
    ("subprotocols", [1], "list of tokens"),
    ("subprotocols", [b"chat"], "list of tokens"),
    ("subprotocols", 5, "list of tokens"),
    ("blocking_threads", 0, "1 or more"),
    ("max_connections", 0, "None"),
    ("max_connections_per_address", 0, "None"),
    ("handshake_timeout", None, "above 0"),
    ("max_header_size", 255, "256 or more"),
    ("ping_interval", 0, "None"),
    ("ping_timeout", 0, "None"),
    ("close_timeout", 0, "above 0"),
    ("shutdown_timeout", 0, "above 0"),
    ("shutdown_spread", -0.1, "0 or more"),
    ("trusted_proxies", "10.0.0.0/8", '"10.0.0.0/8"'),
    ("trusted_proxies", ["10.0.0.1/8"], '"10.0.0.0/8"'),
    ("trusted_proxies", ["proxy"], '"10.0.0.0/8"'),
    ("trusted_proxies", 5, '"10.0.0.0/8"'),
    ("attach", None, "True"),
    ("backplane", "", "nats://"),
    ("backplane", 4222, "nats://"),
    ("prefix", "", "letters"),
    ("prefix", "a.", "letters"),
    ("prefix", "a.x", "letters"),
    ("prefix", "a.*", "letters"),
    ("prefix", None, "letters"),
    ("health", 1, "True"),
]


def shorten(name: str, value: Any, _: Any) -> str:
    return f"{name}={value!r}"[:60]


def test_the_defaults() -> None:
    """Those of the documentation, and no option beyond them."""
    options = Options()
    assert {name: getattr(options, name) for name in NAMES} == DEFAULTS


def test_which_options_one_endpoint_takes() -> None:
    """All up to `subprotocols`, in the order of the documentation."""
    names = list(DEFAULTS)
    assert set(names[: names.index("subprotocols") + 1]) == ENDPOINT


def test_server_options_exist() -> None:
    """Each name that a foreign server leaves unenforced is an option's."""
    assert set(NAMES) > SERVER_OPTIONS


@pytest.mark.parametrize(("name", "value", "kept"), GOOD, ids=[shorten(*case) for case in GOOD])
def test_what_fits(name: str, value: Any, kept: Any) -> None:
    """A value that fits is kept, iterables as tuples and seconds as floats."""
    assert getattr(make_options({name: value}), name) == kept


@pytest.mark.parametrize(("name", "value", "fits"), BAD, ids=[shorten(*case) for case in BAD])
def test_what_does_not_fit(name: str, value: Any, fits: str) -> None:
    """The error names the option, what was given, and what fits."""
    with pytest.raises(ConfigurationError) as caught:
        make_options({name: value})
    message = str(caught.value)
    assert f"Bolt(...): {name} must be " in message
    assert fits in message
    assert message.endswith(f", not {value!r}")


def test_an_iterable_is_read_once() -> None:
    """What a generator gives is kept, and checked, as a list's would be."""
    assert make_options({"origins": iter(["https://a"])}).origins == ("https://a",)
    assert make_options({"subprotocols": iter(["chat"])}).subprotocols == ("chat",)
    with pytest.raises(ConfigurationError, match="subprotocols must be a list of tokens"):
        make_options({"subprotocols": iter(["a b"])})


values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.sampled_from(["*", "drop", "pause", "close", "keep", "https://a.b", "10.0.0.0/8"])
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=2)
        | st.builds(iter, st.lists(inner, max_size=2))
    ),
    max_leaves=4,
)


@given(st.sampled_from(NAMES), values)
def test_any_value(name: str, value: Any) -> None:
    """Whatever is given: Options, or a ConfigurationError that names the option. What was taken
    is taken again, so that nothing is half converted."""
    try:
        options = make_options({name: value})
    except ConfigurationError as error:
        assert f"{name} must be " in str(error)
    else:
        kept = getattr(options, name)
        assert getattr(make_options({name: kept}), name) == kept


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("chanel_capacity", "did you mean 'channel_capacity'?"),
        ("overflow_policy", "did you mean"),
        ("xyzzy", "it takes attach, backplane, "),
        ("cors_allowed_origins", "did you mean 'origins'?"),
        ("cors", "did you mean 'origins'?"),
        ("max_size", "did you mean 'max_message_size'?"),
        ("max_clients", "did you mean 'max_connections'?"),
        ("path", "it takes attach, backplane, "),
        ("port", "it belongs to bolt.run(port=...) and `boltws run --port`"),
        ("log_level", "it belongs to bolt.run(log_level=...) and `boltws run --log-level`"),
        ("access_log", "it belongs to bolt.run(access_log=...) and `boltws run --no-access-log`"),
        ("reload", "it belongs to `boltws run --reload`"),
        ("on_error", "it is a decorator, @bolt.on_error"),
        ("before", "it is a method, bolt.ws(...).before(...)"),
        ("message", "the callback is on_message"),
    ],
)
def test_an_unknown_option(given: str, hint: str) -> None:
    """The error names it and the one that was meant, or else all that there are."""
    with pytest.raises(ConfigurationError, match=f"no option '{given}'") as caught:
        make_options({given: 1})
    assert hint in str(caught.value)


def test_an_endpoint_keeps_what_it_does_not_change() -> None:
    """An endpoint has its Bolt's options, but for those given to it; the Bolt's stay."""
    base = make_options({"channel_capacity": 7, "overflow": "close", "ping_interval": 3})
    changed = override_options(base, {"channel_capacity": 9})
    assert (changed.channel_capacity, changed.overflow, changed.ping_interval) == (9, "close", 3.0)
    assert base.channel_capacity == 7


@pytest.mark.parametrize("name", sorted(set(NAMES) - ENDPOINT))
def test_an_option_of_all_endpoints(name: str) -> None:
    """Given to one endpoint it is refused, with where it belongs."""
    with pytest.raises(ConfigurationError, match="it is set for all endpoints, on Bolt"):
        override_options(Options(), {name: DEFAULTS[name]})


def test_an_endpoints_wrong_option_says_where() -> None:
    """The error tells `bolt.ws` from `Bolt`, and one endpoint from the others."""
    with pytest.raises(ConfigurationError, match=r"bolt.ws\('/p', ...\): overflow must be one of"):
        Bolt().ws("/p", overflow="never")  # type: ignore[arg-type]


def test_options_are_frozen() -> None:
    """What was checked cannot be changed behind the check."""
    with pytest.raises(FrozenInstanceError):
        Options().channel_capacity = 0  # type: ignore[misc]


class App:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize("http", [1, "app", object(), lambda environ, start_response: [], App])
def test_http_must_be_an_app(http: Any) -> None:
    """`http` is no option of the flow, but it is checked like one."""
    with pytest.raises(ConfigurationError, match="http must be an ASGI app"):
        Bolt(http=http)
    Bolt(http=App())


def test_where_a_wrong_url_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the option, or from the environment."""
    monkeypatch.setenv("BOLTWS_BACKPLANE", "rubbish")
    with pytest.raises(ConfigurationError, match="^BOLTWS_BACKPLANE: "):
        Bolt()
    with pytest.raises(ConfigurationError, match=r"^Bolt\(backplane=...\): "):
        Bolt(backplane="rubbish")


def test_a_prefix_beside_a_backplane_that_has_its_own() -> None:
    """It would be ignored."""
    backplane = NatsBackplane("nats://127.0.0.1", prefix="shop")
    with pytest.raises(ConfigurationError, match=r"NatsBackplane\(url, prefix=...\)"):
        Bolt(backplane=backplane, prefix="shop")
    assert Bolt(backplane=backplane)._hub.remote is backplane


def make(**options: Any) -> Callable[[], Bolt]:
    return lambda: Bolt(**options)


@pytest.mark.parametrize("build", [make(overflow="?"), make(nope=1)])
def test_construction_raises(build: Callable[[], Bolt]) -> None:
    """Not the start, not the first client: the line that is wrong raises."""
    with pytest.raises(ConfigurationError):
        build()
