"""The command: what it loads, what it serves with, and one line when it cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import boltws
from boltws import Bolt, StartError
from boltws.cli import _child, load_app, main
from boltws.server import run

MODULE = """
import types
from boltws import Bolt

bolt = Bolt()
bolt.ws("/p")
broken = Bolt()
broken.ws("/p", "nowhere")
inner = types.SimpleNamespace(bolt=bolt)
number = 1

async def app(scope, receive, send): ...

class Asgi:
    async def __call__(self, scope, receive, send): ...

asgi = Asgi()

def wsgi(environ, start_response): ...

def make(): ...
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of its own, with modules in it, and a Python path to throw away."""
    (tmp_path / "served.py").write_text(MODULE)
    (tmp_path / "needs.py").write_text("import module_that_is_not_there\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    (tmp_path / "eager.py").write_text("from boltws import Bolt\nbolt = Bolt()\nbolt.run(port=0)")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "pack" / "inner.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(Path.cwd()))])
    yield tmp_path
    for name in ("served", "needs", "fails", "eager", "pack", "pack.inner"):
        sys.modules.pop(name, None)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What would have been served, and how."""
    calls: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(run, "serve", lambda app, **settings: calls.append((app, settings)))
    return calls


@pytest.fixture
def path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules are on the Python path, as `main` puts them there."""
    monkeypatch.syspath_prepend(here)


def one_line(*arguments: str) -> str:
    """What the command says when it cannot start. A str as its code is one line on standard
    error and the exit status 1."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = caught.value.code
    assert isinstance(said, str)
    assert said.startswith("boltws: ")
    assert "\n" not in said
    return said.removeprefix("boltws: ")


# Serving.


def test_what_it_serves_with(served: list[Any]) -> None:
    """The defaults of `bolt.run`, from the working directory."""
    main(["run", "served:bolt"])
    ((app, settings),) = served
    assert app is sys.modules["served"].bolt
    assert settings == {
        "host": "127.0.0.1",
        "port": 3000,
        "uds": None,
        "ssl_certfile": None,
        "ssl_keyfile": None,
        "log_level": "info",
        "access_log": True,
    }


def test_its_options(served: list[Any]) -> None:
    """Each goes where its name says."""
    options = "--host ::1 --port 0 --uds s --ssl-certfile c --ssl-keyfile k --log-level debug"
    main(["run", "served:bolt", *options.split(), "--no-access-log"])
    assert served[0][1] == {
        "host": "::1",
        "port": 0,
        "uds": "s",
        "ssl_certfile": "c",
        "ssl_keyfile": "k",
        "log_level": "debug",
        "access_log": False,
    }


@pytest.mark.parametrize("target", ["served:app", "served:asgi", "pack.inner:inner.bolt"])
def test_what_it_can_serve(served: list[Any], target: str) -> None:
    """A Bolt, or any ASGI app, wherever in a module."""
    main(["run", target])
    assert served[0][0] is load_app(target)


def test_http(served: list[Any]) -> None:
    """An app for all that is no endpoint, given to the Bolt."""
    main(["run", "served:bolt", "--http", "pack.inner:app"])
    assert served[0][0].http is sys.modules["pack.inner"].app


def test_a_start_error_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server says is said in one line too."""

    def fail(app: Any, **settings: Any) -> None:
        raise StartError("port 3000 is in use")

    monkeypatch.setattr(run, "serve", fail)
    assert one_line("run", "served:bolt") == "port 3000 is in use"


def test_a_mistake_is_told_before_anything_is_opened(served: list[Any]) -> None:
    """The endpoints are looked at first."""
    assert "'nowhere' is not defined in module 'served'" in one_line("run", "served:broken")
    assert served == []


def test_http_beside_an_app_that_is_no_bolt(served: list[Any]) -> None:
    """There is nothing to give it to."""
    assert "--http goes with a Bolt" in one_line("run", "served:app", "--http", "served:asgi")
    assert "'nowhere'" in one_line("run", "served:bolt", "--http", "served:nowhere")
    assert served == []


def test_settings_are_checked_before_a_reloader_watches() -> None:
    """Not once for each change of a file."""
    said = one_line("run", "served:bolt", "--reload", "--log-level", "loud")
    assert "'loud'" in said
    assert "no TLS file" in one_line("run", "served:bolt", "--reload", "--ssl-certfile", "none")


@pytest.mark.parametrize("how", [[], ["--workers", "2"]])
def test_a_module_that_serves_while_it_is_imported(served: list[Any], how: list[str]) -> None:
    """`bolt.run` without its guard would serve by itself, with settings of its own."""
    said = one_line("run", "eager:bolt", "--port", "0", *how)
    assert said == (
        "module 'eager' calls bolt.run() while it is imported: put it under "
        "if __name__ == '__main__':"
    )
    assert served == []


def test_a_child_whose_module_serves_while_it_is_imported(here: Path, served: list[Any]) -> None:
    """The child of a reloader, which imports the module anew, says the same; afterwards a Bolt
    may run."""
    with pytest.raises(SystemExit, match="^boltws: module 'eager' calls bolt.run"):
        _child("eager:bolt", None, {}, [])
    Bolt().run(port=0)
    assert len(served) == 1


@pytest.mark.parametrize("url", ["", "rubbish"])
def test_a_backplane_that_is_no_url(
    served: list[Any], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """It says where the URL came from: a variable of the shell that is empty, for one."""
    monkeypatch.delenv("BOLTWS_BACKPLANE", raising=False)
    assert one_line("run", "served:bolt", "--backplane", url).startswith("--backplane: ")
    if url:
        monkeypatch.setenv("BOLTWS_BACKPLANE", url)
        assert one_line("run", "served:bolt").startswith("BOLTWS_BACKPLANE: ")
    assert served == []


# Arguments.


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["serve"],
        ["run"],
        ["run", "served:bolt", "--nope"],
        ["run", "served:bolt", "--port", "http"],
        ["run", "served:bolt", "more"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, as for any command."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: boltws" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """That of the package."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"boltws {boltws.__version__}\n"


# What there is to load.


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("served", "'served' must be module:attribute"),
        ("served:", "must be module:attribute"),
        (":bolt", "must be module:attribute"),
        ("", "must be module:attribute"),
        ("nowhere:bolt", "there is no module 'nowhere'"),
        ("pack.nowhere:bolt", "there is no module 'pack.nowhere'"),
        ("served.py:bolt", "did you mean 'served'?"),
        ("served:nowhere", "module 'served' has no attribute 'nowhere'; its Bolt is served:bolt"),
        ("pack:nowhere", "module 'pack' has no attribute 'nowhere'"),
        ("served:inner.nowhere", "has no attribute 'inner.nowhere'"),
        ("served:number.nowhere", "has no attribute 'number.nowhere'"),
        ("served:number", "'served:number' is int, not a Bolt or an ASGI app"),
        ("served:inner", "is SimpleNamespace, not a Bolt"),
        ("served:Asgi", "is type, not a Bolt"),
        ("served:wsgi", "is function, not a Bolt or an ASGI app; its Bolt is served:bolt"),
        ("served:make()", "no attribute 'make()'; call it in the module: bolt = make()"),
        ("served:make", "an ASGI app; call it in the module: bolt = make(); its Bolt is served:b"),
        ("./served.py:bolt", "'./served.py' here or on the Python path; did you mean 'served'?"),
        (".served:bolt", "did you mean 'served'?"),
        ("pack/inner:bolt", "there is no module 'pack/inner' here or on the Python path; did you "),
        ("pack/inner.py:bolt", "did you mean 'pack.inner'?"),
    ],
)
def test_what_it_cannot_load(target: str, what: str) -> None:
    """The error says what is missing where, and what was meant if that can be told."""
    with pytest.raises(StartError) as caught:
        load_app(target)
    assert what in str(caught.value)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize(
    ("target", "error"),
    [("needs:bolt", ModuleNotFoundError), ("fails:bolt", ZeroDivisionError)],
)
def test_a_module_that_fails(target: str, error: type[Exception]) -> None:
    """Its own error, with its traceback: that is what its author needs."""
    with pytest.raises(error):
        load_app(target)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (
            "import a_module_of_nobody",
            [
                '  File "{here}/broken.py", line 1, in <module>',
                "    import a_module_of_nobody",
                "ModuleNotFoundError: No module named 'a_module_of_nobody'",
            ],
        ),
        (
            "from boltws import Bolt\nBolt().ws_broadcast('x')",
            [
                '  File "{here}/broken.py", line 2, in <module>',
                "    Bolt().ws_broadcast('x')",
                "boltws.errors.NotRunning: operations on clients work between the start of the",
            ],
        ),
        (
            "bolt = (",
            ['  File "{here}/broken.py", line 1', "    bolt = (", "SyntaxError: '(' was never"],
        ),
    ],
)
def test_its_traceback(here: Path, served: list[Any], source: str, lines: list[str]) -> None:
    """Its author's lines are all there is of it: not those that led there, nor ours behind."""
    (here / "broken.py").write_text(source)
    with pytest.raises(SystemExit) as caught:
        main(["run", "broken:bolt"])
    told = [line for line in str(caught.value.code).splitlines() if line.strip(" ^~")]
    assert told.pop(0) == "boltws: 'broken:bolt' cannot be imported:"
    if told[0] == "Traceback (most recent call last):":  # a SyntaxError has none of its own
        told.pop(0)
    assert len(told) == len(lines)
    for said, wanted in zip(told, lines, strict=True):
        assert said.startswith(wanted.format(here=here))
    assert served == []


# bolt.run().


@pytest.mark.parametrize("name", ["reload", "workers"])
def test_run_has_no_processes(served: list[Any], name: str) -> None:
    """It says where they are to be had."""
    with pytest.raises(TypeError, match=f"{name}.*`boltws run`"):
        Bolt().run(**{name: 2})  # type: ignore[arg-type]
    assert served == []


def test_run_has_no_other_arguments(served: list[Any]) -> None:
    """A misspelt one is no option that is ignored."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'prot'"):
        Bolt().run(prot=3000)
    assert served == []


def fail(error: Exception) -> Callable[..., None]:
    def serve(app: Any, **settings: Any) -> None:
        raise error

    return serve


def test_run_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line and with exit status 1, as the command does."""
    bolt = Bolt()
    bolt.ws("/p", "nowhere")
    with pytest.raises(SystemExit, match="^boltws: .*'nowhere' is not defined"):
        bolt.run()
    monkeypatch.setattr(run, "serve", fail(StartError("port 3000 is in use")))
    with pytest.raises(SystemExit, match="^boltws: port 3000 is in use$"):
        Bolt().run()


def test_run_serves(served: list[Any]) -> None:
    """Itself, on loopback if nothing else is said."""
    bolt = Bolt()
    bolt.ws("/p")
    bolt.run(port=0, log_level="debug")
    ((app, settings),) = served
    assert app is bolt
    assert (settings["host"], settings["port"], settings["log_level"]) == ("127.0.0.1", 0, "debug")


def test_a_run_that_failed_leaves_registering_open() -> None:
    """Who works by hand mends it and tries again."""
    bolt = Bolt()
    with pytest.raises(SystemExit, match="there is no TLS file"):
        bolt.run(port=0, ssl_certfile="none.pem")
    bolt.ws("/more")
    bolt.before(lambda: None)
