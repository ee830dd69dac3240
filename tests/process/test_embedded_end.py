"""The embedded nats-server ends when our process does, in whatever way, and not before."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from .conftest import Serve
from .guarded import gone, guard_of, ps, until_gone
from .harness import PATIENCE, Served, eventually

pytestmark = pytest.mark.slow

# Our process, as `boltws run --workers` will be one: it starts the server, then a worker.
SUPERVISOR = """
    import ctypes
    import multiprocessing
    import os
    import signal
    import sys
    import threading

    from boltws.backplane.embedded import EmbeddedServer


    def say(line):
        os.write(1, line.encode() + b"\\n")  # at once, whoever else writes


    def worker():
        say(f"worker {os.getpid()}")
        signal.pause()


    def start():
        server.start()
        say(f"up {server.pid} {server.url.rpartition(':')[2]}")


    if __name__ == "__main__":
        kind = sys.argv[1]
        if kind == "inherits":
            ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
        if kind == "drains":
            signal.signal(signal.SIGINT, lambda number, frame: say("draining"))
        server = EmbeddedServer()
        if kind == "thread":
            starter = threading.Thread(target=start)
            starter.start()
            starter.join()
        else:
            start()
        if kind in ("spawn", "fork", "fork and stop"):
            context = multiprocessing.get_context(kind.partition(" ")[0])
            context.Process(target=worker, daemon=True).start()
        if kind == "exits":
            sys.exit(3)
        if kind == "drains":
            open("gate").read()
            server.stop()
            sys.exit()
        if kind == "fork and stop":
            server.stop()
            say("stopped")
        signal.pause()
"""


def up(served: Served) -> tuple[int, int, int]:
    """The process ids of the server and its guard, and the server's port."""
    pid, port = map(int, served.wait_for(lambda line: line.startswith("up "), "up").split()[1:])
    return pid, guard_of(pid), port


def worker(served: Served) -> int:
    return int(served.wait_for(lambda line: line.startswith("worker "), "its worker").split()[1])


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temp folder of all that a test starts."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.parametrize("kind", ["alone", "spawn", "fork", "thread"])
def test_killed(serve: Serve, temp: Path, kind: str) -> None:
    """SIGKILL to our process ends guard and server, though a worker lives on: a spawned one that
    has no hold on the pipe, or a forked one that has. The thread that started it may end."""
    served = serve([sys.executable, "app.py", kind], app=SUPERVISOR)
    pid, guard, _ = up(served)
    survivor = worker(served) if kind in ("spawn", "fork") else None
    served.send(signal.SIGKILL)
    until_gone(pid, guard)
    if survivor is not None:
        assert not gone(survivor)
    eventually(lambda: list(temp.glob("boltws-*")) == [], "an empty temp folder")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_without_a_word(serve: Serve, number: signal.Signals) -> None:
    """A process that any other signal ends need not have called `stop`."""
    served = serve([sys.executable, "app.py", "alone"], app=SUPERVISOR)
    pid, guard, _ = up(served)
    served.stop(number)
    until_gone(pid, guard)


def test_an_exit_without_stop(serve: Serve) -> None:
    """The interpreter's own exit does not hang on it, keeps its code, and leaves nothing."""
    served = serve([sys.executable, "app.py", "exits"], app=SUPERVISOR)
    pid = int(served.wait_for(lambda line: line.startswith("up "), "up").split()[1])
    assert served.wait() == 3
    until_gone(pid)
    served.assert_no_noise()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells the server")
def test_both_killed(serve: Serve) -> None:
    """Without anybody left to end it, the kernel does."""
    served = serve([sys.executable, "app.py", "alone"], app=SUPERVISOR)
    pid, guard, _ = up(served)
    served.send(signal.SIGSTOP)  # it must not see its guard end
    os.kill(guard, signal.SIGKILL)
    until_gone(pid)
    served.send(signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="nobody else inherits there")
def test_the_server_of_a_killed_guard_is_no_zombie(serve: Serve) -> None:
    """Where our process inherits it, as PID 1 of a container does, nobody else waits for it."""
    served = serve([sys.executable, "app.py", "inherits"], app=SUPERVISOR)
    pid, guard, _ = up(served)
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: ps(pid, "pid") == [], f"the end of process {pid}, zombie and all")


def test_stop_with_a_forked_worker(serve: Serve) -> None:
    """`stop` returns though another process holds the pipe open."""
    served = serve([sys.executable, "app.py", "fork and stop"], app=SUPERVISOR)
    served.wait_for(lambda line: line == "stopped", "stopped")
    pid = int(served.wait_for(lambda line: line.startswith("up "), "up").split()[1])
    assert ps(pid, "pid") == []
    assert not gone(worker(served))


def test_ctrl_c_leaves_it_to_us(serve: Serve, tmp_path: Path) -> None:
    """Ctrl-C goes to the terminal's whole foreground group: the server is not in it, and serves
    until our process has drained and stops it. Nor do other signals end the guard."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    served = serve([sys.executable, "app.py", "drains"], app=SUPERVISOR)
    pid, guard, port = up(served)
    for process in (pid, guard):
        assert os.getsid(process) == os.getpgid(process) == guard
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        lines = client.makefile("rb")
        assert lines.readline().startswith(b"INFO ")
        os.killpg(served.process.pid, signal.SIGINT)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guard, number)
        served.wait_for(lambda line: line == "draining", "that it drains")
        client.sendall(b"PING\r\n")
        assert lines.readline() == b"-ERR 'Authorization Violation'\r\n"  # so it is there
        lines.close()
    assert not gone(guard) and not gone(pid)
    with gate.open("w"):
        pass
    assert served.wait() == 0
    served.assert_no_noise()
    assert gone(pid) and gone(guard)
