"""Runs the Autobahn TestSuite's fuzzing client against the echo example, served by `boltws run`.

    make conformance                          groups 1 to 7, 9 and 10
    make conformance ARGS="--groups 6 7"      these alone
    make conformance ARGS="--compression"     12 and 13 as well: some eight minutes more

Every case must be OK in its behaviour and in its close, or stand in RESULTS.md with its outcome
and the reason. The suite needs a Python 2.7; ``PYTHON27`` names one where none is found.
"""
# ruff: noqa: T201 - a command talks to its terminal

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..process.harness import Served, console_script, serving

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".autobahn"
SITE = FOLDER / "site"
REPORTS = FOLDER / "reports"
REQUIREMENTS = HERE / "requirements.txt"
RESULTS = HERE / "RESULTS.md"

GROUPS = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}
"""The cases of each group: a case that never ran is no case that passed."""

COMPRESSION = (12, 13)
EXPLAINABLE = ("NON-STRICT", "INFORMATIONAL")
"""What may stand in RESULTS.md; nothing excuses a failure."""

AGENT = "boltws"
LONGEST = 3600.0
"""Seconds until an installation or a run is given up: only one that hangs takes as long."""


class Unable(Exception):
    """The suite could not be run, or not to its end; the text is one line for the terminal."""


@dataclass(frozen=True)
class Outcome:
    """What the suite says of one case."""

    behavior: str
    close: str

    @property
    def ok(self) -> bool:
        return self.behavior == self.close == "OK"

    @property
    def worst(self) -> str:
        return self.close if self.behavior == "OK" else self.behavior

    def __str__(self) -> str:
        return f"behavior {self.behavior}, close {self.close}"


def find_python27() -> str:
    """A Python 2.7 that starts: PYTHON27, the one on PATH, or one of pyenv's."""
    for candidate in _candidates():
        code = "import sys; assert sys.version_info[:2] == (2, 7); print(sys.executable)"
        try:
            return subprocess.check_output(
                [candidate, "-c", code], stderr=subprocess.DEVNULL, text=True
            ).strip()
        except (OSError, subprocess.CalledProcessError):
            continue  # a shim of pyenv's, for instance, that leads to no chosen version
    if named := os.environ.get("PYTHON27"):
        raise Unable(f"PYTHON27={named} is no Python 2.7 that starts")
    raise Unable(
        "the Autobahn TestSuite needs a Python 2.7, and there is none on PATH or in pyenv; "
        "PYTHON27=/path/to/python2.7 names one"
    )


def _candidates() -> Iterator[str]:
    if named := os.environ.get("PYTHON27"):
        yield named
        return
    yield "python2.7"
    if pyenv := shutil.which("pyenv"):
        listed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True)
        for version in listed.stdout.split():
            if version.startswith("2.7."):
                prefix = subprocess.run([pyenv, "prefix", version], capture_output=True, text=True)
                yield f"{prefix.stdout.strip()}/bin/python2.7"


def install(python27: str) -> None:
    """Put the suite into the git-ignored folder, unless just this is there already."""
    stamp = SITE / ".installed"
    wanted = f"{python27}\n{REQUIREMENTS.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(SITE, ignore_errors=True)
    FOLDER.mkdir(exist_ok=True)
    print("installing the Autobahn TestSuite ...", flush=True)
    options = ["--quiet", "--disable-pip-version-check", "--target", str(SITE)]
    command = [python27, "-m", "pip", "install", *options, "-r", str(REQUIREMENTS)]
    _run(command, FOLDER / "install.log", dict(os.environ))
    # Without it Python 2 takes `zope` for no package: pip's --target drops the file that says so.
    (SITE / "zope" / "__init__.py").touch()
    stamp.write_text(wanted)


def _run(command: list[str], log: Path, env: dict[str, str]) -> None:
    """Run a command with its output in a file. Raises :class:`Unable` where it fails."""
    shown = " ".join(command[1:4])
    with log.open("w") as output:
        try:
            code = subprocess.run(
                command, cwd=FOLDER, env=env, stdout=output, stderr=output, timeout=LONGEST
            ).returncode
        except subprocess.TimeoutExpired:
            raise Unable(f"`{shown} ...` did not end within {LONGEST:.0f} s; see {log}") from None
    if code != 0:
        raise Unable(f"`{shown} ...` failed with exit code {code}; see {log}")


def fuzz(python27: str, groups: list[int]) -> dict[str, Outcome]:
    """Serve, let the fuzzing client loose on it, stop; gives the outcome of each case that ran."""
    shutil.rmtree(REPORTS, ignore_errors=True)  # an old report must not pass for this run's
    name = "compressed:compressed" if {*COMPRESSION} & {*groups} else "app:bolt"
    target = f"{__package__}.{name}"
    argv = [console_script(), "run", target, "--port", "0", "--no-access-log"]
    with serving(argv, ROOT) as served:
        spec = {
            "outdir": str(REPORTS),
            "servers": [{"agent": AGENT, "url": f"ws://127.0.0.1:{served.port}/echo"}],
            "cases": [f"{group}.*" for group in groups],
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        written = FOLDER / "spec.json"
        written.write_text(json.dumps(spec, indent=1))
        command = [python27, "-m", "autobahntestsuite.wstest", "-m", "fuzzingclient"]
        env = {**os.environ, "PYTHONPATH": str(SITE)}
        _run([*command, "-s", str(written)], FOLDER / "client.log", env)
        _check_server(served)
    report = json.loads((REPORTS / "index.json").read_text())[AGENT]
    return {
        case: Outcome(found["behavior"], found["behaviorClose"]) for case, found in report.items()
    }


def _check_server(served: Served) -> None:
    """What the client cannot see: that the server ends well, and lost nothing on the way."""
    code = served.stop()
    if code != 0:
        raise Unable(f"the server ended with exit code {code}:\n{served.output}")
    served.assert_no_noise()
    if "books: balance" not in served.output:
        raise Unable(f"the server's books do not balance:\n{served.output}")


def explained() -> dict[str, Outcome]:
    """The rows of RESULTS.md that give a case, its outcome and a reason."""
    row = re.compile(r"^\| (\d+(?:\.\d+)+) \| ([A-Z -]+) \| ([A-Z -]+) \| \S.* \|$", re.MULTILINE)
    listed = {}
    for case, behavior, close in row.findall(RESULTS.read_text()):
        listed[case] = Outcome(behavior, close)
        if not {behavior, close} <= {"OK", *EXPLAINABLE} or listed[case].ok:
            raise Unable(f"{RESULTS.name} lists {case}: nothing to explain, or to be excused")
    return listed


def judge(outcomes: dict[str, Outcome], groups: list[int]) -> Iterator[str]:
    """What is wrong, one line each."""
    ran = Counter(_group(case) for case in outcomes)
    for group in groups:
        if ran[group] != GROUPS[group]:
            yield f"group {group}: {ran[group]} of {GROUPS[group]} cases ran"
    listed = explained()
    for case in sorted({*outcomes, *listed}, key=_in_order):
        if case in outcomes:
            found = outcomes[case]
            if not found.ok and listed.get(case) != found:
                yield f"{case}: {found}; {_what_happened(case)}"
            elif found.ok and case in listed:
                yield f"{case}: is OK, and {RESULTS.name} lists it as {listed[case]}"
        elif _group(case) in groups:
            yield f"{case}: {RESULTS.name} lists it, and it never ran"


def _what_happened(case: str) -> str:
    file = REPORTS / f"{AGENT}_case_{case.replace('.', '_')}.json"
    report = json.loads(file.read_text())
    said = " / ".join(str(report[part]) for part in ("description", "result", "resultClose"))
    said = " ".join(re.sub(r"<[^>]+>", " ", said).split())  # it is written for a page
    return f"{said} (the wire: {file.relative_to(ROOT)})"


def _group(case: str) -> int:
    return int(case.partition(".")[0])


def _in_order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def summarise(outcomes: dict[str, Outcome], groups: list[int]) -> None:
    """Print the count of each outcome, by group."""
    for group in groups:
        counts = Counter(found.worst for case, found in outcomes.items() if _group(case) == group)
        print(f"group {group:2}: " + ", ".join(f"{n} {what}" for what, n in counts.most_common()))
    counts = Counter(found.worst for found in outcomes.values())
    total = ", ".join(f"{n} {what}" for what, n in counts.most_common())
    print(f"{len(outcomes)} cases: {total}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="make conformance ARGS=", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--groups", type=int, nargs="+", choices=GROUPS, metavar="N", help="run these alone"
    )
    parser.add_argument("--compression", action="store_true", help="add the groups 12 and 13")
    given = parser.parse_args()
    groups = sorted({*(given.groups or [g for g in GROUPS if g not in COMPRESSION])})
    if given.compression:
        groups = sorted({*groups, *COMPRESSION})
    try:
        python27 = find_python27()
        install(python27)
        outcomes = fuzz(python27, groups)
        wrong = list(judge(outcomes, groups))
    except (Unable, AssertionError) as error:
        sys.exit(f"conformance: {error}")
    summarise(outcomes, groups)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        sys.exit(f"conformance: {len(wrong)} neither OK nor as {RESULTS.relative_to(ROOT)} has it")


if __name__ == "__main__":
    main()
