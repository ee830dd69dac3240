"""The options: their names, defaults and what fits. Checked once, at construction."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypedDict

from .errors import ConfigurationError
from .remote import Backplane

Overflow = Literal["drop", "drop_oldest", "pause", "close"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class EndpointOptions(TypedDict, total=False):
    """The options that ``bolt.ws`` takes for one endpoint. See :class:`Options`."""

    origins: Iterable[str] | str | None
    channel_capacity: int
    channel_bytes: int
    overflow: Overflow
    send_buffer_limit: int
    slow_consumer: Literal["close", "drop"]
    max_message_size: int
    message_timeout: float | None
    max_fragments: int
    compression: bool
    rate_limit: tuple[int, float] | None
    rate_policy: Literal["pause", "drop", "close"]
    handler_timeout: float | None
    error_policy: Literal["keep", "close"]
    blocking: bool
    subprotocols: Iterable[str]


class BoltOptions(EndpointOptions, total=False):
    """The options that ``Bolt`` takes, for all endpoints. See :class:`Options`."""

    blocking_threads: int
    max_connections: int | None
    max_connections_per_address: int | None
    handshake_timeout: float
    max_header_size: int
    ping_interval: float | None
    ping_timeout: float | None
    close_timeout: float
    shutdown_timeout: float
    shutdown_spread: float
    trusted_proxies: Iterable[str]
    attach: bool
    backplane: str | Backplane | None
    prefix: str
    health: bool


@dataclass(frozen=True, slots=True)
class Options:
    """Every option with its default. Sizes are in bytes, times in seconds."""

    origins: tuple[str, ...] | Literal["*"] | None = None
    channel_capacity: int = 256
    channel_bytes: int = 4 * 2**20
    overflow: Overflow = "drop"
    send_buffer_limit: int = 2**20
    slow_consumer: Literal["close", "drop"] = "close"
    max_message_size: int = 2**20
    message_timeout: float | None = 60.0
    max_fragments: int = 4096
    compression: bool = False
    rate_limit: tuple[int, float] | None = None
    rate_policy: Literal["pause", "drop", "close"] = "pause"
    handler_timeout: float | None = None
    error_policy: Literal["keep", "close"] = "keep"
    blocking: bool = False
    subprotocols: tuple[str, ...] = ()

    blocking_threads: int = 40
    max_connections: int | None = None
    max_connections_per_address: int | None = None
    handshake_timeout: float = 10.0
    max_header_size: int = 16 * 2**10
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    close_timeout: float = 5.0
    shutdown_timeout: float = 10.0
    shutdown_spread: float = 0.0
    trusted_proxies: tuple[Network, ...] = ()
    attach: bool = True
    backplane: str | Backplane | None = None
    prefix: str = "boltws"
    health: bool = False


# Our own protocol enforces these; on another server they are that server's business.
SERVER_OPTIONS = frozenset(
    "message_timeout max_fragments compression max_connections max_connections_per_address "
    "handshake_timeout max_header_size ping_interval ping_timeout close_timeout "
    "trusted_proxies".split()
)

_Check = Callable[[Any], Any]

# What other libraries call an option of ours.
_ELSEWHERE = {
    "allow_origins": "origins",
    "allowed_origins": "origins",
    "cors": "origins",
    "cors_allowed_origins": "origins",
    "max_clients": "max_connections",
    "max_size": "max_message_size",
}
# What is no option, and where it belongs.
_NO_OPTIONS = {
    **{
        name: f"it belongs to bolt.run({name}=...) and `boltws run --{name.replace('_', '-')}`"
        for name in ("host", "port", "uds", "ssl_certfile", "ssl_keyfile", "log_level")
    },
    "access_log": "it belongs to bolt.run(access_log=...) and `boltws run --no-access-log`",
    **{name: f"it belongs to `boltws run --{name}`" for name in ("reload", "workers")},
    "on_error": "it is a decorator, @bolt.on_error",
    "before": "it is a method, bolt.ws(...).before(...)",
    "after": "it is a method, bolt.ws(...).after(...)",
    "connect": "the callback is on_connect",
    "message": "the callback is on_message",
    "disconnect": "the callback is on_disconnect",
}

_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST = 10.0**9  # seconds; some thirty years, and all clocks can add it


def make_options(given: Mapping[str, Any]) -> Options:
    """The options of a Bolt. Raises :class:`ConfigurationError` naming the option and what fits."""
    return _merge(Options(), given, frozenset(_CHECKS), "Bolt(...)")


def override_options(
    base: Options, given: Mapping[str, Any], where: str = "bolt.ws(...)"
) -> Options:
    """The options of one endpoint: those of its Bolt, but for what is `given`, as errors say
    `where`."""
    return _merge(base, given, frozenset(EndpointOptions.__annotations__), where)


def _merge(base: Options, given: Mapping[str, Any], known: frozenset[str], where: str) -> Options:
    changes = {}
    for name, value in given.items():
        if name not in known:
            close = difflib.get_close_matches(name, known, 1, cutoff=0.7)
            if name in _ELSEWHERE:
                close = [_ELSEWHERE[name]]
            hint = f"; did you mean {close[0]!r}?" if close else f"; it takes {_listed(known)}"
            if name in _CHECKS:
                hint = "; it is set for all endpoints, on Bolt(...)"
            elif name in _NO_OPTIONS:
                hint = f"; {_NO_OPTIONS[name]}"
            raise ConfigurationError(f"{where} has no option {name!r}{hint}")
        try:
            changes[name] = _CHECKS[name](value)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{where}: {name} must be {error}, not {value!r}") from None
    return replace(base, **changes)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _whole(least: int, optional: bool = False) -> _Check:
    def check(value: Any) -> Any:
        if optional and value is None:
            return None
        if type(value) is not int or value < least:
            raise ValueError(f"a whole number, {least} or more" + ", or None" * optional)
        return value

    return check


def _seconds(optional: bool = False, zero: bool = False) -> _Check:
    def check(value: Any) -> Any:
        if optional and value is None:
            return None
        good = type(value) in (int, float) and 0 <= value <= _LONGEST and (value > 0 or zero)
        if not good:
            least = "0 or more" if zero else "above 0"
            raise ValueError(f"a number of seconds {least}" + ", or None" * optional)
        return float(value)

    return check


def _one_of(*choices: Any) -> _Check:
    def check(value: Any) -> Any:
        if value not in choices or type(value) is not type(choices[0]):
            raise ValueError("one of " + ", ".join(map(repr, choices)))
        return value

    return check


def _origins(value: Any) -> Any:
    if value is None or value == "*":
        return value
    wanted = '"*" or a list of origins such as "https://example.com", whole and without a "*" in it'
    origins = _strings((value,) if isinstance(value, str) else value, wanted)
    for origin in origins:
        scheme, separator, host = origin.partition("://")
        good = scheme and separator and host and not {"/", "*"} & set(host)
        if origin != "null" and not good:
            raise ValueError(wanted)
    return tuple(map(plain_origin, origins))


def plain_origin(origin: str) -> str:
    """An origin as browsers send it: in lower case, without its scheme's own port."""
    origin = origin.lower()
    for scheme, port in (("https://", ":443"), ("http://", ":80")):
        if origin.startswith(scheme):
            return origin.removesuffix(port)
    return origin


def _subprotocols(value: Any) -> tuple[str, ...]:
    wanted = "a list of tokens (RFC 6455, section 4.1)"
    names = _strings(value, wanted)
    if not all(_TOKEN.fullmatch(name) for name in names):
        raise ValueError(wanted)
    return names


def _networks(value: Any) -> tuple[Network, ...]:
    wanted = 'a list of addresses or networks such as "10.0.0.0/8"'
    networks = () if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    kinds = (str, ipaddress.IPv4Network, ipaddress.IPv6Network)
    if not all(isinstance(network, kinds) for network in networks) or (value and not networks):
        raise ValueError(wanted)
    try:
        return tuple(ipaddress.ip_network(network) for network in networks)
    except ValueError:
        raise ValueError(wanted) from None


def _strings(value: Any, wanted: str) -> tuple[str, ...]:
    """The str in an iterable, which is read once; a single str is not taken for its characters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(wanted)
    strings = tuple(value)
    if not all(isinstance(string, str) for string in strings):
        raise ValueError(wanted)
    return strings


def _rate(value: Any) -> tuple[int, float] | None:
    if value is None:
        return None
    try:
        messages, seconds = value
        return _whole(1)(messages), _seconds()(seconds)
    except (TypeError, ValueError):
        raise ValueError("(messages, seconds), both above 0, or None") from None


def _backplane(value: Any) -> Any:
    if value is None or (isinstance(value, str) and value) or hasattr(value, "occupied"):
        return value
    raise ValueError("a URL such as nats://host:4222, a backplane, or None")


def _prefix(value: Any) -> Any:
    # What stands under "<prefix>.x" is for publishers outside.
    if isinstance(value, str) and _PREFIX.fullmatch(value) and not value.endswith(".x"):
        return value
    raise ValueError(
        'letters, digits, "-" and "_", with dots between and no "x" at the end, such as "shop.live"'
    )


_CHECKS: dict[str, _Check] = {
    "origins": _origins,
    "channel_capacity": _whole(1),
    "channel_bytes": _whole(1),
    "overflow": _one_of("drop", "drop_oldest", "pause", "close"),
    "send_buffer_limit": _whole(1),
    "slow_consumer": _one_of("close", "drop"),
    "max_message_size": _whole(1),
    "message_timeout": _seconds(optional=True),
    "max_fragments": _whole(1),
    "compression": _one_of(True, False),
    "rate_limit": _rate,
    "rate_policy": _one_of("pause", "drop", "close"),
    "handler_timeout": _seconds(optional=True),
    "error_policy": _one_of("keep", "close"),
    "blocking": _one_of(True, False),
    "subprotocols": _subprotocols,
    "blocking_threads": _whole(1),
    "max_connections": _whole(1, optional=True),
    "max_connections_per_address": _whole(1, optional=True),
    "handshake_timeout": _seconds(),
    "max_header_size": _whole(256),
    "ping_interval": _seconds(optional=True),
    "ping_timeout": _seconds(optional=True),
    "close_timeout": _seconds(),
    "shutdown_timeout": _seconds(),
    "shutdown_spread": _seconds(zero=True),
    "trusted_proxies": _networks,
    "attach": _one_of(True, False),
    "backplane": _backplane,
    "prefix": _prefix,
    "health": _one_of(True, False),
}
assert _CHECKS.keys() == {field.name for field in fields(Options)}
