"""The subjects that nodes and outside publishers use. Documented in docs/scaling.md: any NATS
client in any language may publish to those under ``x``.

Room names are always encoded: an unencoded room named ``*`` would receive every other room's
messages.
"""

from __future__ import annotations

import base64
import hashlib
import re

from ..ids import node_part

DEFAULT_PREFIX = "boltws"

_LONGEST = 96  # bytes of a room's name that is its own token; above it, a hash stands for it
_CLIENT_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def room_token(room: str) -> str:
    """The token that stands for a room in a subject."""
    name = room.encode()
    if len(name) <= _LONGEST:
        return "r" + encode_name(name)
    return "h" + encode_name(hashlib.sha256(name).digest())


def is_hashed(token: str) -> bool:
    """Whether the room's full name must travel beside its token."""
    return token.startswith("h")


def encode_name(name: bytes) -> str:
    """Base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(name).rstrip(b"=").decode()


def node_of(client_id: object) -> str | None:
    """The node that a client id was made on, ten hex digits; None for what is no client id."""
    if not isinstance(client_id, str) or not _CLIENT_ID.fullmatch(client_id):
        return None
    return node_part(client_id)


class Subjects:
    """All subjects under one prefix."""

    def __init__(self, prefix: str = DEFAULT_PREFIX) -> None:
        self.everyone = f"{prefix}.all"
        self.heartbeats = f"{prefix}.hb"
        self.outside_everyone = f"{prefix}.x.all"
        self.outside = f"{prefix}.x."
        self._prefix = prefix

    def room(self, token: str) -> str:
        """Where nodes publish for a room."""
        return f"{self._prefix}.r.{token}"

    def room_interest(self, token: str) -> str:
        """What a node with members of a room subscribes to: inside and outside at once."""
        return f"{self._prefix}.*.{token}"

    def node(self, node: str) -> str:
        """Where one node is spoken to."""
        return f"{self._prefix}.n.{node}"

    def outside_node(self, node: str) -> str:
        """What a node subscribes to for outside publishers that speak to one of its clients."""
        return f"{self._prefix}.x.*.{node}.*"

    def outside_room(self, token: str) -> str:
        """Where an outside publisher publishes for a room."""
        return f"{self._prefix}.x.{token}"

    def outside_client(self, verb: str, node: str, client_id: str) -> str:
        """Where an outside publisher sends ``to`` a client, or ``close``\\ s it."""
        return f"{self._prefix}.x.{verb}.{node}.{client_id}"
