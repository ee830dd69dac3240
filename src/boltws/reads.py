"""What one node knows, asked by name: the parts of which answers about all nodes are made."""

from __future__ import annotations

import heapq
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from .hub import Hub
from .ids import node_part


def answer(hub: Hub, kind: str, about: Mapping[str, Any]) -> Any:
    """This node's answer. Raises ``KeyError`` for a kind of question that it does not know."""
    return _ANSWERS[kind](hub, **about)


def _room_count(hub: Hub, room: str) -> int:
    return len(hub.rooms.get(room, ()))


def _room_members(hub: Hub, room: str) -> list[str]:
    return [client.id for client in hub.rooms.get(room, ())]


def _client_list(hub: Hub, limit: int, after: str) -> list[str]:
    # All ids of a node begin alike, so most nodes see at once that they have none.
    if after and hub.node < node_part(after):
        return []
    return heapq.nsmallest(limit, (client_id for client_id in hub.clients if client_id > after))


def _connection_count(hub: Hub) -> int:
    return len(hub.clients)


def _node(hub: Hub) -> dict[str, Any]:
    return {
        "node": hub.node,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "connections": len(hub.clients),
        "rooms": len(hub.rooms),
    }


_ANSWERS: dict[str, Callable[..., Any]] = {
    "room_count": _room_count,
    "room_members": _room_members,
    "client_list": _client_list,
    "connection_count": _connection_count,
    "node": _node,
}
