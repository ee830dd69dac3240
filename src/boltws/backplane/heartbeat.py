"""A heartbeat: that a node lives, and what its last numbers are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import NamedTuple

from .envelope import BadMessage
from .sequences import Report

_AROUND = 100  # bytes of a heartbeat beside its subjects, at most
_NUMBERS = 50  # bytes of a subject's numbers, and of what stands around it, at most
_ENTRIES = 4000  # in one message; more take more messages


class Beat(NamedTuple):
    """A heartbeat, or a part of one."""

    hello: bool
    """The node is new, or back: it asks for all numbers."""
    more: bool
    """Other parts follow."""
    series: int
    """The last series that was begun."""
    sequences: Report
    new: list[str]
    """Subjects that the node is newly subscribed to: it asks for their last numbers."""


def read_beat(payload: bytes) -> Beat:
    """Read a heartbeat. Raises one of what `_UNREADABLE` lists."""
    told = json.loads(payload)
    series = told["series"]
    sequences = {key: (begun, sequence) for key, (begun, sequence) in told["sequences"].items()}
    numbers = [number for pair in sequences.values() for number in pair]
    new = told["new"]
    if not isinstance(new, list) or not all(isinstance(key, str) for key in new):
        raise BadMessage("keys are texts")
    if not all(type(number) is int for number in [series, *numbers]):
        raise BadMessage("numbers are whole")
    return Beat(bool(told["hello"]), bool(told["more"]), series, sequences, new)


def beat_parts(
    report: Report, new: list[str], series: int, hello: bool, most: int
) -> Iterator[bytes]:
    """The payloads of a heartbeat, of at most `most` bytes each; with one subject at least."""
    entries = list(report.items())
    length = max(len(entries), len(new), 1)
    longest = max(map(len, [*report, *new]), default=0)
    # Any subject may be told and asked about in the same one.
    step = max(1, min(_ENTRIES, (most - _AROUND) // (2 * longest + _NUMBERS)))
    for start in range(0, length, step):
        told = {
            "hello": hello,
            "more": start + step < length,
            "series": series,
            "sequences": dict(entries[start : start + step]),
            "new": new[start : start + step],
        }
        yield json.dumps(told).encode()
