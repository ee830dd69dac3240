"""The package's imports run one way: what is below never needs what is above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import boltws

PACKAGE = Path(boltws.__file__).parent

# From the bottom up. A module imports from its own layer and from those below; a new module gets
# its place here. `server` and the like stand for all that is in them.
LAYERS: list[set[str]] = [
    {
        "addresses",
        "calls",
        "client",
        "errors",
        "event",
        "frames",
        "ids",
        "ledger",
        "remote",
        "request",
    },
    {
        "channel",
        "cluster",
        "endpoint",
        "hub",
        "loading",
        "options",
        "origin",
        "outbox",
        "parameters",
        "pipeline",
        "rate",
        "reads",
        "routing",
        "runtime",
        "siblings",
        "watchdog",
        "workers",
    },
    {"app"},
    {"backplane"},
    {"__init__"},  # the public names, for users: nothing of ours imports from here
    {"asgi", "asgi_client", "server"},
    {"cli", "ops", "publish_command", "testing"},
    {"__main__"},
]
APP = 2

# What serves Bolt, or speaks for it to other nodes, is no business of the flow.
OUTER = {"uvicorn", "starlette", "fastapi", "websockets", "nats", "httptools", "uvloop", "h11"}


class Import(NamedTuple):
    """One import: who imports what, and when it happens."""

    importer: str
    imported: str
    line: int
    inside: bool
    """In a function, so when that is called and not when the module is loaded."""
    typing: bool
    """Under TYPE_CHECKING, so never when the program runs."""

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below `boltws`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imports_of(module: str) -> Iterator[Import]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    yield from _walk(module, tree, inside=False, typing=False)


def _walk(module: str, node: ast.AST, inside: bool, typing: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.name.removeprefix("boltws.")
            name = "__init__" if name == "boltws" else name
            yield Import(module, name, node.lineno, inside, typing)
    elif isinstance(node, ast.ImportFrom):
        for name in _from(module, node):
            yield Import(module, name, node.lineno, inside, typing)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for guarded in node.body:
            yield from _walk(module, guarded, inside, typing=True)
        for other in node.orelse:
            yield from _walk(module, other, inside, typing)
    else:
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from _walk(module, child, inside, typing)


def _from(module: str, node: ast.ImportFrom) -> Iterator[str]:
    """The modules that a `from` statement imports: names of ours below `boltws`, others whole."""
    name = node.module or ""
    if node.level:
        package = [] if module == "__init__" else module.split(".")
        if MODULES[module].name != "__init__.py" or node.level > 1:
            package = package[: len(package) - node.level + (MODULES[module].name == "__init__.py")]
        name = ".".join([*package, *filter(None, [name])])
    elif name == "boltws" or name.startswith("boltws."):
        name = name.removeprefix("boltws").removeprefix(".")
    else:
        yield name
        return
    submodules = {".".join(filter(None, [name, alias.name])) for alias in node.names}
    if submodules <= MODULES.keys():
        yield from sorted(submodules)
    else:
        yield name or "__init__"


def layer_of(module: str) -> int:
    top = module.partition(".")[0]
    found = [i for i, layer in enumerate(LAYERS) if top in layer]
    assert found, f"{top} has no place in LAYERS yet: what may import it, and what may it import?"
    return found[0]


def ours(module: str) -> list[Import]:
    return [found for found in imports_of(module) if found.imported in MODULES]


def test_the_walk_sees_imports_where_they_are() -> None:
    """The check itself: what it says of files whose imports are known."""
    app = {(found.imported, found.inside) for found in imports_of("app")}
    assert ("endpoint", False) in app
    assert ("asgi", True) in app
    assert ("server.run", True) in app
    reader = {found.imported for found in imports_of("server.reader")}
    assert "channel" in reader
    assert any(name.startswith("websockets") for name in reader)
    assert any(found.typing for found in imports_of("client"))


def test_every_module_has_its_layer() -> None:
    """A module without a place in the order would escape the rule."""
    placed = set().union(*LAYERS)
    assert {name.partition(".")[0] for name in MODULES} <= placed


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    """No module needs one above it: when it is loaded, nor later, but for `app` in a function."""
    upward = [
        str(found)
        for found in ours(module)
        if not found.typing
        and layer_of(found.imported) > layer_of(module)
        and not (module == "app" and found.inside)
    ]
    assert upward == []


@pytest.mark.parametrize("module", MODULES)
def test_types_do_not_come_from_above_app(module: str) -> None:
    """For annotations alone a module may name its neighbours, but never what serves Bolt."""
    if layer_of(module) > APP:
        return
    upward = [
        str(found) for found in ours(module) if found.typing and layer_of(found.imported) > APP
    ]
    assert upward == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_up_to_app_knows_a_server(module: str) -> None:
    """Neither the flow nor `app` imports a server, a framework or a wire, wherever it stands."""
    if layer_of(module) > APP:
        return
    outer = [
        str(found) for found in imports_of(module) if found.imported.partition(".")[0] in OUTER
    ]
    assert outer == []


def test_no_circles() -> None:
    """Within a layer too: what is needed to load a module never leads back to it."""
    needs = {
        module: {found.imported for found in ours(module) if not found.inside and not found.typing}
        - {module}
        for module in MODULES
    }
    while free := {module for module, needed in needs.items() if not needed & needs.keys()}:
        for module in free:
            del needs[module]
    assert needs == {}


def test_the_public_names_are_for_users() -> None:
    """Modules import each other, not the package's front."""
    through = [
        str(found)
        for module in MODULES
        for found in ours(module)
        if found.imported == "__init__" and not found.typing and module not in ("cli", "__main__")
    ]
    assert through == []


def test_one_file_touches_what_uvicorn_keeps_inside() -> None:
    """uvicorn's protocols may change under us: they are named in one place, its public names
    in the server alone."""
    users = {
        found.imported: module
        for module in MODULES
        for found in imports_of(module)
        if found.imported.partition(".")[0] == "uvicorn"
    }
    assert users
    assert {module.partition(".")[0] for module in users.values()} <= {"server", "cli"}
    inner = {module for name, module in users.items() if name.startswith("uvicorn.protocols")}
    assert len(inner) == 1


def test_importing_boltws_loads_no_server() -> None:
    """`import boltws` in an app that another server serves costs neither uvicorn nor a wire."""
    check = f"import sys, boltws.asgi; print(*sorted({OUTER!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
