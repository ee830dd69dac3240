"""What must come of a client's bytes: RFC 6455 said once more, slowly, over the stream as a whole.

It shares nothing with the reader that it judges, and knows nothing of reads, turns or holds.
"""

from __future__ import annotations

import codecs
from typing import NamedTuple

from .helpers import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Sent, masked


class Verdict(NamedTuple):
    """What a server that echoes messages sends, and whether it sent a close by itself."""

    sent: list[Sent]  # echoes and pongs, each kind in its order
    close: int | None  # the close code it sends, None where the stream just ends
    failed: bool  # whether the peer was wrong, rather than closing


class Wrong(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


def judge(stream: bytes, max_size: int, max_fragments: int) -> Verdict:
    """The verdict on a stream of which all has come."""
    sent: list[Sent] = []
    message: list[tuple[int, bytes]] = []  # the fragments so far, each with the first's opcode
    position = 0
    try:
        while len(stream) - position >= 2:
            first, second = stream[position : position + 2]
            opcode, fin = first & 0x0F, bool(first & 0x80)
            if first & 0x70 or not second & 0x80 or opcode not in (0, 1, 2, 8, 9, 10):
                raise Wrong(1002)
            if opcode >= CLOSE and (not fin or second & 0x7F > 125):
                raise Wrong(1002)
            if opcode < CLOSE and (opcode == CONTINUATION) == (not message):
                raise Wrong(1002)
            position += 2
            size = second & 0x7F
            wide = {126: 2, 127: 8}.get(size, 0)
            if wide:
                if len(stream) < position + wide:
                    break
                size = int.from_bytes(stream[position : position + wide])
                position += wide
                if size < {2: 126, 8: 65536}[wide] or size >= 2**63:
                    raise Wrong(1002)
            if opcode < CLOSE and size + sum(len(piece) for _, piece in message) > max_size:
                raise Wrong(1009)
            if len(stream) < position + 4:
                break
            mask = stream[position : position + 4]
            payload = masked(stream[position + 4 : position + 4 + size], mask)
            position += 4 + size
            whole = position <= len(stream)
            if opcode >= CLOSE:
                if not whole:
                    break
                if opcode == PING:
                    sent.append(Sent(PONG, payload))
                elif opcode == CLOSE:
                    return Verdict(sent, _close_code(payload), False)
                continue
            if len(message) >= max_fragments:
                raise Wrong(1009)
            message.append((message[0][0] if message else opcode, payload))
            kind = message[0][0]
            data = b"".join(piece for _, piece in message)
            if kind == TEXT:
                _check_text(data, fin and whole)
            if fin and whole:
                sent.append(Sent(kind, data))
                message = []
    except Wrong as wrong:
        return Verdict(sent, wrong.code, True)
    return Verdict(sent, None, False)


def _check_text(data: bytes, final: bool) -> None:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final)
    except UnicodeDecodeError:
        raise Wrong(1007) from None


def _close_code(payload: bytes) -> int:
    if not payload:
        return 1005
    code = int.from_bytes(payload[:2])
    good = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    if len(payload) == 1 or code not in good:
        raise Wrong(1002)
    _check_text(payload[2:], True)
    return code


assert BINARY  # the kinds of data frames are the opcodes themselves
