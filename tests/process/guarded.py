"""Looking at the embedded nats-server from outside: its processes, its sockets, its clients."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.subscription import Subscription

from boltws.backplane.embedded import EmbeddedServer

from .harness import PATIENCE, eventually


def ps(pid: int, *columns: str) -> list[str]:
    """What `ps` says of a process, in words; nothing where there is none."""
    wanted = [word for column in columns for word in ("-o", f"{column}=")]
    done = subprocess.run(["ps", "-ww", *wanted, "-p", str(pid)], capture_output=True, text=True)
    return done.stdout.split()


def guard_of(server: int) -> int:
    """The process that started this nats-server."""
    return int(ps(server, "ppid")[0])


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has, too."""
    state = ps(pid, "stat")
    return not state or state[0].startswith("Z")


def until_gone(*pids: int) -> None:
    for pid in pids:
        eventually(lambda pid=pid: gone(pid), f"the end of process {pid}")  # type: ignore[misc]


def until_replaced(server: EmbeddedServer, pid: int) -> None:
    """Wait until another nats-server than `pid` is up."""
    eventually(lambda: server.pid != pid, f"another nats-server than {pid}")


async def connect(url: str, **options: Any) -> Client:
    """A client that reconnects as fast as it can, and says nothing of it."""

    async def quiet(error: Exception) -> None:
        pass

    options = {"error_cb": quiet, "reconnect_time_wait": 0.02, **options}
    client = Client()
    try:
        await client.connect(
            url, max_reconnect_attempts=-1, connect_timeout=int(PATIENCE), **options
        )
    except BaseException:
        await client.close()  # `nats.connect` leaves the socket of a refused client open
        raise
    return client


async def subscribe(client: Client, subject: str) -> Subscription:
    """A subscription that the server knows of."""
    inbox = await client.subscribe(subject)
    await client.flush()  # its PING overtakes what waits to be written, as the SUB does
    await client.flush()
    return inbox


def listening(pid: int) -> list[str]:
    """The addresses that a process listens on, as the kernel has them (Linux)."""
    held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            waits = words[3] == "0A" or table.startswith("udp")
            if waits and f"socket:[{words[9]}]" in held:
                address, _, port = words[1].partition(":")
                found.append(f"{table} {address} {int(port, 16)}")
    return found
