"""What is measured: some work that a server is given again and again, and what it costs it."""

import resource
import select
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from .client import Crowd, Failed, close_frame, connect, greet, masked, tcp, unmasked
from .peers import TEXTS
from .server import Server

MEMBERS = 1_000
ECHOERS = 50
IDLERS = 9_000
FRAME = len(unmasked(TEXTS[0]))

Work = Callable[[int], int]
"""Does something so many times. Gives the number of units (messages, ...) that came of it."""


def fan_out(server: Server, burst: int = 1) -> Work:
    """`burst` messages in one turn of the loop to 1,000 members, then wait for all of them."""
    room = Crowd(connect(server.port, "/room", MEMBERS))
    control = connect(server.port, "/control", 1)[0]
    command = masked(f"go {burst}")
    control.send(command)
    room.compare(b"".join(map(unmasked, TEXTS[:burst])))

    def work(times: int) -> int:
        for _ in range(times):
            control.send(command)
            room.receive(burst * FRAME)
        return times * burst * MEMBERS

    return work


def echo(server: Server, depth: int = 1) -> Work:
    """50 connections, each with `depth` messages in flight, written at once."""
    crowd = Crowd(connect(server.port, "/echo", ECHOERS))
    request = b"".join(map(masked, TEXTS[:depth]))
    for client in crowd.clients.values():
        client.send(request)
    crowd.compare(b"".join(map(unmasked, TEXTS[:depth])))

    def work(times: int) -> int:
        crowd.exchange(request, depth * FRAME, times)
        return times * depth * ECHOERS

    return work


def opening(server: Server) -> Work:
    """From TCP's open to its close, with the handshake of Chrome.

    The client sends the first close frame and the server closes TCP, as RFC 6455 7.1.1 asks.
    """

    def work(times: int) -> int:
        for _ in range(times):
            clients = [tcp(server.port) for _ in range(20)]
            greet(clients, "/echo")
            for client in clients:
                client.send(close_frame())
            for client in clients:
                answer = b""
                while chunk := client.recv(256):
                    answer += chunk
                client.close()
                if answer != b"\x88\x02\x03\xe8":
                    raise Failed(f"not the expected answer to a close frame: {answer!r}")
        return times * 20

    return work


def idling(server: Server) -> Work:
    """Connections that say nothing after the handshake of Chrome, and stay."""
    opening(server)(5)  # the first hundred pay for what is loaded and allocated once
    time.sleep(1)
    kept = []

    def work(times: int) -> int:
        kept.extend(connect(server.port, "/echo", times))
        time.sleep(1)  # what the handshakes took and gave back is not held per connection
        poll = select.poll()
        for client in kept:
            poll.register(client, select.POLLIN)
        if poll.poll(0):
            raise Failed("an idle connection was closed, or got something")
        return times

    return work


def idlers() -> int:
    """9,000 connections, or what the descriptor limit admits (the servers inherit it)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return IDLERS if hard == resource.RLIM_INFINITY else min(IDLERS, hard - 200)


@dataclass(frozen=True)
class Scenario:
    """Work, and what is read before and after it: by default the server's CPU time.

    `target` is what boltws shall reach: a ratio to aiohttp, or with `absolute` a figure.
    """

    name: str
    unit: str
    prepare: Callable[[Server], Work]
    times: int  # what makes a slice of about 0.2 s
    target: float | None = None
    absolute: bool = False
    meter: Callable[[Server], float] = Server.cpu

    def sample(self, peers: list[str], slices: int, core: int | None) -> list[float]:
        """One figure for each peer, from servers started afresh.

        They take turns, slice by slice: what slows the machine for a while slows all of them.
        """
        costs = [0.0] * len(peers)
        units = [0] * len(peers)
        with ExitStack() as stack:
            servers = [stack.enter_context(Server(peer, core)) for peer in peers]
            works = [self.prepare(server) for server in servers]
            for work in works:  # to warm up
                work(self.times)
            for _ in range(slices):
                for i, (server, work) in enumerate(zip(servers, works, strict=True)):
                    before = self.meter(server)
                    units[i] += work(self.times)
                    costs[i] += self.meter(server) - before
        return [cost / count for cost, count in zip(costs, units, strict=True)]


class Memory(Scenario):
    """What is opened stays, so there is one slice, and one server at a time."""

    def sample(self, peers: list[str], slices: int, core: int | None) -> list[float]:
        taken = []
        for peer in peers:
            with Server(peer, core) as server:
                work = self.prepare(server)
                before = self.meter(server)
                units = work(idlers())
                taken.append((self.meter(server) - before) / units)
        return taken


SCENARIOS = [
    Scenario("fan-out", "us/delivery", fan_out, 50, 0.75),
    Scenario("fan-out16", "us/delivery", partial(fan_out, burst=16), 5, 0.30),
    Scenario("echo", "us/message", echo, 400, 0.85),
    Scenario("echo16", "us/message", partial(echo, depth=16), 50, 0.75),
    Memory("memory", "KB/connection", idling, 0, 3.5, absolute=True, meter=Server.resident),
    Scenario("open", "us/connection", opening, 6),
]
