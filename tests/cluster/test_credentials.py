"""Every way of being let in by NATS, with a real server that lets nobody else in."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nkeys
import pytest

from boltws import BackplaneError, Bolt, Publisher
from boltws.backplane.nats import NatsBackplane

from ..process.harness import PATIENCE, eventually
from ..unit.flow import Flow, turns_until
from .nats_server import _binary

SECRET = "s3cret/&?#"  # what a URL must have encoded
ENCODED = "s3cret%2F%26%3F%23"

Serve = Callable[[str], int]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a nats-server with a piece of configuration; gives its port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(access: str) -> int:
        config = tmp_path / "nats.conf"
        config.write_text(
            f'host: "127.0.0.1"\nport: -1\nports_file_dir: {json.dumps(str(tmp_path))}\n{access}\n'
        )
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen([_binary(), "-c", str(config)], stdout=log, stderr=log)
        started.append(process)

        def ports() -> str:
            assert process.poll() is None, (tmp_path / "log").read_text()
            found = list(tmp_path.glob("*.ports"))
            return found[0].read_text() if found else ""

        eventually(lambda: ports().endswith("}"), "a nats-server that accepts connections")
        return int(json.loads(ports())["nats"][0].rpartition(":")[2])

    yield start
    for process in started:
        process.kill()
        process.wait(PATIENCE)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    assert openssl is not None, "there is no openssl to make a certificate with"
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


async def speak(url: str, **credentials: Any) -> None:
    """Two nodes and a publisher outside are let in, and are heard."""
    one = Flow(Bolt(backplane=NatsBackplane(url, **credentials)))
    two_bolt = Bolt(backplane=NatsBackplane(url, **credentials))
    two_bolt.ws("/p")
    two = Flow(two_bolt)
    try:
        for flow in (one, two):
            await flow.runtime.connected()
        member = two.connect()
        assert await two.bolt.cluster.room_join("r", member.id, timeout=PATIENCE)
        one.bolt.ws_room_broadcast("r", "from a node")
        async with Publisher(url, **credentials) as publisher:
            await publisher.room_broadcast("r", "from outside")
        await turns_until(lambda: len(member.got) == 2)
        assert sorted(map(str, member.got)) == ["from a node", "from outside"]
    finally:
        await one.bolt._runtime.drain()
        await two.bolt._runtime.drain()


async def refused(url: str, **credentials: Any) -> str:
    """Neither a node nor a publisher is let in; what the node is told."""
    bolt = Bolt(backplane=NatsBackplane(url, connect_timeout=2, **credentials))
    flow = Flow(bolt)
    with pytest.raises(BackplaneError) as told:
        await flow.runtime.connected()
    flow.runtime.stop()
    with pytest.raises(BackplaneError) as outside:
        async with Publisher(url, connect_timeout=2, **credentials):
            pass
    for error in (told, outside):
        assert SECRET not in str(error.value) and ENCODED not in str(error.value)
        assert "\n" not in str(error.value)
    return str(told.value)


async def test_a_token(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """In the URL or beside it; a wrong one is refused, and no secret is logged."""
    with caplog.at_level(logging.DEBUG):
        port = serve(f"authorization {{ token: {json.dumps(SECRET)} }}")
        await speak(f"nats://{ENCODED}@127.0.0.1:{port}")
        await speak(f"nats://127.0.0.1:{port}", token=SECRET)
        assert "uthoriz" in await refused(f"nats://127.0.0.1:{port}", token="x" + SECRET)
        assert "uthoriz" in await refused(f"nats://x{ENCODED}@127.0.0.1:{port}")
    assert SECRET not in caplog.text and ENCODED not in caplog.text


async def test_user_and_password(serve: Serve) -> None:
    """In the URL or beside it."""
    port = serve(f"authorization {{ user: node, password: {json.dumps(SECRET)} }}")
    await speak(f"nats://node:{ENCODED}@127.0.0.1:{port}")
    await speak(f"nats://127.0.0.1:{port}", user="node", password=SECRET)
    assert "uthoriz" in await refused(f"nats://node:x{ENCODED}@127.0.0.1:{port}")


async def test_an_nkey(serve: Serve, tmp_path: Path) -> None:
    """A seed file: the server knows the public key alone."""
    key, other = key_pair(nkeys.PREFIX_BYTE_USER), key_pair(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "seed").write_bytes(key.seed)
    (tmp_path / "other").write_bytes(other.seed)
    port = serve(f"authorization {{ users: [ {{ nkey: {key.public_key.decode()} }} ] }}")
    await speak(f"nats://127.0.0.1:{port}?nkey={tmp_path / 'seed'}")
    await speak(f"nats://127.0.0.1:{port}", nkey=tmp_path / "seed")
    assert "uthoriz" in await refused(f"nats://127.0.0.1:{port}", nkey=tmp_path / "other")


async def test_a_credentials_file(serve: Serve, tmp_path: Path) -> None:
    """A JWT and its seed, as `nsc` writes them: the server trusts the operator's key."""
    operator = key_pair(nkeys.PREFIX_BYTE_OPERATOR)
    account = key_pair(nkeys.PREFIX_BYTE_ACCOUNT)
    user, stranger = key_pair(nkeys.PREFIX_BYTE_USER), key_pair(nkeys.PREFIX_BYTE_USER)
    unlimited = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1}
    limits = {**unlimited, "payload": -1, "wildcards": True}
    operator_jwt = jwt(operator, operator, {"type": "operator", "version": 2})
    account_jwt = jwt(operator, account, {"type": "account", "version": 2, "limits": limits})
    claims = {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}
    for name, signer in (("user.creds", account), ("other.creds", stranger)):
        (tmp_path / name).write_text(creds(jwt(signer, user, claims), user.seed.decode()))
    public = account.public_key.decode()
    port = serve(
        f"operator: {operator_jwt}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {public}: {account_jwt} }}"
    )
    await speak(f"nats://127.0.0.1:{port}?creds={tmp_path / 'user.creds'}")
    await speak(f"nats://127.0.0.1:{port}", creds=tmp_path / "user.creds")
    assert "uthoriz" in await refused(f"nats://127.0.0.1:{port}", creds=tmp_path / "other.creds")


async def test_tls(serve: Serve, certificate: tuple[Path, Path]) -> None:
    """The server's certificate is checked; one that nobody vouches for is refused."""
    cert, key = certificate
    port = serve(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    await speak(f"tls://127.0.0.1:{port}?ca={cert}")
    await speak(f"nats://127.0.0.1:{port}", tls=cert)
    assert "certificate" in await refused(f"tls://127.0.0.1:{port}")


async def test_what_a_publisher_outside_may(serve: Serve) -> None:
    """The permissions of the docs: outside it may publish under `x`, and cannot pass for a node."""
    port = serve(
        "authorization { users: [\n"
        '  { user: node, password: n, permissions: { publish: "boltws.>", '
        'subscribe: "boltws.>" } }\n'
        '  { user: reports, password: r, permissions: { publish: "boltws.x.>", '
        'subscribe: "_INBOX.>" } }\n'
        "] }"
    )
    bolt = Bolt(backplane=f"nats://node:n@127.0.0.1:{port}")
    bolt.ws("/p")
    flow = Flow(bolt)
    await flow.runtime.connected()
    member = flow.connect()
    async with Publisher(f"nats://reports:r@127.0.0.1:{port}") as publisher:
        await publisher.broadcast("news")
    await turns_until(lambda: member.got == ["news"])
    with pytest.raises(BackplaneError, match="(?i)permission"):
        async with Publisher(f"nats://reports:r@127.0.0.1:{port}", prefix="other") as publisher:
            await publisher.broadcast("news")
    await flow.runtime.drain()


def key_pair(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), kind))


def jwt(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, nats: dict[str, Any]) -> str:
    """A NATS JWT, version 2: https://docs.nats.io/running-a-nats-service/nats_admin/security/jwt"""
    claims: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": "test",
        "nats": nats,
    }
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode()
    parts = [part(json.dumps(x).encode()) for x in ({"typ": "JWT", "alg": "ed25519-nkey"}, claims)]
    signed = ".".join(parts)
    return f"{signed}.{part(issuer.sign(signed.encode()))}"


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def creds(token: str, seed: str) -> str:
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
