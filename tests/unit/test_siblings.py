"""What servers' command lines say of the processes beside this one."""

from __future__ import annotations

import logging

import pytest

from boltws import Bolt
from boltws.siblings import workers_asked_for

from .flow import Start


@pytest.mark.parametrize(
    ("argv", "workers"),
    [
        (["app:bolt"], 1),
        (["app:bolt", "--workers", "4"], 4),
        (["app:bolt", "--workers=3"], 3),
        (["-w", "2", "app:bolt"], 2),
        (["app:bolt", "--workers"], 1),
        (["app:bolt", "-w", "many"], 1),
    ],
)
def test_the_command_line(argv: list[str], workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flags of the servers that Bolt runs on."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    assert workers_asked_for(argv) == workers


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What platforms set, where the command line says nothing."""
    monkeypatch.setenv("WEB_CONCURRENCY", "5")
    assert workers_asked_for([]) == 5
    assert workers_asked_for(["--workers", "2"]) == 2


@pytest.mark.parametrize("workers", [1, 2])
async def test_workers_without_a_backplane_are_told(
    workers: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, start: Start
) -> None:
    """Each would broadcast to its own clients alone, in silence."""
    monkeypatch.setattr("sys.argv", ["uvicorn", "app:bolt", "--workers", str(workers)])
    with caplog.at_level(logging.WARNING, "boltws"):
        start(Bolt())
    assert ("backplane" in caplog.text) == (workers > 1)
