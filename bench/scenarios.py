"""What is measured. A scenario takes a fresh server and gives one figure: a sample."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

from .client import Crowd, Failed, close_frame, connect, greet, masked, tcp, unmasked
from .peers import TEXTS
from .server import Server

MEMBERS = 1_000
ECHOERS = 50
IDLERS = 9_000
FRAME = len(unmasked(TEXTS[0]))


def fan_out(server: Server, effort: float, burst: int = 1) -> float:
    """Server CPU per delivery: `burst` messages in one turn to 1,000 members, then wait for all."""
    room = Crowd(connect(server.port, "/room", MEMBERS))
    control = connect(server.port, "/control", 1)[0]
    command = masked(f"go {burst}")

    def go(times: int) -> None:
        for _ in range(times):
            control.send(command)
            room.receive(burst * FRAME)

    control.send(command)
    room.compare(b"".join(map(unmasked, TEXTS[:burst])))
    times = max(10, round(effort * (600 if burst == 1 else 40)))
    go(times // 5)
    before = server.cpu()
    go(times)
    return (server.cpu() - before) / (times * burst * MEMBERS)


def fan_out_burst(server: Server, effort: float) -> float:
    return fan_out(server, effort, burst=len(TEXTS))


def echo(server: Server, effort: float, depth: int = 1) -> float:
    """Server CPU per message, `depth` of them in flight on each of 50 connections."""
    crowd = Crowd(connect(server.port, "/echo", ECHOERS))
    request = b"".join(map(masked, TEXTS[:depth]))
    for client in crowd.clients.values():
        client.send(request)
    crowd.compare(b"".join(map(unmasked, TEXTS[:depth])))
    rounds = max(10, round(effort * (2_000 if depth == 1 else 250)))
    crowd.exchange(request, depth * FRAME, rounds // 5)
    before = server.cpu()
    crowd.exchange(request, depth * FRAME, rounds)
    return (server.cpu() - before) / (rounds * depth * ECHOERS)


def echo_deep(server: Server, effort: float) -> float:
    return echo(server, effort, depth=len(TEXTS))


def memory(server: Server, effort: float) -> float:
    """Resident kilobytes per connection that has said nothing yet, handshake by Chrome."""
    # The first hundred pay for what is loaded and allocated once.
    open_and_close(server, 100)
    time.sleep(1)
    before = server.resident()
    crowd = Crowd(connect(server.port, "/echo", idlers()))
    time.sleep(1)  # what the handshakes took and gave back is not held per connection
    after = server.resident()
    crowd.exchange(masked(TEXTS[0]), FRAME, 1)  # they were all alive
    return (after - before) / len(crowd.clients)


def idlers() -> int:
    """9,000 connections, or what the descriptor limit admits (the servers inherit it)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return IDLERS if hard == resource.RLIM_INFINITY else min(IDLERS, hard - 200)


def opening(server: Server, effort: float) -> float:
    """Server CPU for a connection from TCP's open to its close, the handshake by Chrome."""
    times = max(100, round(effort * 1_000))
    open_and_close(server, times // 5)
    before = server.cpu()
    open_and_close(server, times)
    return (server.cpu() - before) / times


def open_and_close(server: Server, times: int) -> None:
    """The client sends the first close frame, the server closes TCP, as RFC 6455 7.1.1 asks."""
    for _ in range(times // 20):
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


@dataclass(frozen=True)
class Scenario:
    """`target` is what boltws shall reach: a ratio to aiohttp, or with `absolute` a figure."""

    name: str
    unit: str
    measure: Callable[[Server, float], float]
    target: float | None = None
    absolute: bool = False


SCENARIOS = [
    Scenario("fan-out", "us/delivery", fan_out, 0.75),
    Scenario("fan-out16", "us/delivery", fan_out_burst, 0.30),
    Scenario("echo", "us/message", echo, 0.85),
    Scenario("echo16", "us/message", echo_deep, 0.75),
    Scenario("memory", "KB/connection", memory, 3.5, absolute=True),
    Scenario("open", "us/connection", opening),
]
