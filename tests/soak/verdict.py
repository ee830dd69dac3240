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


def kept(lulls: list[Sample]) -> int:
    """By how many KB the memory of the empty server grew from the first lull to the last."""
    first: int = lulls[0].gauges["rss_kb"]
    last: int = lulls[-1].gauges["rss_kb"]
    return last - first


def complaints(
    base: Gauges, samples: list[Sample], lulls: list[Sample], margin_kb: int, kept_kb: int
) -> list[str]:
    """What is not as it should be: `base` was before the churn, each of `lulls` when all clients
    had gone, the last one at its end.

    Memory is judged twice. Under load it follows what happens to be unsent, by megabytes within
    seconds, so that `margin_kb` has to be wide; in the lulls it is still, and `kept_kb` finds in
    one minute what the other takes ten for.
    """
    found = []
    if (grown := growth(samples)) > margin_kb:
        found.append(f"memory grew by {grown} KB from the second quarter to the last")
    if (grown := kept(lulls)) > kept_kb:
        found.append(f"memory grew by {grown} KB from the first lull to the last")
    for at, lull in lulls:
        for name in ("descriptors", "tasks"):
            if lull[name] > base[name]:
                found.append(
                    f"{name}: {lull[name]} after {at:.0f} s, {base[name]} before the churn"
                )
        for name in ("now", "closing", "running", "waiting", "rooms", "errors"):
            if lull[name]:
                found.append(f"{name}: {lull[name]} after {at:.0f} s, when all had gone")
    for at, gauges in sorted([*samples, *lulls], key=lambda sample: sample.at):
        if gauges["imbalance"]:
            found.append(f"after {at:.0f} s the books did not balance: {gauges['imbalance']}")
            break
    return found
