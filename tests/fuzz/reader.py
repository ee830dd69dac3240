"""The frame reader: whatever bytes come after the handshake, in whatever reads.

The first byte of an input says how the rest is cut into reads, what kind of handler waits for the
messages, and whether they may be compressed.
"""

from __future__ import annotations

import logging
import random
from typing import Any, NamedTuple

from boltws import Event
from boltws.server.deflate import negotiate

from ..unit.fakes import in_virtual_time, passing, turn
from ..unit.server.helpers import CLOSE, PONG, TEXT, Peer, Sent, echo, serving
from ..unit.server.oracle import Verdict, judge

LIMITS = {"max_message_size": 1000, "max_fragments": 4}  # such that a small input passes them
SLOW = {"overflow": "pause", "channel_capacity": 2}  # messages wait, reading stops and goes on


class Outcome(NamedTuple):
    """What a client's bytes came to."""

    messages: list[str | bytes]  # that were handled
    echoes: list[Sent]
    pongs: list[bytes]
    close: int | None  # the code that was sent
    failed: bool  # by the server, rather than closed by the client


def check(data: bytes) -> None:
    """The bytes come to what the RFC says, in one read and in several."""
    logging.disable()
    if not data:
        return
    how, stream = data[0], data[1:]
    later, compressed = bool(how & 1), bool(how & 2)
    outcomes: list[Outcome] = []
    for reads in ([stream] if stream else [], cut(stream, how >> 2)):
        _play(reads, later, compressed, outcomes)
    whole, in_pieces = outcomes
    assert whole == in_pieces
    if not compressed:
        verdict = judge(stream, LIMITS["max_message_size"], LIMITS["max_fragments"])
        assert whole == _expected(verdict, later), (whole, verdict)


def cut(stream: bytes, how: int) -> list[bytes]:
    """The stream in reads: each byte by itself, or pieces whose sizes `how` decides on."""
    if how == 0:
        return [stream[i : i + 1] for i in range(len(stream))]
    sizes = random.Random(how)
    pieces = []
    while stream:
        size = sizes.choice((1, 2, 3, 7, 64, 500))
        pieces.append(stream[:size])
        stream = stream[size:]
    return pieces


@in_virtual_time
async def _play(reads: list[bytes], later: bool, compressed: bool, to: list[Outcome]) -> None:
    options: dict[str, Any] = {**LIMITS, **(SLOW if later else {})}
    # What must hold of the books, and of the order of events, `serving` sees to at its end.
    async with serving(_take_time if later else echo, **options) as served:
        peer = served.connect()
        if compressed:
            agreed = negotiate(["permessage-deflate"])
            assert agreed is not None
            peer.wire.inflater = agreed[0]
        for piece in reads:
            peer.transport.receive(piece)
            await peer.read_all()
        await passing(5)
        stats = served.stats
        assert stats.errors == 0 and not stats.dropped_in, stats
        assert stats.received == stats.handled == len(peer.messages), stats
        assert all(len(_encoded(m)) <= options["max_message_size"] for m in peer.messages)
        outcome = _outcome(peer)
        to.append(outcome)
        if outcome.failed:
            assert outcome.close in (1002, 1007, 1009)
            peer.assert_failed(outcome.close)
        elif outcome.close is not None:
            peer.assert_sent_close(outcome.close)
        else:
            peer.assert_open()


async def _take_time(event: Event) -> None:
    await turn()


def _outcome(peer: Peer) -> Outcome:
    frames = peer.frames
    closes = [payload for opcode, payload in frames if opcode == CLOSE]
    assert len(closes) <= 1, closes
    code = None if not closes else int.from_bytes(closes[0][:2]) if closes[0] else 1005
    return Outcome(
        peer.messages,
        [sent for sent in frames if sent.opcode < CLOSE],
        [sent.payload for sent in frames if sent.opcode == PONG],
        code,
        peer.transport.eof_sent,
    )


def _expected(verdict: Verdict, later: bool) -> Outcome:
    echoes = [sent for sent in verdict.sent if sent.opcode < CLOSE]
    return Outcome(
        [sent.payload.decode() if sent.opcode == TEXT else sent.payload for sent in echoes],
        [] if later else echoes,
        [sent.payload for sent in verdict.sent if sent.opcode == PONG],
        verdict.close,
        verdict.failed,
    )


def _encoded(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
