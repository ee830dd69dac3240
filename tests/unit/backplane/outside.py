"""For tests of publishers: a nats-server with any configuration, and an ear on it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg

from boltws.backplane.embedded import find_server

PATIENCE = 30.0
CLIENT = "01234567-89ab-8cde-8f01-23456789abcd"
OTHER = "fedcba98-7654-8210-9f01-23456789abcd"


@contextmanager
def nats_server(folder: Path, config: str = "", *arguments: str) -> Iterator[str]:
    """A real nats-server on a free port; gives its host and port."""
    file = folder / "nats.conf"
    file.write_text(f'host: "127.0.0.1"\nport: -1\nports_file_dir: "{folder}"\n{config}')
    process = subprocess.Popen(
        [find_server(), "-c", file, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield _address(process, folder)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _address(process: subprocess.Popen[bytes], folder: Path) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for file in folder.glob(f"*_{process.pid}.ports"):
            try:
                return str(json.loads(file.read_text())["nats"][0]).partition("://")[2]
            except ValueError:
                continue  # not written to its end yet
        if process.poll() is not None:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read().decode())
        time.sleep(0.01)
    raise AssertionError("the nats-server did not come up")


class Heard(NamedTuple):
    """One message as a NATS client sees it."""

    subject: str
    payload: bytes
    headers: dict[str, str]


class Ear:
    """Hears all that is published."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()

    async def take(self, message: Msg) -> None:
        self._heard.put_nowait(Heard(message.subject, message.data, message.headers or {}))

    async def next(self) -> Heard:
        """The next message; waits for it."""
        async with asyncio.timeout(PATIENCE):
            return await self._heard.get()

    @property
    def silent(self) -> bool:
        """Whether nothing is there that was not asked for."""
        return self._heard.empty()


@asynccontextmanager
async def ear(url: str, **options: Any) -> AsyncIterator[Ear]:
    """Subscribed to everything while the block runs."""
    client = Client()
    await client.connect(url, **options)
    try:
        listening = Ear()
        await client.subscribe(">", cb=listening.take)
        await client.flush()
        yield listening
    finally:
        await client.close()
