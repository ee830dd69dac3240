"""Questions to all nodes, and answers in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws.backplane.questions import Questions, answer_parts

from ..flow import Clock, turns

Answered = tuple[dict[str, Any], tuple[str, ...]]


class Asking:
    """One question under way."""

    def __init__(self, *nodes: str, timeout: float = 1.0) -> None:
        self.questions = Questions()
        self.number = 0
        self.task = self.ask(nodes, timeout)

    def ask(self, nodes: Iterable[str], timeout: float) -> asyncio.Task[Answered]:
        return asyncio.ensure_future(self.questions.ask(nodes, self._publish, timeout))

    def _publish(self, number: int) -> None:
        self.number = number

    def take(self, node: str, value: Any, number: int | None = None) -> None:
        """A node answers, in as many parts as it takes."""
        for part in answer_parts(self.number if number is None else number, value):
            self.questions.take(node, part)


async def test_all_answer() -> None:
    """The answers by node, as soon as the last has come."""
    asking = Asking("a", "b")
    await turns()
    asking.take("b", 2)
    await turns()
    assert not asking.task.done()
    asking.take("a", ["x"])
    assert await asking.task == ({"b": 2, "a": ["x"]}, ())


async def test_nobody_to_ask(clock: Clock) -> None:
    """There is nothing to wait for."""
    before = clock.now
    assert await Asking().task == ({}, ())
    assert clock.now == before


async def test_one_is_slow(clock: Clock) -> None:
    """At the deadline there is what has come, and the missing are named in order."""
    before = clock.now
    asking = Asking("c", "a", "b", timeout=0.5)
    await turns()
    asking.take("a", True)
    assert await asking.task == ({"a": True}, ("b", "c"))
    assert clock.now == before + 0.5


@pytest.mark.parametrize("timeout", [0, -1])
async def test_no_time_at_all(timeout: float) -> None:
    """It is asked still, and all are missing."""
    asking = Asking("a", timeout=timeout)
    assert await asking.task == ({}, ("a",))
    assert asking.number == 1


async def test_too_late(clock: Clock) -> None:
    """An answer to a question that is over is nobody's, the next question's neither."""
    asking = Asking("a", timeout=0.5)
    assert await asking.task == ({}, ("a",))
    first = asking.number
    again = asking.ask(["a"], 0.5)
    await turns()
    asking.take("a", "late", first)
    assert await again == ({}, ("a",))


async def test_two_at_once() -> None:
    """Each gets its own answers."""
    asking = Asking("a")
    await turns()
    first = asking.number
    other = asking.ask(["a"], 1)
    await turns()
    asking.take("a", "other")
    asking.take("a", "first", first)
    assert await asking.task == ({"a": "first"}, ())
    assert await other == ({"a": "other"}, ())


async def test_a_node_is_gone_meanwhile() -> None:
    """Nobody waits for it, nor is it missing; what it had begun to answer is left out."""
    asking = Asking("a", "b")
    await turns()
    asking.take("a", 1)
    parts = list(answer_parts(asking.number, ["x" * 1000] * 1000))
    asking.questions.take("b", parts[0])
    asking.questions.gone("b")
    assert await asking.task == ({"a": 1}, ())


async def test_a_node_that_answered_and_went() -> None:
    """Its answer stands."""
    asking = Asking("a", "b")
    await turns()
    asking.take("a", 1)
    asking.questions.gone("a")
    await turns()
    assert not asking.task.done()
    asking.take("b", 2)
    assert await asking.task == ({"a": 1, "b": 2}, ())


async def test_a_node_that_was_not_expected() -> None:
    """One that has just come answers too, and is heard while others are waited for."""
    asking = Asking("a")
    await turns()
    asking.take("new", 3)
    await turns()
    assert not asking.task.done()
    asking.take("a", 1)
    assert await asking.task == ({"new": 3, "a": 1}, ())


@given(st.lists(st.text(max_size=30), max_size=50), st.integers(1, 400))
def test_parts(value: list[str], copies: int) -> None:
    """A list of any length comes out whole and in order, each part being small enough."""
    value = value * copies
    parts = list(answer_parts(7, value))
    told = [json.loads(part) for part in parts]
    assert [entry for part in told for entry in part["value"]] == value
    assert all(part["to"] == 7 for part in told)
    assert [part["part"] for part in told] == list(range(len(told)))
    assert [part["more"] for part in told] == [True] * (len(told) - 1) + [False]
    assert all(len(part) <= 300_000 for part in parts)


async def test_an_answer_in_parts() -> None:
    """It is an answer when the last part has come; those of two nodes may be mixed."""
    asking = Asking("a", "b")
    await turns()
    value = [f"{number:040}" for number in range(20_000)]
    parts = list(answer_parts(asking.number, value))
    assert len(parts) > 3
    for part in parts[:-1]:
        asking.questions.take("a", part)
        asking.questions.take("b", part)
    await turns()
    assert not asking.task.done()
    asking.questions.take("a", parts[-1])
    asking.questions.take("b", parts[-1])
    assert await asking.task == ({"a": value, "b": value}, ())


@pytest.mark.parametrize("lost", [0, 1, -1])
async def test_a_part_is_lost(lost: int, clock: Clock) -> None:
    """Whichever it was, the node is missing: half an answer is none."""
    asking = Asking("a")
    await turns()
    parts = list(answer_parts(asking.number, [f"{number:040}" for number in range(20_000)]))
    del parts[lost]
    for part in parts:
        asking.questions.take("a", part)
    assert await asking.task == ({}, ("a",))


async def test_a_question_that_cannot_be_published() -> None:
    """The error is the caller's, and nothing is left behind."""
    questions = Questions()

    def fails(number: int) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await questions.ask(["a"], fails, 1)
    assert questions._open == {}


async def test_a_caller_that_gives_up() -> None:
    """A cancelled question is forgotten."""
    asking = Asking("a")
    await turns()
    asking.task.cancel()
    await turns()
    assert asking.questions._open == {}
    asking.take("a", 1)
