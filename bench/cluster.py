"""The same app on many nodes: what a remote message costs beside a local one, and its latency.

All nodes, the process and the nats-server are started afresh in each round, and in it they take
turns, slice by slice. The nats-server shares its core with the load generator.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import quantiles

from boltws.backplane.embedded import EmbeddedServer

from .client import Crowd, connect, masked, receive_text, unmasked
from .node import DONE, NATS
from .peers import TEXTS
from .scenarios import FRAME, MEMBERS
from .server import Server

ROOMS = 10_000
HOPS_EVERY = 0.003  # seconds: a light load

Pair = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One figure of a scenario, beside the one it is compared with."""

    name: str
    unit: str
    peer: str
    target: float | None = None
    absolute: bool = True


@dataclass(frozen=True)
class Cluster:
    """`measure` gives one pair of figures for each row."""

    name: str
    rows: tuple[Row, ...]
    measure: Callable[[str, int, int | None], list[Pair]]

    def sample(self, slices: int, core: int | None) -> list[Pair]:
        with EmbeddedServer() as nats:
            url = nats.url.replace("://", f"://{nats.token}@")
            return self.measure(url, slices, core)


@contextmanager
def nodes(url: str, core: int | None) -> Iterator[tuple[Server, Server, Server]]:
    """A node that publishes, a node that receives, and a process that is alone."""
    with ExitStack() as stack:
        node = partial(Server, core=core, module="bench.node")
        yield (
            stack.enter_context(node("publishing node", BOLTWS_BACKPLANE=url)),
            stack.enter_context(node("receiving node", BOLTWS_BACKPLANE=url)),
            stack.enter_context(node("one process")),
        )


def members(server: Server, count: int) -> Crowd:
    """Members of the room, when their node is subscribed to it."""
    clients = connect(server.port, "/room", count)
    for client in clients:
        client.send(masked("join"))
    crowd = Crowd(clients)
    crowd.compare(unmasked(DONE))
    return crowd


def remote(url: str, slices: int, core: int | None, burst: int) -> list[Pair]:
    """What a message costs beyond its local delivery, to one member: where it comes from another
    node, and where it goes to the others.

    A process that slept has to wake up, whoever gives it something to do, and that costs it more
    than all the rest. So turns of one kind are compared with turns of another::

        received  = receiving node - one process that sends as many messages to its own member
        with waking up = receiving node - (one process - one process with nothing to do in a turn)
        published = publishing node - one process
    """
    turns = 300 // burst + 100
    spent = dict.fromkeys(("published", "received", "alone", "idle"), 0.0)
    with nodes(url, core) as (publisher, receiver, alone):
        there, here = members(receiver, 1), members(alone, 1)
        at_home = members(publisher, 1)
        drivers = {server: connect(server.port, "/turns", 1)[0] for server in (publisher, alone)}

        def take(server: Server, messages: int, *hear: Crowd) -> None:
            drivers[server].send(masked(f"{turns} {messages}"))
            for crowd in hear:
                crowd.receive(turns * messages * FRAME)
            receive_text(drivers[server], DONE)

        def slice_() -> None:
            before = publisher.cpu(), receiver.cpu()
            take(publisher, burst, there, at_home)
            spent["published"] += publisher.cpu() - before[0]
            spent["received"] += receiver.cpu() - before[1]
            start = alone.cpu()
            take(alone, burst, here)
            spent["alone"] += (end := alone.cpu()) - start
            take(alone, 0)
            spent["idle"] += alone.cpu() - end

        slice_()  # to warm up
        spent = dict.fromkeys(spent, 0.0)
        for _ in range(slices):
            slice_()
    each = {name: cost / (slices * turns * burst) for name, cost in spent.items()}
    delivery = each["alone"] - each["idle"]
    return [
        (each["received"] - each["alone"], delivery),
        (each["received"] - delivery, each["idle"]),
        (each["published"] - each["alone"], delivery),
    ]


def remote_fan_out(url: str, slices: int, core: int | None, burst: int) -> list[Pair]:
    """Each delivery to 1,000 members, of messages from another node and of a process's own."""
    times = 50 if burst == 1 else 5
    spent = [0.0, 0.0]
    with nodes(url, core) as (publisher, receiver, alone):
        crowds = members(receiver, MEMBERS), members(alone, MEMBERS)
        works = tuple(
            (meter, connect(speaker.port, "/control", 1)[0], crowd)
            for meter, speaker, crowd in zip(
                (receiver, alone), (publisher, alone), crowds, strict=True
            )
        )
        for done in range(slices + 1):
            for i, (meter, control, crowd) in enumerate(works):
                before = meter.cpu()
                for _ in range(times):
                    control.send(masked(f"go {burst}"))
                    crowd.receive(burst * FRAME)
                if done:  # the first is to warm up
                    spent[i] += meter.cpu() - before
    count = slices * times * burst * MEMBERS
    return [(spent[0] / count, spent[1] / count)]


def hop(url: str, slices: int, core: int | None) -> list[Pair]:
    """From a client that speaks to a member that hears: on two nodes, and in one process.

    Both take turns, one message at a time.
    """
    request, answer = masked(TEXTS[0]), TEXTS[0]
    taken: tuple[list[float], list[float]] = ([], [])
    with nodes(url, core) as (publisher, receiver, alone):
        ways = []
        for speaker, listener in ((publisher, receiver), (alone, alone)):
            member = connect(listener.port, "/room", 1)[0]
            member.send(masked("join"))
            receive_text(member, DONE)
            ways.append((connect(speaker.port, "/say", 1)[0], member))
        for _ in range(slices * 100 + 100):
            for times, (mouth, ear) in zip(taken, ways, strict=True):
                time.sleep(HOPS_EVERY / 2)
                start = time.perf_counter_ns()
                mouth.send(request)
                receive_text(ear, answer)
                times.append((time.perf_counter_ns() - start) / 1e3)
    hundredths = [quantiles(times[100:], n=100) for times in taken]  # the first are to warm up
    return [(hundredths[0][at], hundredths[1][at]) for at in (49, 98)]


def interest(url: str, slices: int, core: int | None) -> list[Pair]:
    """10,000 rooms subscribed to, on a node and with nats-py's own subscriptions.

    The node's memory has all of a room in it: its name, its member, its subscription.
    """
    figures: list[Pair] = []
    for path, where in (("/rooms", "BOLTWS_BACKPLANE"), ("/nats-py", NATS)):
        with Server(path, core, "bench.node", **{where: url}) as server:
            client = connect(server.port, path, 1)[0]
            for count in (100, ROOMS):  # the first hundred are to warm up
                time.sleep(0.5)
                before = server.resident()
                client.send(masked(f"{count}"))
                spent = float(receive_text(client))
            time.sleep(0.5)
            figures.append((spent / ROOMS, (server.resident() - before) / ROOMS))
    return list(zip(*figures, strict=True))  # type: ignore[arg-type]


def remote_rows(burst: str) -> tuple[Row, ...]:
    return (
        Row(f"remote{burst}: received", "us/message", "delivery", 8.0),
        Row(f"remote{burst}: with waking up", "us/message", "empty turn"),
        Row(f"remote{burst}: published", "us/message", "delivery"),
    )


def fan_out_rows(burst: str) -> tuple[Row, ...]:
    return (Row(f"remote-fan-out{burst}", "us/delivery", "one process"),)


CLUSTER = [
    Cluster("remote", remote_rows(""), lambda *given: remote(*given, burst=1)),
    Cluster("remote16", remote_rows("16"), lambda *given: remote(*given, burst=16)),
    Cluster("remote-fan-out", fan_out_rows(""), lambda *given: remote_fan_out(*given, burst=1)),
    Cluster(
        "remote-fan-out16", fan_out_rows("16"), lambda *given: remote_fan_out(*given, burst=16)
    ),
    Cluster(
        "hop",
        (
            Row("hop p50", "us", "one process"),
            Row("hop p99", "us", "one process"),
        ),
        hop,
    ),
    Cluster(
        "rooms",
        (
            Row("rooms", "us/room", "nats-py", 200.0),  # 5,000 a second
            Row("rooms", "KB/room", "nats-py", 2.0),
        ),
        interest,
    ),
]
