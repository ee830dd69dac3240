"""Fixtures: every process that a test starts is gone when the test is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from .nats_server import NatsCluster, NatsServer
from .node import Member, Node, acquainted
from .proxy import Proxy


class StartNodes(Protocol):
    """Start nodes at these URLs; returns when they know each other."""

    def __call__(self, *urls: str, **options: Any) -> Awaitable[list[Node]]: ...


Join = Callable[[Node, str], Awaitable[Member]]


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    yield server
    server.stop()


@pytest.fixture
def two_servers(tmp_path: Path) -> Iterator[NatsCluster]:
    cluster = NatsCluster(tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def proxy(nats: NatsServer) -> Iterator[Proxy]:
    """Stands before `nats`."""
    between = Proxy(nats.port)
    yield between
    between.stop()


@pytest.fixture
def start_nodes() -> Iterator[StartNodes]:
    started: list[Node] = []

    async def start(*urls: str, **options: Any) -> list[Node]:
        nodes = [Node(url, **options) for url in urls]
        started.extend(nodes)
        for node in nodes:
            await asyncio.to_thread(node.wait_until_up)
        await acquainted(*nodes)
        return nodes

    yield start
    for node in started:
        node.kill()


@pytest.fixture
async def join() -> AsyncIterator[Join]:
    """`await join(node, room)` gives a client that is in the room."""
    members: list[Member] = []

    async def enter(node: Node, room: str) -> Member:
        member = await node.member(room)
        members.append(member)
        return member

    yield enter
    await asyncio.gather(*(member.close() for member in members), return_exceptions=True)


@pytest.fixture(scope="package")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server for the tests that harm nothing."""
    server = NatsServer(tmp_path_factory.mktemp("nats"))
    yield server
    server.stop()


@pytest.fixture(scope="package")
def pair(shared_nats: NatsServer) -> Iterator[tuple[Node, Node]]:
    """Two nodes for the tests that harm nothing."""
    one, two = Node(shared_nats.url), Node(shared_nats.url)
    try:
        for node in (one, two):
            node.wait_until_up()
        asyncio.run(acquainted(one, two))
        yield one, two
    finally:
        one.kill()
        two.kill()
