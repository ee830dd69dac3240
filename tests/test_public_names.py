"""What people may rely on: every public name, with its exact signature and a docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import boltws
from boltws import Bolt, Endpoint, Event, Request, State, Stats

PUBLIC = [
    "AlreadyStarted",
    "Bolt",
    "BoltError",
    "ConfigurationError",
    "Endpoint",
    "Event",
    "NoEvent",
    "NotAborting",
    "NotRunning",
    "Request",
    "StartError",
    "State",
    "Stats",
    "SyncPublisher",
    "Publisher",
    "BackplaneError",
    "__version__",
]

# As they are written in a call. `*`: what follows is by keyword; `**`: options, listed elsewhere.
BOLT = {
    "ws": "path, on_connect=None, on_message=None, on_disconnect=None, **options",
    "before": "callback",
    "after": "callback",
    "on_before": "callback",
    "on_after": "callback",
    "on_error": "callback",
    "ws_client_id": "",
    "ws_event_type": "",
    "ws_event_message": "",
    "ws_event_is_binary": "",
    "ws_event_binary": "",
    "ws_event_path": "",
    "ws_param": "name",
    "ws_event_abort": "status=403, reason='', headers=()",
    "ws_send_to": "client_id, message",
    "ws_send_binary_to": "client_id, data",
    "ws_close_client": "client_id, code=1000, reason=''",
    "ws_client_list": "",
    "ws_room_join": "room, client_id",
    "ws_room_leave": "room, client_id",
    "ws_room_broadcast": "room, message, exclude=()",
    "ws_room_broadcast_binary": "room, data, exclude=()",
    "ws_room_members": "room",
    "ws_room_count": "room",
    "ws_broadcast": "message",
    "ws_broadcast_binary": "data",
    "ws_connection_count": "",
    "ws_dropped_count": "",
    "ws_drain": "client_id",
    "stats": "",
    "lifespan": "app=None",
    "__call__": "scope, receive, send",
}
RUN = (
    "host='127.0.0.1', port=3000, *, uds=None, ssl_certfile=None, ssl_keyfile=None, "
    "log_level='info', access_log=True"
)
ENDPOINT = {
    "before": "callback",
    "after": "callback",
    "on_before": "callback",
    "on_after": "callback",
    "on_connect": "callback",
    "on_message": "callback",
    "on_disconnect": "callback",
    "where": "name, expression",
}
EVENT = {
    "json": "",
    "reply": "message",
    "join": "room",
    "leave": "room",
    "close": "code=1000, reason=''",
    "abort": "status=403, reason='', headers=()",
}
EVENT_ATTRIBUTES = (
    "client_id type message is_binary binary path params state request response_headers rooms "
    "close_code close_reason"
).split()
REQUEST_ATTRIBUTES = "headers query cookies path client subprotocols".split()

# Options and their defaults as the documentation lists them; for one endpoint, and for all.
ENDPOINT_OPTIONS: dict[str, object] = {
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
}
BOLT_OPTIONS: dict[str, object] = {
    "blocking_threads": 40,
    "max_connections": None,  # below the descriptor limit: known when it starts
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


def signature_of(function: Any) -> str:
    """A signature as it reads in a call: no annotations, no self."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if name != "self"
    ]
    text = str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    return text[1:-1]


def test_the_public_names_are_these() -> None:
    """`from boltws import *` gives what is documented, all of it and nothing else."""
    assert sorted(boltws.__all__) == sorted(PUBLIC)
    assert [name for name in PUBLIC if not hasattr(boltws, name)] == []


def test_nothing_else_looks_public() -> None:
    """What the package shows beside them is its modules."""
    beside = {
        name
        for name, value in vars(boltws).items()
        if not name.startswith("_") and name not in PUBLIC and not inspect.ismodule(value)
    }
    assert beside == set()


@pytest.mark.parametrize(("name", "signature"), BOLT.items())
def test_bolt_has(name: str, signature: str) -> None:
    """Every operation of the reference under its Python name, called as documented."""
    assert signature_of(getattr(Bolt, name)) == signature


def test_bolt_run_has() -> None:
    """`run` may take more, to say where that belongs; what it documents is this."""
    signature = signature_of(Bolt.run)
    assert signature.partition(", **")[0] == RUN


def test_bolt_has_nothing_undocumented() -> None:
    """A name that is not in the documentation is not a public one."""
    names = {name for name in dir(Bolt()) if not name.startswith("_")}
    documented = {name for name in BOLT if not name.startswith("_")}
    assert names == documented | {"run", "http", "cluster"}


@pytest.mark.parametrize(("name", "signature"), ENDPOINT.items())
def test_endpoint_has(name: str, signature: str) -> None:
    """What `bolt.ws` returns can be chained and decorated with."""
    assert signature_of(getattr(Endpoint, name)) == signature


@pytest.mark.parametrize(("name", "signature"), EVENT.items())
def test_event_has(name: str, signature: str) -> None:
    """What an event can do."""
    assert signature_of(getattr(Event, name)) == signature


@pytest.mark.parametrize("name", EVENT_ATTRIBUTES)
def test_event_knows(name: str) -> None:
    """What an event tells."""
    assert name in dir(Event) or name in Event.__annotations__
    assert not inspect.isfunction(getattr(Event, name, None))


@pytest.mark.parametrize("name", REQUEST_ATTRIBUTES)
def test_request_knows(name: str) -> None:
    """What the request that a connection came with tells."""
    assert name in dir(Request) or name in Request.__annotations__


def test_state_is_a_dict_with_attributes() -> None:
    """Both spellings are the same item."""
    state = State(user="ada")
    state.room = "lobby"
    assert state == {"user": "ada", "room": "lobby"}
    assert state.user == "ada"
    del state.user
    assert "user" not in state
    assert not hasattr(state, "user")


def test_stats_are_a_frozen_snapshot() -> None:
    """The counters of the ledger under their names; a snapshot cannot be written to."""
    stats = Bolt().stats()
    assert isinstance(stats, Stats)
    counters = (
        "received handled failed aborted timed_out running waiting sends handed "
        "connections_opened connections_now connections_peak errors bytes_in bytes_out "
        "slow_clients rooms closing"
    ).split()
    assert {name: getattr(stats, name) for name in counters} == dict.fromkeys(counters, 0)
    for name in ("dropped_in", "dropped_out", "closed", "refused"):
        causes = getattr(stats, name)
        assert sum(causes.values()) == 0
        with pytest.raises(TypeError):
            causes["cause"] = 1
    with pytest.raises(AttributeError):
        stats.received = 1  # type: ignore[misc]
    assert stats.imbalance() == ""


def test_the_options_are_these() -> None:
    """Every documented option is taken where it is documented, with its default."""
    from dataclasses import asdict

    from boltws.options import Options

    assert asdict(Options()) == ENDPOINT_OPTIONS | BOLT_OPTIONS
    Bolt(**ENDPOINT_OPTIONS, **BOLT_OPTIONS)  # type: ignore[arg-type]
    Bolt().ws("/live", **ENDPOINT_OPTIONS)  # type: ignore[arg-type]


def public_objects() -> Iterator[tuple[str, Any]]:
    """The public classes, and all that is public of them."""
    for name in PUBLIC:
        value = getattr(boltws, name)
        if not inspect.isclass(value):
            continue
        yield name, value
        for attribute, member in vars(value).items():
            if attribute.startswith("_"):
                continue
            if inspect.isroutine(member) or isinstance(member, property):
                yield f"{name}.{attribute}", member


@pytest.mark.parametrize(("name", "value"), list(public_objects()))
def test_it_has_a_docstring(name: str, value: Any) -> None:
    """`help()` and editors show what a name is for."""
    doc = inspect.getdoc(value)
    # A dataclass without one gets its signature as a docstring.
    assert doc and not doc.startswith(name + "("), name


def test_the_version_is_the_packages() -> None:
    """`boltws.__version__` is what was installed."""
    from importlib.metadata import version

    assert boltws.__version__ == version("boltws")
