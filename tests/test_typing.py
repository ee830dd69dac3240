"""What a type checker says of programs that use the public API."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SAMPLE = Path(__file__).with_name("typing_sample.py")


@pytest.mark.slow
@pytest.mark.timeout(300)  # without a cache mypy reads the whole standard library first
def test_the_sample_is_clean_under_strict_mypy() -> None:
    """Every documented form type-checks, gives the documented type, and mistakes are refused."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(SAMPLE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_the_sample_runs_but_for_its_mistakes() -> None:
    """What the sample registers can be registered: types and behaviour do not differ."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    good = [line for line in lines if "# type: ignore" not in line]
    assert len(lines) - len(good) >= 10
    names: dict[str, object] = {"__name__": "typing_sample"}
    exec(compile("\n".join(good), str(SAMPLE), "exec"), names)
    assert {"rooms", "strict", "beside"} <= names.keys()
