"""`python -m bench`: server CPU per message, boltws against its peers in the same run.

Figures of one machine say little; ratios of two servers measured in turns on it say more.
Every round starts the servers afresh, and in it they take turns, slice by slice.
Exit code 1: the run failed. A missed target is no failure.
"""

import argparse
import json
import os
import resource
import sys

from boltws import StartError

from .client import Failed
from .cluster import CLUSTER, Cluster
from .report import SUBJECT, Comparison, environment, table
from .scenarios import SCENARIOS, Scenario

PEERS = ("aiohttp", "boltws", "floor", "starlette", "websockets")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = [scenario.name for scenario in [*SCENARIOS, *CLUSTER]]
    parser.add_argument("--quick", action="store_true", help="fewer slices, 3 rounds")
    parser.add_argument(
        "--scenario", choices=names, action="append", help="only this one; may be repeated"
    )
    parser.add_argument("--rounds", type=int, help="samples of each server (default 7)")
    parser.add_argument("--json", metavar="FILE", help="write samples and ratios there")
    parser.add_argument(
        "--peers",
        default="aiohttp",
        help=f"compare with these, comma-separated: {', '.join(PEERS)} (default aiohttp)",
    )
    parser.add_argument(
        "--subject",
        default="boltws",
        choices=PEERS,
        help="what is compared; `--subject aiohttp` shows the noise: its ratio should be 1",
    )
    chosen = parser.parse_args()
    chosen.peers = chosen.peers.split(",")
    for peer in chosen.peers:
        if peer not in PEERS:
            parser.error(f"unknown peer {peer!r}: one of {', '.join(PEERS)}")
    if chosen.rounds is None:
        chosen.rounds = 3 if chosen.quick else 7
    if chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    return chosen


def cores() -> tuple[int | None, int | None]:
    """One core for the load generator and another for the server, where there are two."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[-1]) if len(usable) > 1 else (None, None)


def compare(
    scenario: Scenario, subject: str, peers: list[str], rounds: int, slices: int, core: int | None
) -> list[Comparison]:
    samples = []
    for done in range(rounds):
        progress(f"{scenario.name}: round {done + 1} of {rounds}")
        samples.append(scenario.sample([subject, *peers], slices, core))
    progress("")
    ours, *others = map(list, zip(*samples, strict=True))
    return [
        Comparison(scenario, subject, peer, ours, theirs)
        for peer, theirs in zip(peers, others, strict=True)
    ]


def measure(cluster: Cluster, rounds: int, slices: int, core: int | None) -> list[Comparison]:
    samples = []
    for done in range(rounds):
        progress(f"{cluster.name}: round {done + 1} of {rounds}")
        samples.append(cluster.sample(slices, core))
    progress("")
    return [
        Comparison(row, SUBJECT, row.peer, *map(list, zip(*pairs, strict=True)))
        for row, pairs in zip(cluster.rows, zip(*samples, strict=True), strict=True)
    ]


def progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def main() -> int:
    chosen = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    mine, core = cores()
    if mine is not None:
        os.sched_setaffinity(0, {mine})
    wanted = [s for s in SCENARIOS if not chosen.scenario or s.name in chosen.scenario]
    clusters = [c for c in CLUSTER if not chosen.scenario or c.name in chosen.scenario]
    found = environment([chosen.subject, *chosen.peers])
    print(", ".join(f"{name} {version}" for name, version in found.items()))
    print(
        f"{chosen.rounds} rounds; server CPU, user and system; "
        + ("one core: server and load share it" if mine is None else "server and load on two cores")
    )
    slices = 4 if chosen.quick else 10
    comparisons: list[Comparison] = []
    try:
        for scenario in wanted:
            comparisons += compare(
                scenario, chosen.subject, chosen.peers, chosen.rounds, slices, core
            )
        for cluster in clusters:
            comparisons += measure(cluster, chosen.rounds, slices, core)
    except (Failed, OSError, StartError) as error:
        print(f"\nbench: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print(table(comparisons))
    if chosen.json:
        kept = {"environment": found, "results": [c.as_json() for c in comparisons]}
        with open(chosen.json, "w") as file:
            json.dump(kept, file, indent=2)
            file.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
