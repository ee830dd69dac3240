"""A server under measurement: its process, its CPU time, its memory."""

import os
import re
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from .client import Failed
from .peers import HOST

BACKPLANE = "BOLTWS_BACKPLANE"
START = 20.0  # seconds until a server must accept connections


class Server:
    """One peer in a process of its own, on a core of its own, for the length of a `with`."""

    def __init__(self, peer: str, core: int | None, module: str = "", **environment: str):
        self.peer = peer
        with socket.create_server((HOST, 0)) as free:
            self.port: int = free.getsockname()[1]
        inherited = {name: value for name, value in os.environ.items() if name != BACKPLANE}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module or f"bench.peers.{peer}", f"{self.port}"],
            env=inherited | environment,
        )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})

    def __enter__(self) -> Self:
        try:
            self.wait_until_it_listens()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START
        while True:
            try:
                socket.create_connection((HOST, self.port)).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise Failed(f"{self.peer}: the server does not start") from None
                time.sleep(0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        died = self.process.poll()
        self.stop()
        if died is not None and error is None:
            raise Failed(f"{self.peer}: the server ended with exit code {died}")

    def stop(self) -> None:
        """Nothing of a shutdown is measured, so it need not be a gentle one."""
        self.process.kill()
        self.process.wait()

    def cpu(self) -> float:
        """Microseconds of user and system time of the whole process so far.

        This is the process's CPU clock, in nanoseconds: /proc/<pid>/stat has the same figure in
        steps of 10 ms. The kernel's part of sending on loopback is in it.
        """
        time.sleep(0.01)  # let it finish its turn: a sleeping process's clock is up to date
        clock = (~self.process.pid << 3) | 2  # what clock_getcpuclockid(3) computes
        return time.clock_gettime_ns(clock) / 1e3

    def resident(self) -> float:
        """Kilobytes of resident memory."""
        with open(f"/proc/{self.process.pid}/status") as status:
            found = re.search(r"VmRSS:\s*(\d+) kB", status.read())
        assert found is not None
        return float(found[1])
