"""What a NATS server sends, read in place: messages taken out, all else passed on."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws.backplane.inbound import Inbound

Taken = tuple[int, bytes, bytes, bytes | None]


class Transport:
    """The reading side of a connection."""

    def __init__(self) -> None:
        self.paused = False
        self.closing = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closing


class Stream:
    """A stream that is tapped: what was taken, and what was passed on."""

    def __init__(self, early: bytes = b"", deliveries: int = 0, writes: int = 0) -> None:
        self.reader = asyncio.StreamReader(loop=asyncio.new_event_loop())
        self.reader._loop.close()  # type: ignore[attr-defined]
        self.transport = Transport()
        self.taken: list[Taken] = []
        self.deliveries = deliveries
        if early:
            self.reader.feed_data(early)
        transport: Any = self.transport
        Inbound(self.reader, transport, self._take, lambda: writes)

    def _take(self, *message: Any) -> int:
        self.taken.append(message)
        return self.deliveries

    def feed(self, data: bytes) -> None:
        if data:
            self.reader.feed_data(data)

    @property
    def passed(self) -> bytes:
        return bytes(self.reader._buffer)  # type: ignore[attr-defined]


def message(sid: int, payload: bytes, headers: bytes = b"", reply: bytes = b"") -> bytes:
    head = b" ".join(filter(None, [b"a.b", b"%d" % sid, reply]))
    if headers:
        sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
        return b"HMSG %s %s\r\n%s%s\r\n" % (head, sizes, headers, payload)
    return b"MSG %s %d\r\n%s\r\n" % (head, len(payload), payload)


HEADERS = st.sampled_from([b"", b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nBoltws-Type: binary\r\n\r\n"])
REPLIES = st.sampled_from([b"", b"_INBOX.x"])
MESSAGES = st.tuples(st.integers(1, 10**6), st.binary(max_size=300), HEADERS, REPLIES)
OTHERS = st.sampled_from(
    [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"a":1}\r\n', b"-ERR 'Permissions'\r\n"]
)


@given(st.lists(MESSAGES | OTHERS, max_size=20), st.lists(st.integers(0, 3000)), st.booleans())
def test_any_split_gives_the_same(items: list[Any], cuts: list[int], early: bool) -> None:
    """However the bytes come, and if some came before the tap: each message is taken once, whole
    and in order, and all else is passed on as it was."""
    data = b"".join(item if isinstance(item, bytes) else message(*item) for item in items)
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    stream = Stream(early=pieces.pop(0) if early and pieces else b"")
    for piece in pieces:
        stream.feed(piece)
    messages = [item for item in items if not isinstance(item, bytes)]
    assert stream.taken == [(s, b"a.b", payload, h or None) for s, payload, h, _ in messages]
    assert stream.passed == b"".join(item for item in items if isinstance(item, bytes))


def test_a_large_message_is_joined_once() -> None:
    """A megabyte in small reads is whole in the end, and what follows is read."""
    stream = Stream()
    payload = bytes(range(256)) * 4096
    data = message(1, payload) + message(2, b"next")
    for start in range(0, len(data), 1000):
        stream.feed(data[start : start + 1000])
    assert [(sid, body) for sid, _, body, _ in stream.taken] == [(1, payload), (2, b"next")]


@pytest.mark.parametrize(
    "bad",
    [
        b"MSG a\r\n",
        b"MSG a 1\r\nx\r\n",
        b"MSG a x 3\r\n...\r\n",
        b"MSG a 1 3x\r\n",
        b"MSG a b c 1 1\r\nx\r\n",
        b"MSG a 1 b c 1\r\nx\r\n",
        b"HMSG a 1\r\n",
        b"HMSG a 1 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"HMSG a 1 b c 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    ],
)
def test_what_is_no_nats_is_left_to_nats_py(bad: bytes) -> None:
    """It is passed on in a form that nats-py's own parser refuses, which then reconnects."""
    stream = Stream()
    stream.feed(message(1, b"good") + bad)
    assert len(stream.taken) == 1
    assert stream.passed == b"no NATS\r\n"


@pytest.mark.parametrize("white", [b"\x0b", b"\x0c", b"\xc2\xa0"])
@pytest.mark.parametrize("headers", [b"", b"NATS/1.0\r\n\r\n"])
def test_white_space_in_a_subject(white: bytes, headers: bytes) -> None:
    """It is part of the subject: whoever may publish it cannot pass for another subscription."""
    stream = Stream()
    subject = b"a" + white + b"7"
    stream.feed(message(1, b"x", headers).replace(b"a.b", subject))
    assert stream.passed == b""
    assert stream.taken == [(1, subject, b"x", headers or None)]


@pytest.mark.parametrize(
    ("deliveries", "writes", "pauses"),
    [(1000, 1000, False), (1000, 2001, True), (20_000, 1000, True), (1, 10**6, False)],
)
async def test_others_have_their_turn(deliveries: int, writes: int, pauses: bool) -> None:
    """Many deliveries are one write a client, so it is writes that count; when there are too many
    the rest waits, with reading paused, for the next turn of the loop."""
    stream = Stream(deliveries=deliveries, writes=writes)
    stream.feed(b"".join(message(n, b"x") for n in range(8)))
    assert (len(stream.taken) < 8) == pauses
    assert stream.transport.paused == pauses
    while len(stream.taken) < 8:
        await asyncio.sleep(0)
    assert [sid for sid, *_ in stream.taken] == list(range(8))
    assert not stream.transport.paused


async def test_a_connection_that_ends_while_it_waits() -> None:
    """What waited is dropped with it: the numbers tell the others' loss."""
    stream = Stream(deliveries=20_000, writes=5000)
    stream.feed(b"".join(message(n, b"x") for n in range(8)))
    taken = len(stream.taken)
    stream.transport.closing = True
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(stream.taken) == taken < 8
