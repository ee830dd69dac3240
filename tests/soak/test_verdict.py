"""The verdict of a soak: it must be able to be a bad one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from .verdict import Gauges, Sample, complaints, growth, kept

QUIET: Gauges = {
    "rss_kb": 50_000,
    "descriptors": 8,
    "tasks": 3,
    "now": 0,
    "closing": 0,
    "running": 0,
    "waiting": 0,
    "rooms": 0,
    "errors": 0,
    "imbalance": "",
}
BUSY = {**QUIET, "descriptors": 208, "tasks": 9, "now": 200, "rooms": 50}


def samples(*memory: int, every: float = 1, **busy: Any) -> list[Sample]:
    """Gauges under load, with these figures for memory."""
    return [
        Sample(at * every, {**BUSY, **busy, "rss_kb": kb}) for at, kb in enumerate(memory, start=1)
    ]


def lulls(*memory: int, every: float = 2, **left: Any) -> list[Sample]:
    """Gauges with no client there; `left` is how the last one differs."""
    found = [Sample(at * every, {**QUIET, "rss_kb": kb}) for at, kb in enumerate(memory, start=1)]
    found[-1].gauges.update(left)
    return found


FLAT = samples(*[50_000] * 8)
STILL = lulls(40_000, 40_100, 40_000, 40_100)


def verdict(
    under_load: list[Sample] = FLAT, quiet: list[Sample] = STILL, margin_kb: int = 6144
) -> list[str]:
    return complaints(QUIET, under_load, quiet, margin_kb, kept_kb=1024)


def test_flat_memory_is_fine() -> None:
    """What grows during the warm-up counts for nothing, nor does one sample out of line."""
    flat = samples(30_000, 40_000, 50_000, 50_100, 50_000, 50_000, 50_000, 90_000, 50_100)
    assert growth(flat) == 50
    assert verdict(flat, margin_kb=1000) == []


def test_growing_memory_is_not() -> None:
    """A leak goes on growing."""
    (complaint,) = verdict(samples(*range(50_000, 60_000, 500)), margin_kb=1000)
    assert "memory grew by" in complaint and "quarter" in complaint


def test_memory_that_is_kept_when_all_have_gone() -> None:
    """The first lull may be as high as it likes; what comes on top of it until the last counts."""
    assert kept(lulls(40_000, 60_000, 41_024)) == 1024
    assert verdict(quiet=lulls(40_000, 60_000, 41_024)) == []
    (complaint,) = verdict(quiet=lulls(40_000, 40_000, 41_025))
    assert "memory grew by 1025 KB from the first lull to the last" in complaint


def run_of(minutes: float, leak_bytes: int) -> list[str]:
    """The verdict of a run as they are: 145 connections a second, memory that swings by three
    megabytes under load and hardly without, and a leak with every connection."""
    chance = random.Random(minutes)
    leaked = 145 * leak_bytes / 1024  # KB a second
    times = range(3, int(minutes * 60) + 1, 3)
    under_load = samples(
        *[round(37_000 + chance.uniform(0, 3000) + leaked * at) for at in times], every=3
    )
    quarter = minutes * 15
    quiet = lulls(
        *[round(34_300 + chance.uniform(0, 200) + leaked * quarter * n) for n in (1, 2, 3, 4)],
        every=quarter,
    )
    return verdict(under_load, quiet)


@pytest.mark.parametrize(
    ("minutes", "found", "missed"),
    [(1, 250, 100), (10, 25, 10)],
)
def test_what_leak_a_run_finds(minutes: int, found: int, missed: int) -> None:
    """A minute finds 250 bytes a connection, ten minutes find 25; what is less drowns in what
    the memory does by itself, and is no false alarm."""
    assert run_of(minutes, 0) == []
    assert run_of(minutes, missed) == []
    assert "lull" in run_of(minutes, found)[0]
    assert len(run_of(10, 1000)) == 2  # under load it is found as well


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("descriptors", 9),
        ("tasks", 4),
        ("now", 1),
        ("closing", 1),
        ("running", 1),
        ("waiting", 1),
        ("rooms", 1),
        ("errors", 1),
        ("imbalance", "received 2, accounted for 1"),
    ],
)
def test_what_is_left_over_is_named(name: str, value: object) -> None:
    """Each by itself is enough."""
    (complaint,) = verdict(quiet=lulls(40_000, 40_000, **{name: value}))
    assert name in complaint or str(value) in complaint


def test_what_is_left_over_in_any_lull() -> None:
    """It counts though it is gone by the end."""
    quiet = [*lulls(40_000, now=1), *lulls(40_000, 40_000)]
    (complaint,) = verdict(quiet=quiet)
    assert "now: 1 after 2 s" in complaint


def test_books_must_balance_on_the_way_too() -> None:
    """One sample that does not is enough."""
    on_the_way = samples(*[50_000] * 8)
    on_the_way[2].gauges["imbalance"] = "sends 2, accounted for 1"
    (complaint,) = verdict(on_the_way)
    assert "after 3 s" in complaint and "sends 2" in complaint
