"""The one file that leans on uvicorn's internals knows what it needs, and says what is missing."""

from __future__ import annotations
import __future__

import ast
import inspect
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from boltws import Bolt
from boltws.server import http
from boltws.server.http import contract_broken
from boltws.server.run import build_server


class Tree:
    """What the source of our protocol names of its base."""

    def __init__(self) -> None:
        body = ast.parse(inspect.getsource(http)).body
        (ours,) = (n for n in body if isinstance(n, ast.ClassDef) and n.name == "_Protocol")
        own = {n.name for n in ours.body if isinstance(n, ast.FunctionDef)}
        own |= {ast.unparse(n.target) for n in ours.body if isinstance(n, ast.AnnAssign)}
        self.through_super: set[str] = set()
        on_self: set[str] = set()
        for node in ast.walk(ours):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Call):
                value = node.value
                if isinstance(value, ast.Name) and value.id == "self":
                    on_self.add(node.attr)
                elif isinstance(value, ast.Call) and ast.unparse(value) == "super()":
                    self.through_super.add(node.attr)
        base = {name for name in on_self - own if not hasattr(HttpToolsProtocol, name)}
        self.of_cycles = {
            node.attr
            for node in ast.walk(ours)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("cycle", "last")
        }
        source = inspect.getsource(HttpToolsProtocol)
        self.methods = (self.through_super | (on_self - own - base)) - {"__init__"}
        self.attributes = {name for name in base if f"self.{name}" in source}


used = Tree()


def renamed(kind: type, name: str) -> Any:
    """The class with that attribute called otherwise."""
    source = re.sub(rf"\bself\.{name}\b", "self.renamed", inspect.getsource(kind))
    namespace = dict(vars(httptools_impl))
    exec(
        compile(
            source,
            "<renamed>",
            "exec",
            dont_inherit=True,
            flags=__future__.annotations.compiler_flag,
        ),
        namespace,
    )
    return namespace[kind.__name__]


def test_this_uvicorn_has_all_that_is_used() -> None:
    """With the version that is installed there is nothing to say."""
    assert contract_broken() == ""


def test_the_test_sees_what_is_used() -> None:
    """The methods and attributes that the tests below take away are those our protocol names."""
    assert {"connection_made", "on_header", "shutdown", "_should_upgrade"} <= used.methods
    assert {"parser", "cycle", "pipeline", "scope", "url", "transport"} <= used.attributes
    assert {"keep_alive", "response_started", "message_event"} <= used.of_cycles


@pytest.mark.parametrize("name", sorted(used.methods))
def test_a_missing_method_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that our protocol calls, or builds upon, and that uvicorn no longer has."""
    monkeypatch.setattr(HttpToolsProtocol, name, None)  # deleted, it might be inherited
    assert contract_broken().startswith(f"HttpToolsProtocol.{name}(")


@pytest.mark.parametrize("name", sorted(used.attributes))
def test_a_missing_attribute_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attribute that our protocol reads or sets, and that uvicorn calls otherwise now."""
    monkeypatch.setattr(http, "HttpToolsProtocol", renamed(HttpToolsProtocol, name))
    assert contract_broken() == f"HttpToolsProtocol.{name}"


@pytest.mark.parametrize("name", sorted(used.of_cycles))
def test_a_missing_attribute_of_a_cycle_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request's cycle is uvicorn's too, and looked into."""
    monkeypatch.setattr(http, "RequestResponseCycle", renamed(RequestResponseCycle, name))
    assert contract_broken() == f"RequestResponseCycle.{name}"


def test_a_missing_attribute_of_the_flow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a peer is slow is read off its flow control."""
    monkeypatch.setattr(http, "FlowControl", renamed(http.FlowControl, "write_paused"))
    assert contract_broken() == "FlowControl.write_paused"


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("data_received", lambda self, data, more: None),
        ("connection_lost", lambda self: None),
        ("shutdown", lambda self, code: None),
        ("on_header", lambda self, header: None),
    ],
)
def test_a_method_that_takes_something_else_is_named(
    name: str, method: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is expected of it stands beside the name."""
    expected = list(inspect.signature(getattr(HttpToolsProtocol, name)).parameters)[1:]
    monkeypatch.setattr(HttpToolsProtocol, name, method)
    assert contract_broken() == f"HttpToolsProtocol.{name}({', '.join(expected)})"


def test_another_class_in_its_place_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A protocol rewritten from the ground up, with the same methods, is not taken for it."""

    class Rewritten(HttpToolsProtocol):
        """Nothing of what its base keeps is in this source."""

    monkeypatch.setattr(http, "HttpToolsProtocol", Rewritten)
    assert contract_broken() == "HttpToolsProtocol.access_log"


def test_a_broken_contract_falls_back_to_plain_asgi(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The server starts on uvicorn's own protocols, and a warning says what is missing."""
    monkeypatch.delattr(HttpToolsProtocol, "_should_upgrade")
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [caplog.handler])
    bolt = Bolt()
    with caplog.at_level(logging.WARNING, "uvicorn.error"):
        server = build_server(bolt, port=0)
    assert server.config.http == "auto" and server.config.ws == "auto"
    assert not bolt._runtime.own_server
    # A record may be captured twice, on its way up.
    (text,) = {r.getMessage() for r in caplog.records if "plain ASGI" in r.getMessage()}
    assert "HttpToolsProtocol._should_upgrade()" in text


def test_where_it_holds_our_protocol_is_used() -> None:
    """And nothing is said."""
    bolt = Bolt()
    server = build_server(bolt, port=0)
    chosen: Any = server.config.http
    assert issubclass(chosen, HttpToolsProtocol)
    assert chosen.options is bolt._runtime.options and chosen.loopback is True
    assert server.config.ws == "none"
    assert bolt._runtime.own_server
