"""Real server processes for tests: watched by their output, never left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

PATIENCE = 30.0
"""Seconds until a wait is given up: far above what a busy machine needs, only a hang ends there."""

_LISTENING = re.compile(r"\b(?:http|ws)s?://(?:\[[^\]\s]+\]|[^\s:/\[]+):(\d+)")


class Served:
    """One server process: its output as it comes, its port, and its way down."""

    def __init__(self, argv: list[str], folder: Path, env: dict[str, str]) -> None:
        self.argv = argv
        self.folder = folder
        self._known_port: int | None = None
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._open = 2
        self._changed = threading.Condition()
        # A session of its own: a signal is meant for the server, and the fixture can end all of it.
        self.process = subprocess.Popen(
            argv,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        for name, stream in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            threading.Thread(target=self._read, args=(name, stream), daemon=True).start()

    def _read(self, name: str, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                with self._changed:
                    self._lines[name].append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    @property
    def stderr(self) -> list[str]:
        """The lines on stderr that are not blank."""
        with self._changed:
            return [line for line in self._lines["stderr"] if line.strip()]

    @property
    def output(self) -> str:
        """All that was printed so far, for searching and for a failure's message."""
        with self._changed:
            return "\n".join(self._lines["stdout"] + self._lines["stderr"])

    def wait_for(self, found: Callable[[str], bool], what: str) -> str:
        """Wait until some line of the output satisfies `found`, and give that line."""
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                for line in self._lines["stdout"] + self._lines["stderr"]:
                    if found(line):
                        return line
                left = deadline - time.monotonic()
                if self._open == 0 or left <= 0:
                    break
                self._changed.wait(left)
        raise AssertionError(f"{self.argv} never printed {what}; it printed:\n{self.output}")

    def forget_output(self) -> None:
        """Look for what comes from now on: a server that starts again has another port."""
        with self._changed:
            for lines in self._lines.values():
                lines.clear()
            self._known_port = None

    @property
    def port(self) -> int:
        """The port it listens on, from the line that says so."""
        if self._known_port is None:
            line = self.wait_for(lambda line: _LISTENING.search(line) is not None, "its address")
            match = _LISTENING.search(line)
            assert match is not None
            self._known_port = int(match[1])
        return self._known_port

    def learn_port(self, port: int) -> None:
        """For a server that does not say where it listens: wait until it does, on `port`."""

        def listens() -> bool:
            assert self.process.poll() is None, self.output
            try:
                socket.create_connection(("127.0.0.1", port), PATIENCE).close()
            except OSError:
                return False
            return True

        eventually(listens, f"{self.argv} listening on {port}")
        self._known_port = port

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the process and of all that it started; gives the exit code.

        Whatever it left running still holds its output open, so the end of both streams is
        the proof that there are no orphans.
        """
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.argv} did not end; it printed:\n{self.output}") from None
        with self._changed:
            ended = self._changed.wait_for(lambda: self._open == 0, PATIENCE)
        assert ended, f"{self.argv} ended, but something it started did not:\n{self.output}"
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait()

    def kill(self) -> None:
        """End the process and everything in its session, whatever state it is in."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(PATIENCE)

    def connect(self, path: str, **options: Any) -> ClientConnection:
        """A client of this server; proxies of the environment are none of its business."""
        uri = f"ws://127.0.0.1:{self.port}{path}"
        client: ClientConnection = connect(uri, proxy=None, open_timeout=PATIENCE, **options)
        return client

    def assert_no_noise(self) -> None:
        """Nothing in the output that a user would take for a bug of the library."""
        for sign in ("Traceback", "Exception ignored", "was never", "was destroyed"):
            assert sign not in self.output, self.output


@contextmanager
def serving(argv: list[str], folder: Path, **env: str) -> Iterator[Served]:
    """A server for the length of a block; its way down, where it matters, is the block's own."""
    served = Served(argv, folder, environment(**env))
    try:
        yield served
    finally:
        served.kill()


def console_script() -> str:
    """The `boltws` command that was installed beside this interpreter."""
    found = shutil.which("boltws", path=str(Path(sys.executable).parent)) or shutil.which("boltws")
    assert found is not None, "no `boltws` command: install the package into this environment first"
    return found


def environment(**more: str) -> dict[str, str]:
    """This process' environment, with output that arrives as it is printed."""
    return {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **more}


def free_port() -> int:
    """A port nobody listens on now, for servers that cannot tell which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signed itself, and its key; needs openssl."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


def eventually(check: Callable[[], bool], what: str, between: float = 0.05) -> None:
    """Ask until it holds; for states of another process that send no event of their own."""
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(between)


def until_closed(client: ClientConnection) -> tuple[list[str | bytes], int]:
    """All the messages up to the close, and the code the server closed with (1006: none came)."""
    messages: list[str | bytes] = []
    while True:
        try:
            messages.append(client.recv(timeout=PATIENCE))
        except ConnectionClosed as closed:
            return messages, closed.rcvd.code if closed.rcvd is not None else 1006


def raw_client(port: int, path: str, receive_buffer: int | None = None) -> socket.socket:
    """A client by hand: the handshake is done, what follows is the test's own business."""
    peer = socket.socket()
    if receive_buffer is not None:
        # Before connecting, or the kernel has already promised a larger window.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    peer.settimeout(PATIENCE)
    peer.connect(("127.0.0.1", port))
    peer.sendall(handshake(port, path))
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = peer.recv(1)
        assert chunk, f"closed in the handshake: {head!r}"
        head += chunk
    assert head.startswith(b"HTTP/1.1 101 "), head
    return peer


def handshake(port: int, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def masked_text(text: str) -> bytes:
    """A short text message as a client frames it; a mask of zeros is a mask all the same."""
    payload = text.encode()
    assert len(payload) < 126
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def read_journal(folder: Path) -> list[list[str]]:
    """What an app under test wrote down, one list of words for each line."""
    journal = folder / "journal"
    return [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
