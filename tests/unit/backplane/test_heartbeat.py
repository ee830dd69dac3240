"""A heartbeat in as many messages as it takes."""

from __future__ import annotations

import pytest

from boltws.backplane.heartbeat import beat_parts, read_beat
from boltws.backplane.subjects import room_token

LAST = 2**32 - 1, 2**64 - 1  # the largest numbers there are

# The longest names that are their own tokens.
KEYS = [room_token(str(number).ljust(96, "x")) for number in range(6000)]


@pytest.mark.parametrize("most", [2**16 - 2048, 2**20 - 2048, 2**23 - 2048])
def test_no_part_is_larger_than_the_server_takes(most: int) -> None:
    """With numbers and questions about the longest of names; together they tell all."""
    parts = list(beat_parts(dict.fromkeys(KEYS, LAST), KEYS[::-1], LAST[0], True, most))
    assert max(map(len, parts)) <= most
    beats = [read_beat(part) for part in parts]
    assert [key for beat in beats for key in beat.sequences] == KEYS
    assert [key for beat in beats for key in beat.new] == KEYS[::-1]
    assert [beat.more for beat in beats] == [True] * (len(beats) - 1) + [False]
    assert {beat.hello for beat in beats} == {True}


@pytest.mark.parametrize("most", [0, 100, 150])
def test_a_server_that_takes_next_to_nothing(most: int) -> None:
    """One subject a message is the least."""
    parts = list(beat_parts({"a": (1, 1), "b": (2, 2)}, ["c"], 2, False, most))
    assert [read_beat(part).sequences for part in parts] == [{"a": (1, 1)}, {"b": (2, 2)}]
