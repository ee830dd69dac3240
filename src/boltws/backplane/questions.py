"""Questions to all live nodes at once, and the answers that come in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_PART = 40_000  # characters of one part of an answer: below any server's limit on payloads

Answer = list[Any] | dict[str, Any] | int | bool


class Question:
    """One question that is under way."""

    __slots__ = ("_done", "_expected", "answered", "answers", "parts")

    def __init__(self, expected: Iterable[str]) -> None:
        self._expected = set(expected)
        self._done = asyncio.Event()
        self.answers: dict[str, Any] = {}
        self.parts: dict[str, int] = {}
        self.answered: set[str] = set()
        self._look()

    def part(self, node: str, value: Any, part: int, more: bool) -> None:
        """A node answers; long answers come in parts, which are lists."""
        if part != self.parts.get(node, 0):
            return
        self.parts[node] = part + 1
        if part:
            self.answers[node] += value
        else:
            self.answers[node] = value
        if not more:
            self.answered.add(node)
            self._look()

    def gone(self, node: str) -> None:
        """A node is no more: nobody waits for it."""
        self._expected.discard(node)
        self._look()

    def _look(self) -> None:
        if self._expected <= self.answered:
            self._done.set()

    async def missing(self, timeout: float) -> tuple[str, ...]:
        """Wait until all have answered, or `timeout` seconds. Who has not."""
        try:
            async with asyncio.timeout(timeout):
                await self._done.wait()
        except TimeoutError:
            pass
        return tuple(sorted(self._expected - self.answered))


class Questions:
    """All that are under way."""

    __slots__ = ("_last", "_open")

    def __init__(self) -> None:
        self._last = 0
        self._open: dict[int, Question] = {}

    async def ask(
        self, expected: Iterable[str], publish: Callable[[int], None], timeout: float
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Ask, and wait: the whole answers by node, and who has not answered in time."""
        self._last += 1
        number = self._last
        question = self._open[number] = Question(expected)
        try:
            publish(number)
            missing = await question.missing(timeout)
        finally:
            del self._open[number]
        return {node: question.answers[node] for node in question.answered}, missing

    def take(self, node: str, payload: bytes) -> None:
        """An answer came; one that comes too late is nobody's."""
        told = json.loads(payload)
        question = self._open.get(told["to"])
        if question is not None:
            question.part(node, told["value"], told["part"], told["more"])

    def gone(self, node: str) -> None:
        """A node is no more."""
        for question in self._open.values():
            question.gone(node)


def answer_parts(number: int, value: Answer) -> Iterator[bytes]:
    """The payloads of an answer: a long list in several."""
    text = json.dumps(value)
    if not isinstance(value, list) or len(text) <= _PART:
        yield json.dumps({"to": number, "value": value, "part": 0, "more": False}).encode()
        return
    step = max(1, len(value) * _PART // len(text))
    for start in range(0, len(value), step):
        more = start + step < len(value)
        part = value[start : start + step]
        told = {"to": number, "value": part, "part": start // step, "more": more}
        yield json.dumps(told).encode()
