"""Fixtures for real processes: every one a test starts is gone when the test is over."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from .harness import Served, environment, self_signed


class Serve(Protocol):
    """Write the files into the test's folder, start the command there."""

    def __call__(self, argv: list[str], /, **files: str) -> Served: ...


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """`serve(argv, app=source)` writes `app.py` and starts `argv` beside it."""
    started: list[Served] = []

    def start(argv: list[str], /, **files: str) -> Served:
        for name, source in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        served = Served(argv, tmp_path, environment())
        started.append(served)
        return served

    yield start
    for served in started:
        served.kill()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signed itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    return self_signed(tmp_path_factory.mktemp("tls"))
