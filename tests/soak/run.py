"""Runs the soak: ``python -m tests.soak.run --minutes 10``. Linux only, as it reads ``/proc``.

Prints a line of figures every few seconds and a verdict at the end; exits with 1 where memory
was not flat, something was left over, or the books did not balance. All clients leave four times:
what memory has grown by with nobody there is what connections have left behind.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import urllib.request
from pathlib import Path

from ..process.harness import Served, serving
from .churn import Churn
from .verdict import Gauges, Sample, complaints, growth, kept

ROOT = Path(__file__).parents[2]
LULLS = 4  # times that all clients leave, the last at the end
SETTLING = 30.0  # seconds in which all must be gone then
COLUMNS = (
    "rss_kb descriptors tasks now closing opened received sends dropped_in dropped_out errors"
).split()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.soak.run")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=200, help="at a time")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between samples")
    # In runs of a minute it went by -1.7 to +1.9 MB under load, by 0.1 to 0.4 MB in the lulls.
    parser.add_argument("--margin-kb", type=int, default=6144, help="how far memory may grow")
    parser.add_argument("--kept-kb", type=int, default=1024, help="... with no client there")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    given = parser.parse_args()
    if given.minutes * 60 < 16 * given.every:
        parser.error("there are too few samples in so short a time: give --every less")
    print(f"{given.clients} clients at a time, {given.minutes:g} minutes, seed {given.seed}")
    command = [sys.executable, "-m", "boltws", "run", "tests.soak.app:bolt"]
    with serving([*command, "--port", "0", "--no-access-log"], ROOT) as served:
        found = asyncio.run(soak(served, given))
        code = served.stop()
        found += [f"the server's exit status was {code}"] if code else []
        for sign in ("Traceback", "Exception ignored", "was never", "was destroyed"):
            found += [f"{sign!r} in the server's output"] if sign in served.output else []
    for complaint in found:
        print(f"NOT GOOD: {complaint}")
    print("verdict: " + ("not good" if found else "good"))
    return bool(found)


async def soak(served: Served, given: argparse.Namespace) -> list[str]:
    """Churn and sample; now and then, and at the end, wait until all have gone; and judge."""
    port = await asyncio.to_thread(lambda: served.port)
    await read_gauges(port)  # the first answer makes what the base has ever after
    base = await read_gauges(port)
    churn = Churn(port, given.clients, given.seed)
    samples: list[Sample] = []
    lulls: list[Sample] = []
    print(" seconds" + "".join(f"{name:>12}" for name in COLUMNS))
    began = time.monotonic()
    for lull in range(1, LULLS + 1):
        until = began + given.minutes * 60 * lull / LULLS
        churning = asyncio.create_task(churn.run())
        while time.monotonic() < until and not churning.done():
            await asyncio.sleep(given.every)
            samples.append(await sample(port, began))
        churn.stop()
        await churning
        await settled(port, base)
        lulls.append(await sample(port, began))
    end = lulls[-1].gauges
    print(f"clients: {dict(churn.done)}; cut short: {dict(churn.failed)}")
    print(f"closed: {end['closed']}; refused: {end['refused']}")
    print(f"memory, last quarter against second: {growth(samples):+} KB")
    print(f"memory with no client, last lull against first: {kept(lulls):+} KB")
    return complaints(base, samples, lulls, given.margin_kb, given.kept_kb)


async def sample(port: int, began: float) -> Sample:
    """The gauges now, which are printed."""
    now = Sample(time.monotonic() - began, await read_gauges(port))
    show(now.at, now.gauges)
    return now


async def settled(port: int, base: Gauges) -> Gauges:
    """The gauges when all is as it was, or when the time for that is over."""
    deadline = time.monotonic() + SETTLING
    while True:
        gauges = await read_gauges(port)
        left = any(gauges[name] > base[name] for name in ("descriptors", "tasks", "closing", "now"))
        if not left or time.monotonic() > deadline:
            return gauges
        await asyncio.sleep(0.5)


async def read_gauges(port: int) -> Gauges:
    """What the server tells of itself."""
    return await asyncio.to_thread(_fetch, f"http://127.0.0.1:{port}/")


def _fetch(url: str) -> Gauges:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=30) as answer:
        gauges: Gauges = json.load(answer)
        return gauges


def show(at: float, gauges: Gauges) -> None:
    """One line of the table."""
    print(f"{at:8.0f}" + "".join(f"{gauges[name]:>12,}" for name in COLUMNS), flush=True)


if __name__ == "__main__":
    sys.exit(main())
