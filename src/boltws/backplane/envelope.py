"""What travels between nodes: a fixed binary head, then what the operation needs, then the payload.

::

    version u8 | operation u8 | flags u8 | node 5 bytes | series u32 | sequence u64 | ...

All numbers are big-endian. `sequence` numbers what a node publishes to one subject, from 1 in each
`series`; 0 is for what is not counted (questions and their answers). With `EXCLUDE` a u16 count
and that many 16-byte client ids follow the head, with `NAME` a u16 length and a room's name.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error
from typing import NamedTuple
from uuid import UUID

from .. import frames

VERSION = 1

ROOM, EVERYONE, SEND, CLOSE, JOIN, LEAVE, ASK, ANSWER, BEAT, BYE = range(1, 11)
BINARY, EXCLUDE, NAME = 1, 2, 4

HEAD = Struct("!BBB5sIQ")
SIZE = HEAD.size
pack_head = HEAD.pack
unpack_head = HEAD.unpack_from

_U16 = Struct("!H")
_ID = 16  # bytes of a client id
MOST_EXCLUDED = 2**16 - 1


class BadMessage(ValueError):
    """Bytes that are no envelope of ours."""


class Extras(NamedTuple):
    """What stands between head and payload."""

    exclude: tuple[str, ...]
    name: str
    payload: bytes


def unframe(frame: bytes) -> tuple[int, bytes]:
    """The flags for a message, and its payload."""
    opcode, payload = frames.split(frame)
    return BINARY if opcode == frames.BINARY else 0, payload


def pack_exclude(client_ids: Iterable[str]) -> bytes:
    """Ids to leave out; what is no UUID names no client, and is left off."""
    packed = []
    for client_id in client_ids:
        try:
            packed.append(pack_id(client_id))
        except (ValueError, AttributeError, TypeError):  # None, say, or bytes
            continue
    return _U16.pack(len(packed)) + b"".join(packed)


def pack_id(client_id: str) -> bytes:
    """A client id as 16 bytes. Raises ``ValueError`` for what is none."""
    packed = bytes.fromhex(client_id.replace("-", ""))
    if len(packed) != _ID or len(client_id) != 36:
        raise ValueError("no client id")
    return packed


def unpack_id(data: bytes) -> str:
    """The client id at the start of `data`."""
    if len(data) < _ID:
        raise BadMessage("no client id")
    return str(UUID(bytes=data[:_ID]))


def pack_name(room: str) -> bytes:
    """A room's name with its length."""
    name = room.encode()
    return _U16.pack(len(name)) + name


def unpack_extras(flags: int, data: bytes) -> Extras:
    """What follows the head. Raises :class:`BadMessage`."""
    at = SIZE
    exclude: tuple[str, ...] = ()
    name = ""
    try:
        if flags & EXCLUDE:
            (count,) = _U16.unpack_from(data, at)
            at += 2
            stop = at + count * _ID
            exclude = tuple(unpack_id(data[i : i + _ID]) for i in range(at, stop, _ID))
            at = stop
        if flags & NAME:
            (size,) = _U16.unpack_from(data, at)
            at += 2 + size
            name = data[at - size : at].decode()
            if not name or at > len(data):
                raise BadMessage("a name is cut off")
    except (error, UnicodeDecodeError) as bad:
        raise BadMessage(str(bad)) from None
    return Extras(exclude, name, data[at:])
