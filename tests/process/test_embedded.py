"""The embedded nats-server: private, on loopback, and back on its port whenever it dies."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import nats.errors
import pytest

from boltws import NotRunning, StartError
from boltws.backplane import embedded
from boltws.backplane.embedded import EmbeddedServer, find_server

from .guarded import connect, gone, guard_of, listening, ps, subscribe, until_gone, until_replaced
from .harness import PATIENCE, eventually

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temp folder of all that a test starts."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as started:
        yield started


def program(path: Path, source: str) -> Path:
    """An executable file of Python, to stand in for nats-server."""
    path.write_text(f"#!{sys.executable}\n{textwrap.dedent(source)}")
    path.chmod(0o755)
    return path


def why_not(binary: Path) -> str:
    """What `start` says of a server that cannot start; nothing of it may be left."""
    server = EmbeddedServer(binary)
    with pytest.raises(StartError) as raised:
        server.start()
    assert "\n" not in str(raised.value)
    assert str(binary) in str(raised.value)
    return str(raised.value)


async def test_the_token_opens_it(server: EmbeddedServer) -> None:
    """Connections are accepted as soon as it has started, and messages pass between them."""
    one, two = [await connect(server.url, token=server.token) for _ in range(2)]
    inbox = await subscribe(two, "room")
    await one.publish("room", b"hello")
    assert (await inbox.next_msg(PATIENCE)).data == b"hello"
    await one.close()
    await two.close()


@pytest.mark.parametrize("token", ["wrong", None])
async def test_without_the_token_it_stays_shut(server: EmbeddedServer, token: str | None) -> None:
    """Other users of the machine reach the port too; a wrong token and none are refused."""
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await connect(server.url, token=token, allow_reconnect=False)


async def test_a_message_of_the_largest_size_fits_with_its_envelope(
    server: EmbeddedServer,
) -> None:
    """A megabyte is what a client may send by default; on its way there is a header before it."""
    client = await connect(server.url, token=server.token)
    inbox = await subscribe(client, "room")
    await client.publish("room", bytes(2**20 + 1024))
    assert len((await inbox.next_msg(PATIENCE)).data) == 2**20 + 1024
    await client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tables are read under /proc")
def test_it_listens_on_loopback_alone(server: EmbeddedServer) -> None:
    """One socket, on 127.0.0.1: nothing from outside, no monitoring port."""
    port = urlsplit(server.url).port
    assert listening(server.pid) == [f"tcp {bytes([1, 0, 0, 127]).hex().upper()} {port}"]


def test_each_has_its_own_port_and_token() -> None:
    """Two apps on one machine do not get in each other's way."""
    with EmbeddedServer() as one, EmbeddedServer() as two:
        assert one.url != two.url
        assert one.token != two.token and len(one.token) >= 43  # 32 bytes in base64
        assert urlsplit(one.url).hostname == "127.0.0.1"


def test_the_token_is_nowhere_to_be_seen(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Command lines and environments of all processes, our log and its repr do without it."""
    caplog.set_level(logging.DEBUG)
    os.kill(pid := server.pid, signal.SIGKILL)
    until_replaced(server, pid)
    shown = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
    assert f"{guard_of(server.pid)} " in shown and "nats.conf" in shown and "TMPDIR=" in shown
    assert server.token not in shown
    assert server.url in repr(server) and server.token not in repr(server)
    assert caplog.messages and server.token not in caplog.text


def test_the_token_lies_in_a_private_file_while_it_starts(tmp_path: Path, temp: Path) -> None:
    """Nobody else may read the file or look into its folder, whatever the umask; once the server
    is up both are gone."""
    seen = tmp_path / "seen.json"
    binary = program(
        tmp_path / "nats",
        f"""
        import json, os, sys
        config = sys.argv[-1]
        paths = [config, os.path.dirname(config)]
        seen = [[os.stat(path).st_mode for path in paths], open(config).read(), config]
        with open({str(seen)!r}, "w") as file:
            json.dump(seen, file)
        os.execv({str(find_server())!r}, sys.argv)
        """,
    )
    before = os.umask(0)
    try:
        with EmbeddedServer(binary) as server:
            modes, text, config = json.loads(seen.read_text())
            assert [oct(stat.S_IMODE(mode)) for mode in modes] == ["0o600", "0o700"]
            assert server.token in text
            assert temp in Path(config).parents
            assert list(temp.iterdir()) == []
    finally:
        os.umask(before)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda it: it.name)
async def test_it_comes_back_on_its_port(server: EmbeddedServer, number: signal.Signals) -> None:
    """However often it dies, the same address and token lead to the next one, and its clients'
    subscriptions are back when they are."""
    url = server.url
    back = asyncio.Event()

    async def reconnected() -> None:
        back.set()

    client = await connect(url, token=server.token, reconnected_cb=reconnected)
    inbox = await subscribe(client, "room")
    for _ in range(3):
        back.clear()
        os.kill(pid := server.pid, number)
        await asyncio.wait_for(back.wait(), PATIENCE)
        await asyncio.to_thread(until_replaced, server, pid)
        assert server.url == url
        await client.publish("room", b"again")
        assert (await inbox.next_msg(PATIENCE)).data == b"again"
    await client.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda it: it.name)
async def test_a_guard_that_dies_is_replaced(
    server: EmbeddedServer, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    """A dead guard leaves no server behind, and the next one serves the same port and token."""
    url, pid = server.url, server.pid
    os.kill(guard := guard_of(pid), number)
    until_replaced(server, pid)
    assert gone(pid) and gone(guard)
    assert server.url == url and guard_of(server.pid) != guard
    client = await connect(url, token=server.token)
    await client.close()
    assert any("its guard ended" in message for message in caplog.messages)


def test_a_death_is_told(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """As long as all is well its log is its own; of an end the log tells once how it came."""
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    os.kill(pid := server.pid, signal.SIGTERM)
    until_replaced(server, pid)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.name == "boltws"
    assert "exit code 0" in warning.getMessage() and "Initiating Shutdown" in warning.getMessage()
    assert capfd.readouterr().out == ""


def test_it_comes_back_when_its_port_was_taken(tmp_path: Path, temp: Path) -> None:
    """Whoever takes the port in between only delays it: it is tried until the port is free."""
    attempts = tmp_path / "attempts"
    binary = program(
        tmp_path / "nats",
        f"""
        import os, sys
        with open({str(attempts)!r}, "a") as file:
            file.write("x")
        count = os.path.getsize({str(attempts)!r})
        if 1 < count < 4:
            sys.exit("[FTL] Error listening on port: address already in use")
        os.execv({str(find_server())!r}, sys.argv)
        """,
    )
    with EmbeddedServer(binary) as server:
        url, pid = server.url, server.pid
        os.kill(pid, signal.SIGKILL)
        until_replaced(server, pid)
        assert server.url == url
        assert attempts.read_text() == "xxxx"
        assert list(temp.iterdir()) == []


def test_stop_leaves_nothing(temp: Path) -> None:
    """When `stop` returns there is no process and no file; a second one does nothing."""
    server = EmbeddedServer()
    server.stop()
    with pytest.raises(NotRunning, match="not been started"):
        _ = server.pid
    server = EmbeddedServer()
    server.start()
    with pytest.raises(StartError, match="already"):
        server.start()
    pid, guard = server.pid, guard_of(server.pid)
    assert list(temp.iterdir()) == []
    server.stop()
    assert ps(pid, "pid") == ps(guard, "pid") == []
    assert list(temp.iterdir()) == []
    server.stop()


def test_stop_does_not_depend_on_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that does not answer is killed, and the server with it."""
    monkeypatch.setattr(embedded, "_GUARD_PATIENCE", 0.1)
    server = EmbeddedServer()
    server.start()
    pid, guard = server.pid, guard_of(server.pid)
    os.kill(guard, signal.SIGSTOP)
    server.stop()
    assert ps(guard, "pid") == []
    until_gone(pid)


def test_a_server_that_ends_at_once(tmp_path: Path, temp: Path) -> None:
    """The error has what the server said last, in one line, and how it ended."""
    binary = program(
        tmp_path / "nats",
        "import sys; print('one'); sys.exit('[FTL] no room on device')",
    )
    line = why_not(binary)
    assert "exit code 1" in line and "one | [FTL] no room on device" in line
    assert list(temp.iterdir()) == []


def test_a_server_that_does_not_come_up(
    tmp_path: Path, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that neither ends nor accepts connections is given up, and is killed."""
    monkeypatch.setattr(embedded, "PATIENCE", 1.0)
    mark = tmp_path / "pid"
    binary = program(
        tmp_path / "nats",
        f"""
        import os, signal
        print("thinking", flush=True)
        with open({str(mark)!r}, "w") as file:
            file.write(str(os.getpid()))
        signal.pause()
        """,
    )
    line = why_not(binary)
    assert "did not come up in 1 s" in line and "thinking" in line
    assert ps(int(mark.read_text()), "pid") == []
    assert list(temp.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "no program"])
def test_what_is_no_program(tmp_path: Path, temp: Path, kind: str) -> None:
    """A file that cannot be executed after all is named."""
    binary = tmp_path / "nats"
    if kind == "no program":
        binary.write_bytes(b"\x7fELF and nothing more")
        binary.chmod(0o755)
    why_not(binary)
    assert list(temp.iterdir()) == []


def test_a_guard_that_cannot_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its last words are in the error, where it has no server to tell of."""
    broken = tmp_path / "guard.py"
    broken.write_text("raise SystemExit('no such encoding')\n")
    monkeypatch.setattr(embedded.guard, "__file__", str(broken))
    assert "its guard ended: no such encoding" in why_not(find_server())
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert "its guard ended: [Errno 2]" in why_not(find_server())


def test_a_guard_killed_while_the_server_starts(tmp_path: Path, temp: Path) -> None:
    """The folder with the token is cleared away by whoever is left to do it."""
    mark = tmp_path / "pid"
    binary = program(
        tmp_path / "nats",
        f"""
        import os, signal
        if os.path.exists({str(mark)!r}):
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        with open({str(mark)!r}, "w") as file:
            file.write(str(os.getpid()))
        import sys
        os.execv({str(find_server())!r}, sys.argv)
        """,
    )
    with EmbeddedServer(binary) as server:
        pid = server.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server._trouble.startswith("its guard ended"), "the guard's death")
        mark.unlink()
        until_replaced(server, pid)
        assert list(temp.iterdir()) == []
