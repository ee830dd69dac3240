"""The seeds of the fuzzer, replayed: what it was begun with, and whatever it has found since."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..unit.server.oracle import judge
from . import handshake, reader

CORPUS = Path(__file__).parent / "corpus"
CHECKS = {"reader": reader.check, "handshake": handshake.check}
SEEDS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*"))


@pytest.fixture(autouse=True)
def _logging_comes_back() -> Iterator[None]:
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_holds(seed: str) -> None:
    """All that its target asserts, for this input."""
    CHECKS[seed.partition("/")[0]]((CORPUS / seed).read_bytes())


def test_both_targets_have_seeds() -> None:
    """A corpus that was not found would prove nothing."""
    assert {seed.partition("/")[0] for seed in SEEDS} == set(CHECKS)


def test_a_reader_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target can fail: where the RFC's reading and the reader's differ, a seed tells."""
    monkeypatch.setattr(reader, "judge", lambda stream, size, fragments: judge(stream, size, 2))
    with pytest.raises(AssertionError):
        reader.check((CORPUS / "reader" / "fragments").read_bytes())


def test_a_handshake_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target can fail: a foreign page that is let in is noticed."""
    monkeypatch.setattr("boltws.origin._same_host", lambda *anything: True)
    with pytest.raises(AssertionError, match="evil"):
        handshake.check((CORPUS / "handshake" / "origin-foreign").read_bytes())
