"""Every way of being let in by NATS, with a real server that lets nobody else in."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nkeys
import pytest

from boltws import BackplaneError, Bolt, Publisher
from boltws.backplane.nats import NatsBackplane

from ..process.harness import PATIENCE, self_signed
from ..unit.backplane.outside import nats_server
from ..unit.flow import Flow, turns_until

SECRET = "s3cret/&?#"  # what a URL must have encoded
ENCODED = "s3cret%2F%26%3F%23"

Serve = Callable[[str], str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a nats-server with a piece of configuration; gives its host and port."""
    with ExitStack() as stack:
        yield lambda access: stack.enter_context(nats_server(tmp_path, access))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return self_signed(tmp_path)


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
        address = serve(f"authorization {{ token: {json.dumps(SECRET)} }}")
        await speak(f"nats://{ENCODED}@{address}")
        await speak(f"nats://{address}", token=SECRET)
        assert "does not let us in" in await refused(f"nats://{address}", token="x" + SECRET)
        assert "does not let us in" in await refused(f"nats://x{ENCODED}@{address}")
    assert SECRET not in caplog.text and ENCODED not in caplog.text


async def test_user_and_password(serve: Serve) -> None:
    """In the URL or beside it."""
    address = serve(f"authorization {{ user: node, password: {json.dumps(SECRET)} }}")
    await speak(f"nats://node:{ENCODED}@{address}")
    await speak(f"nats://{address}", user="node", password=SECRET)
    assert "does not let us in" in await refused(f"nats://node:x{ENCODED}@{address}")


async def test_an_nkey(serve: Serve, tmp_path: Path) -> None:
    """A seed file: the server knows the public key alone."""
    key, other = key_pair(nkeys.PREFIX_BYTE_USER), key_pair(nkeys.PREFIX_BYTE_USER)
    (tmp_path / "seed").write_bytes(key.seed)
    (tmp_path / "other").write_bytes(other.seed)
    address = serve(f"authorization {{ users: [ {{ nkey: {key.public_key.decode()} }} ] }}")
    await speak(f"nats://{address}?nkey={tmp_path / 'seed'}")
    await speak(f"nats://{address}", nkey=tmp_path / "seed")
    assert "does not let us in" in await refused(f"nats://{address}", nkey=tmp_path / "other")


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
    address = serve(
        f"operator: {operator_jwt}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {public}: {account_jwt} }}"
    )
    await speak(f"nats://{address}?creds={tmp_path / 'user.creds'}")
    await speak(f"nats://{address}", creds=tmp_path / "user.creds")
    assert "does not let us in" in await refused(
        f"nats://{address}", creds=tmp_path / "other.creds"
    )


async def test_tls(serve: Serve, certificate: tuple[Path, Path]) -> None:
    """The server's certificate is checked; one that nobody vouches for is refused."""
    cert, key = certificate
    address = serve(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    await speak(f"tls://{address}?ca={cert}")
    await speak(f"nats://{address}", tls=cert)
    assert "certificate" in await refused(f"tls://{address}")


async def test_a_burst_over_tls(serve: Serve, certificate: tuple[Path, Path]) -> None:
    """To so many clients that reading pauses: it goes on, on the same connection, and each of them
    hears all of it."""
    cert, key = certificate
    address = serve(f'tls {{ cert_file: "{cert}", key_file: "{key}" }}')
    one, two = (Bolt(backplane=f"tls://{address}?ca={cert}") for _ in range(2))
    two.ws("/p")
    flow, other = Flow(two), Flow(one)
    try:
        for node in (flow, other):
            await node.runtime.connected()
        members = [flow.connect() for _ in range(2500)]
        for member in members:
            assert two.ws_room_join("r", member.id)
        assert await two.cluster.room_join("r", members[0].id, timeout=PATIENCE)
        said = [str(number) for number in range(20)]
        for message in said:
            one.ws_room_broadcast("r", message)
        await turns_until(lambda: len(members[-1].got) == len(said))
        assert all(member.got == said for member in members)
        assert two.stats().backplane_lost == 0
    finally:
        await one._runtime.drain()
        await two._runtime.drain()


async def test_what_a_publisher_outside_may(serve: Serve) -> None:
    """The permissions of the docs: outside it may publish under `x`, and cannot pass for a node."""
    address = serve(
        "authorization { users: [\n"
        '  { user: node, password: n, permissions: { publish: "boltws.>", '
        'subscribe: "boltws.>" } }\n'
        '  { user: reports, password: r, permissions: { publish: "boltws.x.>", '
        'subscribe: "_INBOX.>" } }\n'
        "] }"
    )
    bolt = Bolt(backplane=f"nats://node:n@{address}")
    bolt.ws("/p")
    flow = Flow(bolt)
    await flow.runtime.connected()
    member = flow.connect()
    async with Publisher(f"nats://reports:r@{address}") as publisher:
        await publisher.broadcast("news")
    await turns_until(lambda: member.got == ["news"])
    with pytest.raises(BackplaneError, match="(?i)permission"):
        async with Publisher(f"nats://reports:r@{address}", prefix="other") as publisher:
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
