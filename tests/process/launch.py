"""The ways to start a server, and the app that the shutdown tests stop."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from .harness import console_script


@dataclass(frozen=True)
class Launch:
    """A command line that serves `app.py`, and where its endpoint is found."""

    name: str
    arguments: tuple[str, ...]
    prefix: str = ""
    ours: bool = True
    """Whether our own protocol and exit code are at work, not those of a stock server."""

    @property
    def argv(self) -> list[str]:
        command = console_script() if self.arguments[0] == "boltws" else sys.executable
        skip = 1 if self.arguments[0] == "boltws" else 0
        return [command, *self.arguments[skip:]]

    def __str__(self) -> str:
        return self.name


SCRIPT = Launch("python app.py", ("app.py",))
MODULE = Launch("python -m boltws", ("-m", "boltws", "run", "app:bolt", "--port", "0"))
COMMAND = Launch("boltws", ("boltws", "run", "app:bolt", "--port", "0"))
MOUNTED = Launch("boltws fastapi", ("boltws", "run", "app:api", "--port", "0"), "/in")
UVICORN = Launch(
    "uvicorn", ("-m", "uvicorn", "app:bolt", "--port", "0", "--lifespan", "on"), ours=False
)
UVICORN_MOUNTED = Launch(
    "uvicorn fastapi", ("-m", "uvicorn", "app:api", "--port", "0"), "/in", ours=False
)

OURS = [SCRIPT, MODULE, COMMAND, MOUNTED]
STOCK = [UVICORN, UVICORN_MOUNTED]

_LIVE_APP = '''
"""Keeps a journal of what happened to its clients; `api` mounts the same Bolt in FastAPI."""
import asyncio
import atexit
import threading
import time
from pathlib import Path

from fastapi import FastAPI

from boltws import Bolt

HERE = Path(__file__).parent
bolt = Bolt(OPTIONS)
live = bolt.ws("/live")
still = bolt.ws("/blocking", blocking=True)
guarded = bolt.ws("/guarded")
api = FastAPI()
api.mount("/in", bolt)
never = threading.Event()
# The last word, whoever serves: every message and every connection is accounted for.
atexit.register(lambda: note("books", bolt.stats().imbalance() or "balance"))


def note(*words):
    with (HERE / "journal").open("a") as journal:
        journal.write(" ".join(map(str, words)) + "\\n")


def joined(event):
    note("connect", event.client_id)
    event.reply(event.client_id)


@guarded.on_before
async def ask(event):
    if event.type == "connect":
        note("asked")
        while not (HERE / "release").exists() or "forever" in event.request.query:
            await asyncio.sleep(0.01)


def left(event):
    note("disconnect", event.client_id, event.close_code, time.monotonic())


for endpoint in (live, still, guarded):
    endpoint.on_connect(joined)
    endpoint.on_disconnect(left)


@live.on_after
async def slow_goodbye(event):
    if event.type == "disconnect":
        await asyncio.sleep(0.05)
        note("goodbye", event.client_id)


@live.on_message
async def said(event):
    match event.message:
        case "wait":
            event.reply("started")
            while not (HERE / "release").exists():
                await asyncio.sleep(0.01)
            note("finished", event.client_id)
        case "stick":
            event.reply("started")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                note("cut", event.client_id)
                raise
        case "flood":
            event.reply("x" * 16_000_000)
            return
    event.reply("reply to " + event.message)


@still.on_message
def said_still(event):
    event.reply("started")
    match event.message:
        case "wait":
            while not (HERE / "release").exists():
                time.sleep(0.01)
            note("finished", event.client_id)
        case "stick":
            never.wait()
    event.reply("reply to " + event.message)


if __name__ == "__main__":
    bolt.run(port=0)
    note("returned")
'''


def live_app(options: str = "") -> str:
    """The source of the app, with these options for its Bolt."""
    return _LIVE_APP.replace("OPTIONS", options)
