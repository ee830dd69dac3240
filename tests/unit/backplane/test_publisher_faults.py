"""A publisher whose server is not there, does not let it in, dies, freezes or refuses."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from boltws.backplane.embedded import EmbeddedServer
from boltws.backplane.publisher import Publisher
from boltws.errors import BackplaneError

from .outside import PATIENCE, ear, nats_server

SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """nats-py and asyncio log nothing that a user would see, whatever happens."""
    yield
    loud = [
        record
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name != "boltws"
    ]
    assert loud == []


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def why_not(url: str, **options: Any) -> str:
    """Why it cannot connect: one line, without the secret."""
    with pytest.raises(BackplaneError) as raised:
        async with Publisher(url, **options):
            pass
    text = str(raised.value)
    assert "\n" not in text and SECRET not in text
    return text


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def freeze(pid: int) -> None:
    """Stop a process; return when all its threads stand still."""
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: _frozen(pid))


def _frozen(pid: int) -> bool:
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.exists():
        ps = ["ps", "-o", "stat=", "-p", str(pid)]
        return b"T" in subprocess.run(ps, capture_output=True).stdout
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()]
    return set(states) == {"T"}


async def for_ever(publisher: Publisher, message: str) -> None:
    """Publish until it fails."""
    async with asyncio.timeout(PATIENCE):
        while True:
            await publisher.broadcast(message)
            await asyncio.sleep(0)


async def until_published(publisher: Publisher, message: str) -> None:
    """Try until it is connected again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await publisher.broadcast(message)
                return await publisher.flush()
            except BackplaneError:
                await asyncio.sleep(0.01)


# Connecting.


async def test_nobody_listens() -> None:
    """Refused: at once, and by name of the server."""
    text = await why_not(f"nats://{SECRET}@127.0.0.1:1")
    assert text == "cannot connect to nats://127.0.0.1:1: connection refused"


async def test_localhost_has_two_addresses() -> None:
    """Both refuse, and that is one cause."""
    text = await why_not("nats://localhost:1")
    assert text == "cannot connect to nats://localhost:1: connection refused"


async def test_an_unknown_host() -> None:
    """The name is at fault, and the error says so."""
    assert "unknown host" in await why_not("nats://nowhere.invalid")


async def test_a_server_that_says_nothing(silent_port: int) -> None:
    """A host that swallows packets ends in an error when the time is over."""
    text = await why_not(f"nats://u:{SECRET}@127.0.0.1:{silent_port}", connect_timeout=0.2)
    assert text == f"cannot connect to nats://127.0.0.1:{silent_port}: no answer in 0.2 s"


async def test_something_else_listens() -> None:
    """A server that speaks another language."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 smtp\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "empty response" in await why_not(f"nats://127.0.0.1:{port}")


async def test_the_next_server(silent_port: int, tmp_path: Path) -> None:
    """One that is refused and one that is silent are passed over for one that answers."""
    with nats_server(tmp_path) as address:
        url = f"nats://127.0.0.1:1,nats://127.0.0.1:{silent_port},nats://{address}"
        async with ear(f"nats://{address}") as heard:
            async with Publisher(url, connect_timeout=3) as publisher:
                await publisher.broadcast("m")
            assert (await heard.next()).payload == b"m"


async def test_callers_share_one_attempt(silent_port: int) -> None:
    """Many tasks with one unreachable server: each fails when the first does."""
    publisher = Publisher(f"nats://127.0.0.1:{silent_port}", connect_timeout=0.2)
    async with asyncio.timeout(PATIENCE):
        errors = await asyncio.gather(
            *(publisher.broadcast("m") for _ in range(1000)), return_exceptions=True
        )
    assert {type(error) for error in errors} == {BackplaneError}
    await publisher.close()


# Credentials.


AUTHORIZATION = {
    "token": f"authorization {{ token: {SECRET} }}",
    "user": f"authorization {{ user: u, password: {SECRET} }}",
}


@pytest.mark.parametrize("kind", AUTHORIZATION)
async def test_credentials(tmp_path: Path, kind: str) -> None:
    """In the URL or beside it; with wrong ones or none it is not let in."""
    with nats_server(tmp_path, AUTHORIZATION[kind]) as address:
        url = f"nats://{address}"
        beside = {"token": SECRET} if kind == "token" else {"user": "u", "password": SECRET}
        within = SECRET if kind == "token" else f"u:{SECRET}"
        async with Publisher(url, **beside) as publisher:  # type: ignore[arg-type]
            await publisher.broadcast("m")
        async with Publisher(f"nats://{within}@{address}") as publisher:
            await publisher.broadcast("m")
        refused = f"cannot connect to {url}: not authorised"
        assert await why_not(url) == refused
        assert await why_not(url, **dict.fromkeys(beside, "wrong")) == refused


def openssl(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl")
    return folder / "cert.pem"


async def test_tls(tmp_path: Path) -> None:
    """With the CA file it is in; without, the error says what TLS did not like."""
    certificate = openssl(tmp_path)
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{tmp_path}/key.pem" }}'
    with nats_server(tmp_path, f"{tls}\n{AUTHORIZATION['token']}") as address:
        for url, options in [
            (f"tls://{SECRET}@{address}?ca={certificate}", {}),
            (f"nats://{SECRET}@{address}", {"tls": certificate}),
        ]:
            async with Publisher(url, **options) as publisher:  # type: ignore[arg-type]
                await publisher.broadcast("m")
                await publisher.flush()
        assert "TLS: self" in await why_not(f"tls://{SECRET}@{address}")


@pytest.mark.parametrize("login", [f"{SECRET}@", f"u:{SECRET}@", ""])
async def test_no_secret_without_tls(login: str) -> None:
    """To a `tls://` server that does not demand TLS, or somebody in between who says so, nothing
    is sent: neither the secret nor a message."""
    received = bytearray()
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","auth_required":true,"max_payload":100}\r\n')
        received.extend(await reader.read())
        writer.close()
        done.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        text = await why_not(f"tls://{login}127.0.0.1:{port}")
        await done.wait()
    assert text.endswith("TLS: the server does not offer it")
    assert received == b""


# A connection that is lost.


@asynccontextmanager
async def connected(server: EmbeddedServer, **options: Any) -> AsyncIterator[Publisher]:
    publisher = Publisher(server.url, token=server.token, **options)
    await publisher.broadcast("first")
    await publisher.flush()
    try:
        yield publisher
    finally:
        await publisher.close()


async def test_a_server_that_is_restarted() -> None:
    """While it is down each call fails at once and nothing is kept; then it goes on by itself."""
    with EmbeddedServer() as server:
        async with connected(server) as publisher:
            os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(BackplaneError, match="reconnecting"):
                await for_ever(publisher, "lost")
            await until_published(publisher, "back")
            async with ear(server.url, token=server.token) as heard:
                await publisher.broadcast("next")
                await publisher.flush()
                assert (await heard.next()).payload == b"next"
                assert heard.silent


async def test_what_was_lost_is_told() -> None:
    """Messages handed over before the connection was lost: the next flush says how many, once."""
    with EmbeddedServer() as server:
        async with connected(server) as publisher:
            await freeze(server.pid)
            try:
                for _ in range(3):
                    await publisher.broadcast("lost")
            finally:
                os.kill(server.pid, signal.SIGKILL)
            with pytest.raises(BackplaneError, match="lost: the last 3 messages"):
                await publisher.flush()
            await until_published(publisher, "back")


async def test_a_frozen_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers no ping, so a flush fails; and a publish waits for room, then fails too, so that
    memory does not grow."""
    monkeypatch.setattr("boltws.backplane.outside.FLUSH_TIMEOUT", 0.3)
    with EmbeddedServer() as server:
        async with connected(server, connect_timeout=0.5) as publisher:
            await freeze(server.pid)
            try:
                with pytest.raises(BackplaneError):
                    await for_ever(publisher, "x" * 100_000)
                with pytest.raises(BackplaneError, match="may not have arrived"):
                    await publisher.flush()
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until_published(publisher, "back")


async def test_a_frozen_server_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a publisher that has nothing to say for a while."""
    monkeypatch.setattr("boltws.backplane.outside._PING_EVERY", 0.05)
    with EmbeddedServer() as server:
        async with connected(server, connect_timeout=0.2) as publisher:
            await freeze(server.pid)
            try:
                session = publisher._connection._session
                assert session is not None
                await until(session.lost.done)
                assert session.lost.result() == "no answer in 0.2 s"
                with pytest.raises(BackplaneError, match="no answer"):
                    await publisher.broadcast("m")
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until_published(publisher, "back")


async def test_a_flush_that_is_given_up() -> None:
    """A caller that does not wait to the end does no harm: the answer comes late, and the
    connection goes on."""
    with EmbeddedServer() as server:
        async with connected(server) as publisher:
            session = publisher._connection._session
            await freeze(server.pid)
            try:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(publisher.flush(), 0.1)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await publisher.broadcast("m")
            await publisher.flush()
            assert publisher._connection._session is session


async def test_a_flush_covers_all_before_it() -> None:
    """The ping that the server answers does not overtake messages that wait for the network."""
    commands: list[bytes] = []
    reads = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","max_payload":1000000,"headers":true}\r\n')
        async for line in reader:
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
            commands.append(line[:4].strip())
            if commands == [b"CONN", b"PING"]:
                await reads.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20) as server:
        port = server.sockets[0].getsockname()[1]
        async with Publisher(f"nats://127.0.0.1:{port}") as publisher:
            session = publisher._connection._session
            assert session is not None
            while not session.client.pending_data_size:
                await publisher.broadcast("x" * 100_000)
                for _ in range(5):  # what can be written is written
                    await asyncio.sleep(0)
            sent = session.sent
            flushing = asyncio.create_task(publisher.flush())
            for _ in range(5):
                await asyncio.sleep(0)
            reads.set()
            await flushing
            assert commands.count(b"PUB") == sent
            assert commands[-1] == b"PING"


async def test_the_end_of_a_block_raises(tmp_path: Path) -> None:
    """`async with` ends with an error where messages may be lost, but not instead of another."""
    config = "authorization { users: [{ user: u, password: p, permissions: { publish: a.> } }] }"
    with nats_server(tmp_path, config) as address:
        url = f"nats://u:p@{address}"

        async def block(*messages: Any) -> None:
            async with Publisher(url) as publisher:
                for message in messages:
                    await publisher.broadcast(message)

        with pytest.raises(BackplaneError, match='(?i)refused .*permissions.*"boltws.x.all"'):
            await block("m")
        with pytest.raises(TypeError, match="a text message"):
            await block("m", 5)
        async with Publisher(url, prefix="a") as publisher:
            await publisher.broadcast("m")
