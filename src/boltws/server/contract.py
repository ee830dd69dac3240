"""What our protocol uses of uvicorn's, looked up in the version that is installed."""

from __future__ import annotations

import dis
import inspect
from typing import Any

_METHODS = {
    "connection_made": ["transport"],
    "connection_lost": ["exc"],
    "data_received": ["data"],
    "shutdown": [],
    "on_message_begin": [],
    "on_header": ["name", "value"],
    "on_headers_complete": [],
    "on_body": ["body"],
    "on_message_complete": [],
    "on_response_complete": [],
    "timeout_keep_alive_handler": [],
    "_start_asgi_task": ["cycle", "app"],
    "_should_upgrade": [],
    "_get_upgrade": [],
    "_unset_keepalive_if_required": [],
    "_unsupported_upgrade_warning": [],
}
_ATTRIBUTES = (
    "access_log app app_state asgi_version client config connections cycle flow headers "
    "limit_concurrency loop parser pipeline root_path scheme scope server server_state tasks "
    "timeout_keep_alive timeout_keep_alive_task transport url"
).split()
_OF_CYCLES = (
    "disconnected keep_alive message_event response_complete response_started scope "
    "waiting_for_100_continue"
).split()


def missing(protocol: type, cycle: type, flow: type) -> str:
    """What :mod:`.http` uses of uvicorn's `protocol`, of the `cycle` of its requests and of the
    `flow` of its connection, and they do not have; ``""`` when all is there."""
    for name, parameters in _METHODS.items():
        method = getattr(protocol, name, None)
        if method is None or list(inspect.signature(method).parameters)[1:] != parameters:
            return f"HttpToolsProtocol.{name}({', '.join(parameters)})"
    for what, kind, names in (
        ("HttpToolsProtocol", protocol, _ATTRIBUTES),
        ("RequestResponseCycle", cycle, _OF_CYCLES),
        ("FlowControl", flow, ("write_paused",)),
    ):
        kept = _attributes_of(kind)
        for name in names:
            if name not in kept:
                return f"{what}.{name}"
    return ""


def _attributes_of(protocol: type) -> set[str]:
    """The attributes of ``self`` that the methods of `protocol` touch, read off their code, as a
    frozen program has no sources."""
    names: set[str] = set()
    for method in filter(inspect.isfunction, vars(protocol).values()):
        loaded: Any = None
        for step in dis.get_instructions(method):
            if loaded == "self" and step.opname.endswith(("_ATTR", "_METHOD")):
                names.add(step.argval)
            loaded = step.argval
            if isinstance(loaded, tuple) and loaded:  # two in one instruction, from 3.13 on
                loaded = loaded[-1]
    return names
