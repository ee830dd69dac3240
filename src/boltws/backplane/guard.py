"""The process between ours and its nats-server: keeps the server up, and never outlives us.

Run as a file by :mod:`.embedded`, not imported: the standard library is all it needs, so it is up
in a few hundredths of a second, and it has one thread only. (On Linux the server is killed when
the thread that started it ends; a thread of our own process could end before the process does.)

It reads one line of JSON on stdin, an :class:`Order`, and goes on until anything more comes there:
another byte, or the end of the pipe, which comes when our process ends in whatever way. It
writes reports to stdout, a line of JSON each, told apart by ``event``:

- ``starting``: a `folder` holds the token from here on
- ``up``: the server, `pid`, accepts connections on `port`; the folder is gone
- ``down``: the server ended; `why`, and the last lines of its `log`. A server that never was up
  is not started again.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

ANY_PORT = -1

_PR_SET_PDEATHSIG = 1
_SHORT, _LONG = 0.05, 0.8  # seconds until a dead server is started again
_STEADY = 5.0  # seconds after which its death is not one of a series
_LOOK = 0.02  # seconds between two looks for the ports file
_TAIL, _LINES = 4096, 5  # how much of its log is kept, in bytes, and told
_STDIN, _STDOUT = 0, 1

# A message of the default `max_message_size`, 1 MiB, does not fit into the default `max_payload`,
# 1 MiB, with an envelope around it. From 8 MiB on nats-server warns.
_CONFIG = """\
server_name: "boltws"
host: "127.0.0.1"
port: {port}
ports_file_dir: {folder}
authorization: {{ token: {token} }}
max_payload: 8388608
logtime: false
"""


class Order(TypedDict):
    """What the guard is told on stdin."""

    binary: str
    token: str
    port: int
    """:data:`ANY_PORT`, or the one that its clients know already."""
    patience: float
    """Seconds within which a server must accept connections."""
    parent: int


class Over(Exception):
    """Our process is gone, or has no more need of a server."""


class ServerEnded(Exception):
    """The server is no more."""


class Guard:
    """Runs one nats-server after the other."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._port = order["port"]
        self._die_with_us = _death_signal()
        self._tail = b""

    def run(self) -> None:
        """Keep a server up until :class:`Over`, or until the first one fails to start."""
        pause = _SHORT
        while True:
            self._tail = b""
            began = time.monotonic()
            try:
                why = self._serve()
            except OSError as error:
                why = str(error)
            log = self._tail.decode(errors="replace").splitlines()
            _report("down", why=why, log=log[-_LINES:])
            if self._port == ANY_PORT:
                return
            if time.monotonic() - began > _STEADY:
                pause = _SHORT
            self._wait(pause)
            pause = min(pause * 2, _LONG)

    def _serve(self) -> str:
        """One life of the server; gives the reason of its end."""
        folder = Path(tempfile.mkdtemp(prefix="boltws-"))
        try:
            _report("starting", folder=str(folder))
            server = self._launch(folder)
            try:
                if not self._comes_up(server, folder):
                    return f"it did not come up in {self._order['patience']:g} s"
                # It has read what it needs, and the token lies about no longer than that.
                shutil.rmtree(folder, ignore_errors=True)
                self._tail = b""  # of no interest any more, should it end
                _report("up", pid=server.pid, port=self._port)
                while True:
                    self._watch(server, timeout=1.0)
            except ServerEnded:
                pass
            finally:
                # Killed: it keeps nothing on disk, and all it could say goodbye to have left.
                server.kill()
                code = server.wait()
                assert server.stdout is not None
                server.stdout.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def _launch(self, folder: Path) -> subprocess.Popen[bytes]:
        config = folder / "nats.conf"
        text = _CONFIG.format(
            port=self._port, folder=_quoted(str(folder)), token=_quoted(self._order["token"])
        )
        descriptor = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(os.fsencode(text))
        return subprocess.Popen(
            [self._order["binary"], "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            preexec_fn=self._die_with_us,
        )

    def _comes_up(self, server: subprocess.Popen[bytes], folder: Path) -> bool:
        """Wait for the file that names its port: written when it accepts connections."""
        deadline = time.monotonic() + self._order["patience"]
        while time.monotonic() < deadline:
            for file in folder.glob("*.ports"):
                try:
                    address = json.loads(file.read_bytes())["nats"][0]
                except ValueError:
                    continue  # half written
                self._port = int(address.rpartition(":")[2])
                return True
            self._watch(server, _LOOK)
        return False

    def _watch(self, server: subprocess.Popen[bytes], timeout: float) -> None:
        """Take in what the server logs, for up to `timeout` seconds.

        Raises :class:`ServerEnded` and :class:`Over`.
        """
        assert server.stdout is not None
        if self._wait(timeout, server.stdout.fileno()):
            chunk = server.stdout.read(65536)
            if not chunk:  # it holds the other end for as long as it lives
                raise ServerEnded
            self._tail = (self._tail + chunk)[-_TAIL:]

    def _wait(self, timeout: float, *descriptors: int) -> bool:
        """Wait for input on `descriptors`; whether there is some. Raises :class:`Over`."""
        ready, _, _ = select.select([_STDIN, *descriptors], [], [], timeout)
        # Whoever our process forked has the pipe's other end too, and may live on without it.
        if _STDIN in ready or os.getppid() != self._order["parent"]:
            raise Over
        return bool(ready)


def _report(event: str, **what: Any) -> None:
    try:
        os.write(_STDOUT, json.dumps({"event": event, **what}).encode() + b"\n")
    except BrokenPipeError:
        raise Over from None


def _quoted(text: str) -> str:
    """A string as nats-server's configuration has it, which is as JSON has it."""
    return json.dumps(text, ensure_ascii=False)


def _death_signal() -> Callable[[], None] | None:
    """What a child calls so that it is killed when we are; None where there is no such thing."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    guard = os.getpid()

    def die_with_us() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # we died before it could take hold
            os._exit(1)

    return die_with_us


def main() -> None:
    """Carry out the order on stdin."""
    # A service manager may send its SIGTERM to every process of the service; our own process
    # decides when the server goes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with open(_STDIN, "rb", buffering=0, closefd=False) as stdin:
        line = stdin.readline()
    if not line.endswith(b"\n"):
        return
    try:
        Guard(json.loads(line)).run()
    except Over:
        pass


if __name__ == "__main__":
    main()
