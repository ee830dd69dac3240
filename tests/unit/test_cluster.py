"""`bolt.cluster` without a backplane: this process is all there is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from boltws import Bolt, NotRunning
from boltws.cluster import Cluster
from boltws.remote import Asked

from .flow import Start


def plain() -> Bolt:
    bolt = Bolt()
    bolt.ws("/p")
    return bolt


QUESTIONS: list[Callable[[Cluster], Awaitable[Any]]] = [
    lambda cluster: cluster.room_count("blue"),
    lambda cluster: cluster.room_members("blue"),
    lambda cluster: cluster.client_list(),
    lambda cluster: cluster.connection_count(),
    lambda cluster: cluster.nodes(),
    lambda cluster: cluster.room_join("blue", "nobody"),
]


async def test_answers(start: Start) -> None:
    """Each is complete, and nobody is missing."""
    bolt = plain()
    flow = start(bolt)
    one, two = flow.connect(), flow.connect()
    bolt.ws_room_join("blue", one.id)
    cluster = bolt.cluster
    assert await cluster.room_count("blue") == Asked(1, True, ())
    assert await cluster.room_members("blue") == ([one.id], True, ())
    assert await cluster.connection_count() == (2, True, ())
    ids = sorted([one.id, two.id])
    assert await cluster.client_list() == (ids, True, ())
    assert await cluster.client_list(limit=1) == (ids[:1], True, ())
    assert await cluster.client_list(after=ids[0]) == (ids[1:], True, ())
    nodes = await cluster.nodes()
    assert (nodes.complete, nodes.missing) == (True, ())
    assert [(node["node"], node["pid"]) for node in nodes.value] == [(flow.hub.node, os.getpid())]
    assert await cluster.room_count("none") == (0, True, ())
    assert await cluster.room_members("none") == ([], True, ())


async def test_names(start: Start) -> None:
    """What is asked has names as well."""
    start(plain())
    asked = Asked(value=1, complete=False, missing=("a",))
    value, complete, missing = asked
    assert (value, complete, missing) == (asked.value, asked.complete, asked.missing)


@pytest.mark.parametrize("timeout", [0, -1, 1e9])
async def test_no_time_is_needed(start: Start, timeout: float) -> None:
    """There is nobody to wait for."""
    bolt = plain()
    start(bolt)
    assert await bolt.cluster.connection_count(timeout=timeout) == (0, True, ())


async def test_room_join(start: Start) -> None:
    """It is `ws_room_join`: done when it returns; False where there is no such client."""
    bolt = plain()
    client = start(bolt).connect()
    assert await bolt.cluster.room_join("blue", client.id) is True
    assert bolt.ws_room_members("blue") == [client.id]
    assert await bolt.cluster.room_join("blue", "nobody") is False
    client.leaves()
    assert await bolt.cluster.room_join("blue", client.id) is False


@pytest.mark.parametrize("limit", [0, -1])
async def test_no_limit(start: Start, limit: int) -> None:
    """A page has one id at least."""
    bolt = plain()
    start(bolt)
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        await bolt.cluster.client_list(limit=limit)


@pytest.mark.parametrize(
    ("room", "error"), [("", ValueError), ("x" * 1025, ValueError), (None, TypeError)]
)
async def test_no_name_of_a_room(start: Start, room: Any, error: type[Exception]) -> None:
    """As everywhere: 1 to 1,024 UTF-8 bytes."""
    bolt = plain()
    client = start(bolt).connect()
    with pytest.raises(error, match="a room's name"):
        await bolt.cluster.room_count(room)
    with pytest.raises(error, match="a room's name"):
        await bolt.cluster.room_members(room)
    with pytest.raises(error, match="a room's name"):
        await bolt.cluster.room_join(room, client.id)


@pytest.mark.parametrize("ask", QUESTIONS)
async def test_before_the_start_and_after_the_stop(
    start: Start, ask: Callable[[Cluster], Awaitable[Any]]
) -> None:
    """NotRunning, as of every operation."""
    bolt = plain()
    with pytest.raises(NotRunning):
        await ask(bolt.cluster)
    flow = start(bolt)
    await ask(bolt.cluster)
    await flow.end()
    with pytest.raises(NotRunning):
        await ask(bolt.cluster)


@pytest.mark.parametrize("ask", QUESTIONS)
async def test_on_another_loop(start: Start, ask: Callable[[Cluster], Awaitable[Any]]) -> None:
    """NotRunning as well: the answers come on Bolt's own."""
    bolt = plain()
    start(bolt)

    async def elsewhere() -> None:
        with pytest.raises(NotRunning, match="the server's own event loop"):
            await ask(bolt.cluster)

    await asyncio.to_thread(lambda: asyncio.run(elsewhere()))


async def test_nothing_of_nats_is_loaded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a backplane there is none: the hub knows of no other nodes."""
    monkeypatch.delenv("BOLTWS_BACKPLANE", raising=False)
    bolt = plain()
    flow = start(bolt)
    assert flow.hub.remote is None
    stats = bolt.stats()
    assert (stats.backplane_published, stats.backplane_received, stats.backplane_lost) == (0, 0, 0)
    assert stats.backplane_dropped == {}
