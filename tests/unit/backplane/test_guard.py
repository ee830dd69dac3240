"""How the guard paces itself: a server that dies at once must not make it spin."""

from __future__ import annotations

import pytest

from boltws.backplane import guard


class Enough(Exception):
    """The test has seen what it wanted."""


class Played(guard.Guard):
    """A guard whose servers live as long as the test says, on a clock of its own."""

    def __init__(self, lives: list[float], port: int = 4222) -> None:
        super().__init__(
            {"binary": "", "token": "", "port": port, "patience": 1.0, "parent": 1},
        )
        self.now = 0.0
        self.lives = lives
        self.pauses: list[float] = []

    def _serve(self) -> str:
        if not self.lives:
            raise Enough
        life = self.lives.pop(0)
        if life < 0:
            raise FileNotFoundError(2, "No such file", "nats-server")
        self.now += life
        return "signal 9"

    def _wait(self, timeout: float, *descriptors: int) -> bool:
        self.pauses.append(timeout)
        self.now += timeout
        return False


def play(monkeypatch: pytest.MonkeyPatch, guarded: Played) -> list[dict[str, object]]:
    """Run it to its end; gives what it reported."""
    reports: list[dict[str, object]] = []
    monkeypatch.setattr(guard, "_report", lambda event, **what: reports.append({event: what}))
    monkeypatch.setattr(guard.time, "monotonic", lambda: guarded.now)
    try:
        guarded.run()
    except Enough:
        pass
    return reports


def test_a_crash_loop_is_slowed_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each death of a series doubles the pause, up to under a second; none ends the series."""
    guarded = Played([0.1] * 50)
    play(monkeypatch, guarded)
    assert guarded.pauses[:6] == [0.05, 0.1, 0.2, 0.4, 0.8, 0.8]
    assert len(guarded.pauses) == 50 and max(guarded.pauses) == 0.8


def test_a_server_that_lived_is_replaced_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a life of some length the pause is the shortest again."""
    guarded = Played([0.1, 0.1, 0.1, 600.0, 0.1])
    play(monkeypatch, guarded)
    assert guarded.pauses == [0.05, 0.1, 0.2, 0.05, 0.1]


def test_what_cannot_be_started_now_may_be_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ran once is tried again whatever goes wrong, and what went wrong is told."""
    guarded = Played([-1, -1, 0.1])
    reports = play(monkeypatch, guarded)
    assert ["No such file" in str(report) for report in reports] == [True, True, False]


def test_a_first_failure_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no server was ever up, our process waits for the verdict: one attempt, one report."""
    guarded = Played([-1, 0.1], port=guard.ANY_PORT)
    (report,) = play(monkeypatch, guarded)
    assert "No such file" in str(report)
    assert guarded.pauses == []
