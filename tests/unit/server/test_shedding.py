"""A loop whose accepts fail: each outcome of the system's `accept` is made up, one by one."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from boltws.server.shedding import Listener, Spare

NONE_LEFT = OSError(errno.EMFILE, "Too many open files")
NO_MEMORY = OSError(errno.ENOMEM, "Cannot allocate memory")
NOBODY = BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
RESET = ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort")
PEER = None  # somebody who waits


class Scripted(Listener):
    """Its accepts have the outcomes that are written for it, and behind them the last one."""

    def __init__(self, sock: socket.socket, spare: Spare, outcomes: list[OSError | None]) -> None:
        super().__init__(sock, spare)
        self.outcomes = outcomes
        self.asked = 0
        self.accepted: list[socket.socket] = []

    def _accept(self) -> tuple[int, Any]:
        self.asked += 1
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is not None:
            raise outcome
        ours, peers = socket.socketpair()
        self.accepted.append(peers)
        return ours.detach(), ("127.0.0.1", 1)


Listening = Callable[..., Scripted]


@pytest.fixture
def listening() -> Iterator[Listening]:
    """Makes a listener, on a loop that is not run."""
    loop = asyncio.new_event_loop()
    spare = Spare(loop)
    made: list[Scripted] = []

    def make(*outcomes: OSError | None) -> Scripted:
        sock = socket.create_server(("127.0.0.1", 0))
        made.append(Scripted(sock, spare, list(outcomes)))
        return made[-1]

    with closing(loop):
        yield make
        for listener in made:
            listener.close()
            for peer in listener.accepted:
                peer.close()
        spare.close()


def is_closed(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False


def test_who_waits_is_accepted_and_closed(listening: Listening) -> None:
    listener = listening(NONE_LEFT, PEER, RESET, PEER, NOBODY)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert [is_closed(peer) for peer in listener.accepted] == [True, True]


def test_who_has_a_descriptor_is_let_in(listening: Listening) -> None:
    listener = listening(PEER, NOBODY)
    listener.accept()[0].close()
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_other_errors_are_the_loops(listening: Listening) -> None:
    """Nothing is shed for them."""
    listener = listening(RESET)
    with pytest.raises(ConnectionAbortedError):
        listener.accept()
    assert listener.asked == 1


def test_a_flood_of_peers_gives_clients_their_turn(listening: Listening) -> None:
    listener = listening(NONE_LEFT, PEER)
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert 100 <= len(listener.accepted) <= 1000


def test_what_cannot_be_shed_is_told_once_a_round(listening: Listening) -> None:
    """The loop logs the error and tries again in a second; asked at once, it would log again."""
    listener = listening(NO_MEMORY)
    for _ in range(3):
        with pytest.raises(OSError, match="memory"):
            listener.accept()
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_there_is_a_spare_again_afterwards(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    """Its number is as it was before, and one line tells of any number of sheddings."""
    before = sorted(os.listdir("/dev/fd"))
    listener = listening(NONE_LEFT, NOBODY, NONE_LEFT, NOBODY)
    for _ in range(2):
        with pytest.raises(BlockingIOError):
            listener.accept()
    listener.close()
    assert sorted(os.listdir("/dev/fd")) == before
    assert [record.message[:26] for record in caplog.records] == ["no descriptor is left: new"]


async def test_a_loop_that_is_out_of_descriptors_hears_of_one_failure() -> None:
    """Through asyncio itself: it has one timer to try again, not one for each of the backlog."""
    loop = asyncio.SelectorEventLoop()
    told: list[dict[str, Any]] = []

    async def serve() -> None:
        loop.set_exception_handler(lambda _, context: told.append(context))
        spare = Spare(loop)
        sock = socket.create_server(("127.0.0.1", 0))
        address = sock.getsockname()
        listener = Scripted(sock, spare, [NO_MEMORY])
        with closing(spare), closing(listener):
            server = await loop.create_server(asyncio.Protocol, sock=listener, backlog=100)
            with socket.create_connection(address):
                while not told:
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
            server.close()

    def run() -> None:
        with closing(loop):
            loop.run_until_complete(serve())

    await asyncio.to_thread(run)
    assert [context["message"] for context in told] == ["socket.accept() out of system resource"]
