"""Client ids: UUIDs of version 8 (RFC 9562, section 5.8).

::

    40 bits node | 8 bits random | 4 bits version | 12 bits random | 2 bits variant | 62 bits random

The node part names the process that holds the client, so that a message to it is routed without
a directory. The 82 random bits make an id unguessable, yet it routes and never authorises.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_POOL = 256  # ids made from one call for random bytes: a call each costs as much as the rest


def node_part(client_id: str) -> str:
    """The node part of a client id, ten hex digits."""
    return client_id[:8] + client_id[9:11]


def id_source() -> tuple[str, Callable[[], str]]:
    """A new node part, ten hex digits, and a function that gives an id with it at each call."""
    node = os.urandom(5).hex()
    pool: list[str] = []

    def refill() -> None:
        noise = os.urandom(11 * _POOL).hex()
        for start in range(0, 22 * _POOL, 22):
            n = noise[start : start + 22]
            variant = "89ab"[int(n[5], 16) & 3]
            pool.append(f"{node[:8]}-{node[8:]}{n[:2]}-8{n[2:5]}-{variant}{n[6:9]}-{n[9:21]}")

    def next_id() -> str:
        if not pool:
            refill()
        return pool.pop()

    return node, next_id
