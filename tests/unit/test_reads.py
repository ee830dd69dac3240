"""What one node answers of itself."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws import Bolt
from boltws.hub import Hub
from boltws.ids import id_source
from boltws.reads import answer

from .flow import Start


def plain() -> Bolt:
    bolt = Bolt()
    bolt.ws("/p")
    return bolt


async def test_answers(start: Start) -> None:
    """Of each kind, what there is."""
    flow = start(plain())
    one, two = flow.connect(), flow.connect()
    flow.bolt.ws_room_join("blue", two.id)
    flow.bolt.ws_room_join("blue", one.id)
    hub = flow.hub
    assert answer(hub, "room_count", {"room": "blue"}) == 2
    assert answer(hub, "room_members", {"room": "blue"}) == [two.id, one.id]
    assert answer(hub, "room_count", {"room": "none"}) == 0
    assert answer(hub, "room_members", {"room": "none"}) == []
    assert answer(hub, "connection_count", {}) == 2
    assert answer(hub, "client_list", {"limit": 9, "after": ""}) == sorted([one.id, two.id])
    assert answer(hub, "node", {}) == {
        "node": hub.node,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "connections": 2,
        "rooms": 1,
    }


async def test_nothing_is_made_by_asking(start: Start) -> None:
    """A room that is asked for is not there afterwards."""
    flow = start(plain())
    answer(flow.hub, "room_count", {"room": "blue"})
    answer(flow.hub, "room_members", {"room": "blue"})
    assert flow.hub.rooms == {}


@pytest.mark.parametrize("kind", ["", "of the future", "_node", "clients"])
def test_other_kinds(kind: str) -> None:
    """A kind that there is not is a KeyError."""
    with pytest.raises(KeyError):
        answer(Hub(), kind, {})


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("room_count", {}),
        ("room_members", {"room": "blue", "limit": 1}),
        ("client_list", {"limit": 1}),
        ("node", {"room": "blue"}),
    ],
)
def test_other_arguments(kind: str, about: dict[str, object]) -> None:
    """Too few or too many are a TypeError: the question is of another version."""
    with pytest.raises(TypeError):
        answer(Hub(), kind, about)


def hub_of(count: int) -> Hub:
    """A hub with ids of its own; the clients do not matter."""
    hub = Hub()
    hub.clients = {hub.next_id(): None for _ in range(count)}  # type: ignore[misc]
    return hub


@given(st.integers(0, 30), st.integers(1, 40), st.data())
def test_pages(count: int, limit: int, data: st.DataObject) -> None:
    """The first ids behind one, in order: behind none, one of ours, or one of another node."""
    hub = hub_of(count)
    _, foreign = id_source()
    after = data.draw(st.sampled_from(["", foreign(), *hub.clients]))
    page = answer(hub, "client_list", {"limit": limit, "after": after})
    assert page == sorted(client_id for client_id in hub.clients if client_id > after)[:limit]


@given(st.integers(1, 7), st.lists(st.integers(0, 8), min_size=1, max_size=4))
def test_pages_of_all(limit: int, counts: list[int]) -> None:
    """Page by page over several nodes, each id is there once, in order."""
    hubs = [hub_of(count) for count in counts]
    found: list[str] = []
    while True:
        about = {"limit": limit, "after": found[-1] if found else ""}
        pages = [answer(hub, "client_list", about) for hub in hubs]
        page = sorted(client_id for page in pages for client_id in page)[:limit]
        if not page:
            break
        found += page
    assert found == sorted(client_id for hub in hubs for client_id in hub.clients)
