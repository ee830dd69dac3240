"""Fuzzes one target for a while: ``python -m tests.fuzz.run reader --seconds 60``.

Exits with a status other than 0 on a finding, whose input is then in ``build/fuzz`` and can be
given again: ``python -m tests.fuzz.run reader build/fuzz/crash-...``
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
FINDINGS = HERE.parents[1] / "build" / "fuzz"
TARGETS = ("reader", "handshake")


def main() -> None:
    """Hand over to libFuzzer, which ends the process."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.fuzz.run")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("inputs", nargs="*", type=Path, help="only try these, once each")
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()

    atheris = importlib.import_module("atheris")  # not there where only the seeds are replayed
    # The coverage that guides the search is that of our own code and of the library's codecs.
    with atheris.instrument_imports(include=["boltws", "websockets"]):
        check = importlib.import_module(f".{given.target}", __package__).check
    if given.inputs:
        for path in given.inputs:
            check(path.read_bytes())
        sys.exit(0)
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as grown:  # what libFuzzer finds of interest goes here
        words = HERE / f"{given.target}.dict"
        options = [f"-dict={words}"] if words.exists() else []
        options += [f"-max_total_time={given.seconds}", "-timeout=10", "-max_len=4096"]
        options += [f"-artifact_prefix={FINDINGS}/", "-print_final_stats=1", "-rss_limit_mb=1024"]
        atheris.Setup([sys.argv[0], *options, grown, str(HERE / "corpus" / given.target)], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
