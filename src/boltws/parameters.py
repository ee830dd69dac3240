"""A segment of a path with several parameters, ``{name}.{kind}``.

Each parameter is as long as what follows it allows. A regular expression finds the same, but its
time may grow with the text's length to the power of the parameters: half a minute for 2,500 bytes.
This takes time in proportion to the length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Piece = tuple[str, str, str]
"""The text before a parameter, its name, and the expression of its converter."""

ANYTHING = r".+"


class Parameters:
    """What matches such a segment. `pattern` tells two of them apart."""

    __slots__ = ("_pieces", "_tail", "pattern")

    def __init__(self, pieces: list[Piece], tail: str, pattern: str) -> None:
        self.pattern = pattern
        self._tail = tail
        self._pieces = [
            (before, name, None if expression == ANYTHING else re.compile(expression))
            for before, name, expression in pieces
        ]

    def fullmatch(self, text: str) -> dict[str, str] | None:
        """The parameters as text, or None."""
        if not text.endswith(self._tail):
            return None
        # From behind: where each parameter may end so that what follows it fits.
        ends = {len(text) - len(self._tail)}
        ends_of = []
        for before, _, expression in reversed(self._pieces):
            ends_of.append(ends)
            last = max(ends, default=0)
            ends = {
                at - len(before)
                for at in _behind(text, before)
                if _end(expression, text, at, ends, last) is not None
            }
        # From the front: the longest of each.
        at = 0
        params: dict[str, str] = {}
        for (before, name, expression), ends in zip(self._pieces, reversed(ends_of), strict=True):
            at += len(before)
            end = _end(expression, text, at, ends, max(ends, default=0))
            if end is None or not text.startswith(before, at - len(before)):
                return None
            params[name] = text[at:end]
            at = end
        return params


def _behind(text: str, literal: str) -> Iterator[int]:
    """The places behind each occurrence of `literal`."""
    if not literal:  # before the first parameter: it begins where the text does
        yield 0
        return
    at = text.find(literal)
    while at >= 0:
        yield at + len(literal)
        at = text.find(literal, at + 1)


def _end(
    expression: re.Pattern[str] | None, text: str, at: int, ends: set[int], last: int
) -> int | None:
    """The last of `ends` (`last` is the last of all) that a parameter from `at` on may have."""
    if expression is None:
        return last if at < last else None
    longest = expression.match(text, at)
    if longest is None:
        return None
    for end in range(longest.end(), at, -1):
        if end in ends and expression.fullmatch(text, at, end):
            return end
    return None
