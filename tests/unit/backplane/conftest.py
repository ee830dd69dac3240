"""Fixtures: nodes on a server that is the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from boltws import Bolt

from ..conftest import Errors
from ..flow import Start
from .fleet import FakeLink, Fleet


@pytest.fixture
async def fleet(
    start: Start, bolts: list[Bolt], logged: Errors, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Fleet]:
    """Nodes without sockets. Afterwards: no handler raised, all books balance, no error was
    logged."""
    fleet = Fleet(start)
    monkeypatch.setattr("boltws.backplane.link.Link", lambda: FakeLink(fleet.nats))
    monkeypatch.setattr("boltws.backplane.nats.MOMENT", 0)  # those who ask are told at once
    monkeypatch.setattr("boltws.backplane.nats.LISTENED", 0)  # they know each other at once
    yield fleet
    assert fleet.nats.raised == []
    for bolt in bolts:
        assert bolt.stats().imbalance() == ""
    assert logged.texts() == []
