"""What the figures of a soak come to."""

from __future__ import annotations

from statistics import median
from typing import Any, NamedTuple

Gauges = dict[str, Any]  # what the app under soak tells of itself


class Sample(NamedTuple):
    """The gauges at a time, in seconds from the start of the churn."""

    at: float
    gauges: Gauges


def growth(samples: list[Sample]) -> int:
    """By how many KB the memory's median grew from the second quarter of the time to the last.
    The first is the warm-up: pools fill, modules are imported, the heap takes its shape."""
    length = samples[-1].at
    second: list[int] = [s.gauges["rss_kb"] for s in samples if length / 4 <= s.at < length / 2]
    last: list[int] = [s.gauges["rss_kb"] for s in samples if s.at >= 3 * length / 4]
    return round(median(last) - median(second))


def complaints(base: Gauges, samples: list[Sample], end: Gauges, margin_kb: int) -> list[str]:
    """What is not as it should be: `base` was before the churn, `end` when all clients had gone."""
    found = []
    if (grown := growth(samples)) > margin_kb:
        found.append(f"memory grew by {grown} KB from the second quarter to the last")
    for name in ("descriptors", "tasks"):
        if end[name] > base[name]:
            found.append(f"{name}: {end[name]} at the end, {base[name]} before the churn")
    for name in ("now", "closing", "running", "waiting", "rooms", "errors"):
        if end[name]:
            found.append(f"{name}: {end[name]} at the end")
    for at, gauges in [*samples, Sample(samples[-1].at, end)]:
        if gauges["imbalance"]:
            found.append(f"after {at:.0f} s the books did not balance: {gauges['imbalance']}")
            break
    return found
