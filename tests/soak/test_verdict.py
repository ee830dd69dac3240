"""The verdict of a soak: it must be able to be a bad one."""

from __future__ import annotations

import pytest

from .verdict import Gauges, Sample, complaints, growth

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


def samples(*memory: int) -> list[Sample]:
    return [Sample(float(at), {**BUSY, "rss_kb": kb}) for at, kb in enumerate(memory)]


def test_flat_memory_is_fine() -> None:
    """What grows during the warm-up counts for nothing, nor does one sample out of line."""
    flat = samples(30_000, 40_000, 50_000, 50_100, 50_000, 50_000, 50_000, 90_000, 50_100)
    assert growth(flat) == 50
    assert complaints(QUIET, flat, QUIET, margin_kb=1000) == []


def test_growing_memory_is_not() -> None:
    """A leak goes on growing."""
    (complaint,) = complaints(QUIET, samples(*range(50_000, 60_000, 500)), QUIET, margin_kb=1000)
    assert "memory grew by" in complaint


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
    end = {**QUIET, name: value}
    (complaint,) = complaints(QUIET, samples(*[50_000] * 8), end, margin_kb=1000)
    assert name in complaint or str(value) in complaint


def test_books_must_balance_on_the_way_too() -> None:
    """One sample that does not is enough."""
    on_the_way = samples(*[50_000] * 8)
    on_the_way[3].gauges["imbalance"] = "sends 2, accounted for 1"
    (complaint,) = complaints(QUIET, on_the_way, QUIET, margin_kb=1000)
    assert "after 3 s" in complaint and "sends 2" in complaint
