"""Descriptors run out: whoever is in stays served, and the server is there again afterwards."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection

from .conftest import Serve
from .harness import PATIENCE, Served, eventually, handshake, until_closed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(150),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux' /proc"),
]

LIMIT = 128
HOGS = LIMIT + 20

APP = """
    from boltws import Bolt
    from boltws.server.run import build_server

    bolt = Bolt(OPTIONS)
    bolt.ws("/live", on_message=lambda event: event.reply(event.message))

    if __name__ == "__main__":
        build_server(bolt, port=0, access_log=False, loop="asyncio").run()
"""

# Both limits, or `boltws run` would raise the soft one again.
LIMITED = ["sh", "-c", f'ulimit -n {LIMIT} && exec "$0" "$@"', sys.executable]
UVLOOP = [*LIMITED, "-m", "boltws", "run", "app:bolt", "--port", "0", "--no-access-log"]
ASYNCIO = [*LIMITED, "app.py"]

on_each_loop = pytest.mark.parametrize("command", [UVLOOP, ASYNCIO], ids=["uvloop", "asyncio"])


def hungry(serve: Serve, command: list[str]) -> Served:
    """A server whose only limit to connections is that of descriptors."""
    options = "max_connections=100_000, handshake_timeout=600, close_timeout=2"
    return serve(command, app=APP.replace("OPTIONS", options))


def descriptors(served: Served) -> int:
    """How many descriptors the server has open."""
    return len(os.listdir(f"/proc/{served.process.pid}/fd"))


def work(served: Served) -> float:
    """The seconds of a processor that the server has used."""
    stat = Path(f"/proc/{served.process.pid}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def ask(client: ClientConnection, message: str) -> None:
    client.send(message)
    assert client.recv(timeout=PATIENCE) == message


def hog(served: Served, handshakes: bool) -> socket.socket:
    """A connection that asks for a WebSocket, or says nothing; who is shed sees its end."""
    peer = socket.create_connection(("127.0.0.1", served.port), PATIENCE)
    if handshakes:
        try:
            peer.sendall(handshake(served.port, "/live"))
        except ConnectionError:
            pass
    return peer


def exhaust(served: Served, stack: ExitStack) -> list[socket.socket]:
    """Take all the descriptors that the server has left, half of them with WebSockets."""
    hogs = [stack.enter_context(hog(served, n % 2 == 0)) for n in range(HOGS)]
    eventually(lambda: descriptors(served) >= LIMIT, "no descriptor is left")
    return hogs


def is_let_in(peer: socket.socket) -> bool:
    """Whether its handshake has been answered."""
    peer.setblocking(False)
    try:
        return bool(peer.recv(4096))
    except (BlockingIOError, ConnectionError):
        return False


def serves(served: Served) -> bool:
    """Whether a new client is let in and served."""
    try:
        with served.connect("/live") as client:
            ask(client, "new")
            return True
    except (WebSocketException, OSError):
        return False  # the server has not seen yet that the hogs left


def assert_quiet(served: Served) -> None:
    """There is little in the log: a line for some of the hogs, no more."""
    lines = served.output.splitlines()
    assert len(lines) < 4 * LIMIT, f"{len(lines)} lines, beginning with\n" + "\n".join(lines[:40])
    served.assert_no_noise()


@on_each_loop
def test_who_is_in_stays_served(serve: Serve, command: list[str]) -> None:
    """Without a descriptor left, a client from before is served, the server neither spins nor
    floods its log, and when the hogs leave, new clients are let in."""
    served = hungry(serve, command)
    with served.connect("/live") as client, ExitStack() as stack:
        ask(client, "before")
        exhaust(served, stack)
        began, used, asked = time.monotonic(), work(served), 0
        late = []
        while time.monotonic() < began + 2:
            for _ in range(10):
                asked += 1
                ask(client, f"meanwhile {asked}")
                time.sleep(0.01)  # a pace, not a wait
            late.append(stack.enter_context(hog(served, handshakes=True)))
        used = work(served) - used
        eventually(lambda: descriptors(served) >= LIMIT, "there is none left still")
        assert not any(map(is_let_in, late))
        # A loop that spins uses all of the two seconds, what is asked of it a few hundredths.
        assert used < 0.5, f"{used:.2f} s of work in {time.monotonic() - began:.2f} s"
        assert_quiet(served)
        stack.close()
        for _ in range(3):
            eventually(lambda: serves(served), "a new client is served")
        ask(client, "afterwards")
    assert served.stop() == 0
    assert_quiet(served)


@on_each_loop
def test_it_stops_without_a_descriptor(serve: Serve, command: list[str]) -> None:
    """A stop needs no descriptor that is not there: 1012 for its clients, exit 0, no noise, also
    when hogs that do not answer keep the loop running for longer than asyncio waits to accept."""
    served = hungry(serve, command)
    with served.connect("/live") as client, ExitStack() as stack:
        ask(client, "before")
        exhaust(served, stack)
        ask(client, "meanwhile")
        code = served.stop()
        assert until_closed(client) == ([], 1012)
    assert code == 0
    assert_quiet(served)


@on_each_loop
def test_the_default_limit_comes_first(serve: Serve, command: list[str]) -> None:
    """Without `max_connections` given, clients are refused with 503 and Retry-After while there
    are descriptors left, and let in again when one has left."""
    served = serve(command, app=APP.replace("OPTIONS", ""))
    with ExitStack() as stack:
        clients: list[ClientConnection] = []
        while True:
            try:
                clients.append(stack.enter_context(served.connect("/live")))
            except InvalidStatus:
                break
            assert len(clients) < LIMIT
        for _ in range(LIMIT):  # and no number of them changes that
            with pytest.raises(InvalidStatus) as refused, served.connect("/live"):
                pass
            response = refused.value.response
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
        assert descriptors(served) < LIMIT - 2  # a loop that sheds lets go of a few
        for client in clients:
            ask(client, "still here")
        clients[0].close()
        eventually(lambda: serves(served), "a new client is served")
    assert served.stop() == 0
    assert_quiet(served)


@on_each_loop
def test_silence_does_not_take_the_last_descriptor(serve: Serve, command: list[str]) -> None:
    """Connections that say nothing and never leave count against the default limit too: there
    are descriptors left, whatever their number."""
    served = serve(command, app=APP.replace("OPTIONS", "close_timeout=600, handshake_timeout=600"))
    with ExitStack() as stack:
        for _ in range(HOGS):
            stack.enter_context(hog(served, handshakes=False))
        last = stack.enter_context(hog(served, handshakes=True))
        try:
            last.recv(4096)  # an answer or the end: all that came before it have been accepted
        except ConnectionError:
            pass
        # In one turn the loop may accept more than there is room for, but it keeps none of them.
        eventually(lambda: descriptors(served) < LIMIT - 2, "some descriptors are left")
    eventually(lambda: serves(served), "a new client is served")
    assert served.stop() == 0
    assert_quiet(served)
