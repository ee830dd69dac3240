"""What holds of the reader for any bytes, in any pieces, and of the channel for any handlers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from boltws import Event

from ..fakes import in_virtual_time, passing, turn
from .helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    Sent,
    close,
    echo,
    frame,
    serving,
    text,
)
from .oracle import Verdict, judge

MAX_SIZE = 100_000
MAX_FRAGMENTS = 12
thorough = settings(max_examples=200, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _handlers_raise_in_silence() -> Iterator[None]:
    logger = logging.getLogger("boltws")
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(logging.NOTSET)


# Streams.

masks = st.binary(min_size=4, max_size=4)
controls = st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), mask=masks)
sized = st.sampled_from([125, 126, 127, 65535, 65536, 70000]).map(lambda size: b"z" * size)
payloads = {TEXT: st.text(max_size=40).map(str.encode) | sized, BINARY: st.binary() | sized}


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A whole message: in one frame or in several, cut anywhere, with control frames between."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    payload = draw(payloads[opcode])
    cuts = draw(st.lists(st.integers(0, len(payload)), max_size=5))
    pieces = list(split(payload, cuts))
    stream = b""
    for index, piece in enumerate(pieces):
        fin = index == len(pieces) - 1
        stream += frame(opcode if index == 0 else CONTINUATION, piece, fin, draw(masks))
        if not fin and draw(st.booleans()):
            stream += draw(controls)
    return stream


def split(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data` in pieces, some of them empty where two cuts are the same."""
    for start, stop in pairwise([0, *sorted(cuts), len(data)]):
        yield data[start:stop]


valid_streams = st.builds(
    lambda parts, end: b"".join(parts) + end,
    st.lists(messages() | controls, max_size=8),
    st.sampled_from([b"", b"", close(), close(None), close(4000, "née".encode())]),
)
whatever_frames = st.builds(
    frame,
    st.integers(0, 15),
    st.binary(max_size=130),
    st.booleans(),
    st.none() | masks,
    rsv=st.sampled_from([0, 0, 0, 0, 1, 2, 4]),
    size=st.none() | st.sampled_from([0, 5, 125, 126, MAX_SIZE, MAX_SIZE + 1, 2**63 - 1, 2**63]),
)


@st.composite
def broken_streams(draw: st.DrawFn) -> bytes:
    """A valid stream with some bytes changed, lost, doubled or put in."""
    stream: bytes = draw(valid_streams)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(len(stream) - 1, 0)))
        span = draw(st.integers(0, 4))
        put_in = draw(st.binary(max_size=4) | st.just(stream[at : at + 20]))
        stream = stream[:at] + put_in + stream[at + span :]
    return stream


any_streams = st.one_of(
    broken_streams(),
    st.binary(max_size=200),
    st.lists(whatever_frames, max_size=6).map(b"".join),
    st.builds(lambda a, b: a + b, valid_streams, whatever_frames),
)
reads = st.just("bytes") | st.lists(st.floats(0, 1), max_size=20)


def in_reads(stream: bytes, how: Any) -> list[bytes]:
    """The stream as so many reads: every byte by itself, or cut at these fractions of it."""
    if how == "bytes" and len(stream) < 3000:
        return [stream[i : i + 1] for i in range(len(stream))]
    cuts = [] if how == "bytes" else [round(fraction * len(stream)) for fraction in how]
    return [piece for piece in split(stream, cuts) if piece]


async def feed(peer: Peer, pieces: list[bytes]) -> None:
    for piece in pieces:
        peer.transport.receive(piece)
        await peer.read_all()
    await turn()
    await turn()


def kinds(frames: list[Sent]) -> tuple[list[Sent], list[Sent], list[Sent]]:
    """Messages, pongs and closes, each in their order. A pong may overtake an answer."""
    return (
        [sent for sent in frames if sent.opcode < CLOSE],
        [sent for sent in frames if sent.opcode == PONG],
        [sent for sent in frames if sent.opcode == CLOSE],
    )


def assert_sent(peer: Peer, verdict: Verdict) -> None:
    """The server did what the verdict says, and no more."""
    echoes, pongs, closes = kinds(peer.frames)
    wanted_echoes, wanted_pongs, _ = kinds(verdict.sent)
    assert echoes == wanted_echoes
    assert pongs == wanted_pongs
    if verdict.close is None:
        assert closes == []
        peer.assert_open()
    elif verdict.failed:
        peer.assert_failed(verdict.close)
    else:
        peer.assert_sent_close(verdict.close)


@thorough
@given(valid_streams, reads)
@example(b"".join(text(str(n)) for n in range(300)), [])
@in_virtual_time
async def test_any_split_into_reads_gives_the_same_events(stream: bytes, how: Any) -> None:
    """However a valid stream arrives, the same messages, pongs and close come of it."""
    verdict = judge(stream, MAX_SIZE, MAX_FRAGMENTS)
    assert not verdict.failed
    async with serving(echo, max_message_size=MAX_SIZE, max_fragments=MAX_FRAGMENTS) as served:
        peer = served.connect()
        await feed(peer, in_reads(stream, how))
        assert_sent(peer, verdict)


@settings(thorough, max_examples=400)
@given(any_streams, reads)
@in_virtual_time
async def test_any_bytes_give_events_or_one_close(stream: bytes, how: Any) -> None:
    """Whatever comes, in whatever pieces: what is right is handled, the first thing that is wrong
    ends it with the one code for it, and nothing is raised. The books balance."""
    verdict = judge(stream, MAX_SIZE, MAX_FRAGMENTS)
    async with serving(echo, max_message_size=MAX_SIZE, max_fragments=MAX_FRAGMENTS) as served:
        peer = served.connect()
        await feed(peer, in_reads(stream, how))
        assert_sent(peer, verdict)
        if verdict.failed:
            assert verdict.close in (1002, 1007, 1009)
        assert served.stats.received == served.stats.handled == len(kinds(verdict.sent)[0])


# Handlers of all kinds.

KINDS = ["sync", "async", "long", "raises", "raises later", "aborted", "aborted later", "closes"]


async def _later(event: Event) -> None:
    await asyncio.sleep(2 if event.message == "long" else 0)
    if event.message == "raises later":
        raise ValueError(event.message)


def _said(event: Event) -> Any:
    if event.message in ("async", "long", "raises later"):
        return _later(event)
    if event.message == "raises":
        raise ValueError(event.message)
    if event.message == "closes":
        event.close()
    return None


def _guard(event: Event) -> Any:
    if event.message == "aborted":
        event.abort()
    return _abort_later(event) if event.message == "aborted later" else None


async def _abort_later(event: Event) -> None:
    await asyncio.sleep(0)
    event.abort()


channels = st.fixed_dictionaries(
    {},
    optional={
        "overflow": st.sampled_from(["drop", "drop_oldest", "pause", "close"]),
        "channel_capacity": st.integers(1, 5),
        "channel_bytes": st.integers(1, 30),
        "error_policy": st.sampled_from(["keep", "close"]),
        "handler_timeout": st.sampled_from([1.0, 10.0]),
        "rate_limit": st.tuples(st.integers(1, 5), st.floats(0.1, 2)),
        "rate_policy": st.sampled_from(["pause", "drop", "close"]),
    },
)
# Batches that come in one read each, and how long it takes until the next one.
batch = st.lists(st.sampled_from(KINDS), max_size=8) | st.sampled_from(KINDS).map(
    lambda kind: [kind] * 100  # more than a turn takes
)
batches = st.lists(st.tuples(batch, st.sampled_from([0, 0, 0.01, 3])), max_size=8)
ends = st.sampled_from(["", "peer closes", "we close", "violation", "shutdown"])


@thorough
@given(batches, channels, batch, ends, st.booleans())
@example([], {}, ["sync"] * 200, "", True)
@example([(["long"], 0)], {"overflow": "pause"}, ["sync"] * 200, "shutdown", False)
@in_virtual_time
async def test_every_message_is_accounted_for(
    batches: list[tuple[list[str], float]],
    channel: dict[str, Any],
    last: list[str],
    end: str,
    lost: bool,
) -> None:
    """Whatever handlers do, in whatever order, under whatever policy and with whatever end: all
    that was received was handled, failed, was aborted, timed out, or is counted under a cause, and
    `connect` was first and `disconnect` last, both once."""
    async with serving(_said, ping_interval=None, **channel) as served:
        served.runtime.stop()  # the guard is registered before the start
        served.endpoint.before(_guard)
        served.runtime.start()
        peer = served.connect()
        for kinds_of_batch, seconds in batches:
            peer.transport.receive(b"".join(map(text, kinds_of_batch)))
            await passing(seconds)
            assert served.stats.imbalance() == ""
        last_words = {"peer closes": close(), "violation": frame(3)}.get(end, b"")
        peer.transport.receive(b"".join(map(text, last)) + last_words)
        if end == "shutdown":
            await served.runtime.drain()
        elif end == "we close":
            served.bolt.ws_close_client(peer.id)
        if lost:
            peer.transport.lose()
        assert served.stats.imbalance() == ""
        for _ in range(300):
            stats = served.stats
            if not (stats.running or stats.waiting or peer.wire.tail):
                break
            await passing(30)
        await passing(60)
        stats = served.stats
        assert (stats.waiting, stats.running) == (0, 0)
        over = stats.handled + stats.failed + stats.aborted + stats.timed_out
        assert stats.received == over + sum(stats.dropped_in.values())
        if channel.get("overflow") == "pause" and "rate_limit" not in channel:
            assert stats.dropped_in.keys() <= {"closed", "shutdown"}


@thorough
@given(st.sampled_from([0, 125, 126, 65535, 65536]), st.sampled_from([TEXT, BINARY]), masks)
@in_virtual_time
async def test_a_message_comes_back_as_it_went(size: int, opcode: int, mask: bytes) -> None:
    """A message of any size goes in masked and comes out unmasked, in the shortest form."""
    payload = (b"0123456789" * (size // 10 + 1))[:size]
    async with serving(echo) as served:
        peer = served.connect()
        peer.send(frame(opcode, payload, mask=mask))
        await turn()
        assert peer.frames == [Sent(opcode, payload)]
