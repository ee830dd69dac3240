"""The fixtures of the end-to-end suite: after each test the books balance and no error is left."""

from __future__ import annotations

import pytest

from boltws.server.run import raise_descriptor_limit

from ..e2e.conftest import (
    bolts,
    expect_error,
    kind,
    leaving,
    new_bolt,
    pytest_runtest_makereport,
    serve,
    server,
    watch,
)

__all__ = [
    "bolts",
    "expect_error",
    "kind",
    "leaving",
    "new_bolt",
    "pytest_runtest_makereport",
    "serve",
    "server",
    "watch",
]


@pytest.fixture(scope="package", autouse=True)
def many_descriptors() -> None:
    """Both ends of every connection are in this process."""
    raise_descriptor_limit()
