"""The reader is strict: every way to break RFC 6455 ends the connection, with the right code."""

from __future__ import annotations

import pytest

from ..fakes import in_virtual_time, turn
from .helpers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    close,
    echo,
    fragments,
    frame,
    serving,
    text,
)

# What breaks the protocol, by the section of the RFC. Each has all that is needed to see it.
VIOLATIONS = {
    "5.1 unmasked text": frame(TEXT, b"x", mask=None),
    "5.1 unmasked and empty": frame(TEXT, mask=None),
    "5.1 unmasked, 16-bit length": frame(BINARY, bytes(300), mask=None),
    "5.1 unmasked continuation": frame(TEXT, b"x", False) + frame(CONTINUATION, b"x", mask=None),
    "5.1 unmasked ping": frame(PING, mask=None),
    "5.1 unmasked pong": frame(PONG, b"x", mask=None),
    "5.1 unmasked close": frame(CLOSE, b"\x03\xe8", mask=None),
    "5.2 first reserved bit": frame(TEXT, b"x", rsv=4),
    "5.2 second reserved bit": frame(BINARY, b"x", rsv=2),
    "5.2 third reserved bit": frame(TEXT, b"x", rsv=1),
    "5.2 reserved bit on a ping": frame(PING, rsv=4),
    "5.2 reserved bit on a close": frame(CLOSE, rsv=1),
    "5.2 reserved bit on a continuation": frame(TEXT, b"x", False) + frame(0, b"x", rsv=4),
    "5.2 16-bit length of 0": frame(TEXT, width=2),
    "5.2 16-bit length of 125": frame(TEXT, bytes(125), width=2),
    "5.2 64-bit length of 0": frame(BINARY, width=8),
    "5.2 64-bit length of 126": frame(BINARY, bytes(126), width=8),
    "5.2 64-bit length of 65535": frame(BINARY, bytes(65535), width=8),
    "5.2 length of 2^63": frame(BINARY, size=2**63),
    "5.2 length of 2^64-1": frame(TEXT, size=2**64 - 1),
    "5.4 continuation of nothing": frame(CONTINUATION, b"x"),
    "5.4 first continuation of nothing": frame(CONTINUATION, b"x", False),
    "5.4 continuation behind a whole message": text("x") + frame(CONTINUATION, b"x"),
    "5.4 continuation behind a last fragment": b"".join(fragments(TEXT, b"a", b"b", b""))
    + frame(CONTINUATION),
    "5.4 text inside a fragmented text": frame(TEXT, b"x", False) + text("y"),
    "5.4 binary inside a fragmented text": frame(TEXT, b"x", False) + frame(BINARY, b"y"),
    "5.4 a second beginning": frame(BINARY, b"x", False) + frame(BINARY, b"y", False),
    "5.4 empty text inside an empty beginning": frame(TEXT, b"", False) + frame(TEXT),
    "5.5 fragmented ping": frame(PING, b"x", False),
    "5.5 fragmented pong": frame(PONG, b"", False),
    "5.5 fragmented close": frame(CLOSE, b"\x03\xe8", False),
    "5.5 ping of 126 bytes": frame(PING, bytes(126)),
    "5.5 pong of 65536 bytes": frame(PONG, bytes(65536)),
    "5.5 close of 126 bytes": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "5.5.1 close of one byte": frame(CLOSE, b"\x03"),
    **{f"5.2 opcode {n}": frame(n, b"x") for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "5.2 reserved opcode in a message": frame(TEXT, b"x", False) + frame(3, b"y"),
    **{
        f"7.4 close code {code}": close(code)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}
BAD_UTF8 = {
    "a byte that never is": b"\xff",
    "a continuation byte alone": b"\x80",
    "overlong in two": b"\xc0\xaf",
    "overlong in three": b"\xe0\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80",
    "a lead of four too high": b"\xf5\x80\x80\x80",
    "a lead and no continuation": b"\xe2(\xa1",
    "cut off at the end": b"caf\xc3",
    "cut off in four": b"\xf0\x9f\x98",
}
violations = pytest.mark.parametrize("broken", VIOLATIONS.values(), ids=VIOLATIONS.keys())


@violations
@in_virtual_time
async def test_a_violation_is_1002(broken: bytes) -> None:
    """A frame that the RFC forbids fails the connection with 1002 in the read that brought it."""
    async with serving() as served:
        peer = served.connect()
        peer.send(broken)
        peer.assert_failed(1002)


@violations
@in_virtual_time
async def test_a_violation_is_seen_in_pieces(broken: bytes) -> None:
    """It is the same when it comes byte by byte, and a long one is not waited for to its end."""
    async with serving() as served:
        peer = served.connect()
        await peer.trickle(*(broken[i : i + 1] for i in range(min(len(broken), 200))))
        peer.assert_failed(1002)


@violations
@in_virtual_time
async def test_nothing_is_read_behind_a_violation(broken: bytes) -> None:
    """What came before is handled, what comes behind is not: neither in the same read nor later."""
    async with serving(echo) as served:
        peer = served.connect()
        peer.send(text("before"), broken, text("behind"), frame(PING), close(3000))
        peer.send(text("later"))
        peer.assert_failed(1002)
        assert peer.messages[:1] == ["before"]
        assert "behind" not in peer.messages and "later" not in peer.messages
        assert served.stats.received == len(peer.messages)
        assert peer.pongs == []


@pytest.mark.parametrize("bad", BAD_UTF8.values(), ids=BAD_UTF8.keys())
@pytest.mark.parametrize("size", [0, 200, 70000])
@in_virtual_time
async def test_bad_utf8_is_1007(bad: bytes, size: int) -> None:
    """Text that is no UTF-8 fails with 1007, in a frame of any length; as binary it is fine."""
    payload = b"x" * size + bad
    async with serving() as served:
        peer = served.connect()
        peer.send(frame(BINARY, payload))
        assert peer.messages == [payload]
        peer.send(frame(TEXT, payload))
        peer.assert_failed(1007)
        assert peer.messages == [payload]


@pytest.mark.parametrize("bad", BAD_UTF8.values(), ids=BAD_UTF8.keys())
@in_virtual_time
async def test_bad_utf8_in_fragments_is_1007(bad: bytes) -> None:
    """So does one whose bytes come in a fragment each."""
    async with serving() as served:
        peer = served.connect()
        await peer.trickle(*fragments(TEXT, *(bad[i : i + 1] for i in range(len(bad))), b""))
        peer.assert_failed(1007)
        assert peer.messages == []


# Each: what is valid so far, then the byte that makes it invalid whatever follows. Of a surrogate
# Python's decoder wants to see the third byte, though the second has decided it.
TURNING_BAD = [
    (b"", b"\xff"),
    (b"fine", b"\x80"),
    (b"", b"\xc0"),
    (b"", b"\xf5"),
    (b"\xe0", b"\x80"),
    (b"\xed\xa0", b"\x80"),
    (b"\xf0", b"\x80"),
    (b"\xf4", b"\x90"),
    (b"\xe2\x82", b"("),
    (b"\xf0\x9f\x98", b"\xc3"),
]


@pytest.mark.parametrize(("good", "bad"), TURNING_BAD)
@in_virtual_time
async def test_bad_utf8_fails_as_soon_as_it_came(good: bytes, bad: bytes) -> None:
    """The byte that spoils a text fails it at once, while its frame has many more to come."""
    whole = frame(TEXT, good + bad + b"x" * 1000)
    header = len(whole) - 1000 - len(good) - 1
    async with serving() as served:
        peer = served.connect()
        peer.send(whole[: header + len(good)])
        peer.assert_open()
        peer.send(whole[header + len(good) :][:1])
        peer.assert_failed(1007)


@pytest.mark.parametrize(("good", "bad"), TURNING_BAD)
@in_virtual_time
async def test_a_character_may_cross_fragments_but_not_turn_bad(good: bytes, bad: bytes) -> None:
    """The same across fragments: the one that spoils it fails it, final or not."""
    async with serving() as served:
        peer = served.connect()
        peer.send(frame(TEXT, good, False))
        peer.assert_open()
        peer.send(frame(CONTINUATION, b"", False), frame(PING, b"between"))
        peer.assert_open()
        peer.send(frame(CONTINUATION, bad, False))
        peer.assert_failed(1007)


@in_virtual_time
async def test_characters_split_anywhere_are_whole_again() -> None:
    """Valid text may be cut inside any character, in fragments and in reads."""
    message = "aé€\U0001f600z" * 3
    data = message.encode()
    async with serving() as served:
        peer = served.connect()
        for cut in range(len(data) + 1):
            peer.send(*fragments(TEXT, data[:cut], data[cut:]))
        for cut in range(1, len(frame(TEXT, data))):
            await peer.trickle(frame(TEXT, data)[:cut], frame(TEXT, data)[cut:])
        assert set(peer.messages) == {message}
        assert len(peer.messages) == len(data) + len(frame(TEXT, data))


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xc3", b"\xed\xa0\x80"])
@in_virtual_time
async def test_a_close_reason_is_utf8(reason: bytes) -> None:
    """A reason that is no UTF-8 fails with 1007."""
    async with serving() as served:
        peer = served.connect()
        peer.send(close(1000, reason))
        peer.assert_failed(1007)


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]
)
@in_virtual_time
async def test_codes_that_may_be_sent_are_taken(code: int) -> None:
    """Every code that a peer may send is echoed, and is what `disconnect` sees."""
    async with serving() as served:
        peer = served.connect()
        peer.send(close(code, "é".encode() * 61 + b"x"))
        peer.assert_sent_close(code)
    assert peer.events == ["connect", ("disconnect", code)]


@in_virtual_time
async def test_what_stands_behind_a_close_is_ignored() -> None:
    """RFC 6455, section 5.5.1: behind a close no frame is looked at, not even one that is wrong."""
    async with serving(echo) as served:
        peer = served.connect()
        peer.send(text("a"), close(1001), text("b"), frame(PING), frame(3), close(1002))
        peer.assert_sent_close(1001)
        assert peer.messages == ["a"] and peer.pongs == []
        assert served.stats.received == 1


# Control frames.


@in_virtual_time
async def test_control_frames_stand_between_fragments() -> None:
    """Pings are answered in their place, pongs are taken, and the message around them is whole."""
    async with serving(echo) as served:
        peer = served.connect()
        one, two, three = fragments(TEXT, b"a\xe2", b"\x82", b"\xac!")
        peer.send(one, frame(PING, b"1"), frame(PONG, b"no question"), two, frame(PING), three)
        await turn()
        assert peer.frames == [(PONG, b"1"), (PONG, b""), (TEXT, "a€!".encode())]


@pytest.mark.parametrize("payload", [b"", b"x", b"\xff" * 125])
@in_virtual_time
async def test_a_pong_has_the_pings_payload(payload: bytes) -> None:
    """The answer carries what was asked with, up to 125 bytes of anything."""
    async with serving() as served:
        peer = served.connect()
        await peer.trickle(*(bytes([b]) for b in frame(PING, payload)))
        assert peer.frames == [(PONG, payload)]


@in_virtual_time
async def test_a_close_inside_a_fragmented_message_ends_it() -> None:
    """A peer may close in the middle of a message, which never was one."""
    async with serving() as served:
        peer = served.connect()
        peer.send(frame(TEXT, b"never to be ended", False), close(1001))
        peer.assert_sent_close(1001)
        assert served.stats.received == 0


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
@in_virtual_time
async def test_each_frame_has_its_own_mask(mask: bytes) -> None:
    """The key is taken from each frame anew, also from one fragment to the next."""
    async with serving() as served:
        peer: Peer = served.connect()
        peer.send(text("a"), frame(TEXT, b"b", mask=mask), frame(TEXT, b"cde", False, mask))
        peer.send(frame(CONTINUATION, b"f"))
        assert peer.messages == ["a", "b", "cdef"]
