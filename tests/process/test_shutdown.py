"""SIGTERM and SIGINT: what runs may end, everyone is told 1012, every disconnect runs, exit 0."""

from __future__ import annotations

import signal
import socket
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection

from .conftest import Serve
from .harness import (
    PATIENCE,
    Served,
    eventually,
    handshake,
    masked_text,
    raw_client,
    read_journal,
    until_closed,
)
from .launch import MOUNTED, OURS, SCRIPT, STOCK, Launch, live_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SIGNALS = [signal.SIGTERM, signal.SIGINT]


def refuses(served: Served, path: str) -> bool:
    """Whether a new handshake is answered with 503, or not at all."""
    try:
        with served.connect(path):
            return False
    except InvalidMessage:
        return True  # accepted by the kernel, then closed
    except InvalidHandshake as refusal:
        response = getattr(refusal, "response", None)
        assert response is not None and response.status_code == 503, refusal
        return True
    except OSError:
        return True


def disconnects(folder: Path) -> dict[str, list[str]]:
    """The close codes that each client's disconnect callbacks saw."""
    seen: dict[str, list[str]] = {}
    for words in read_journal(folder):
        if words[0] == "disconnect":
            seen.setdefault(words[1], []).append(words[2])
    return seen


def goodbyes(folder: Path) -> list[str]:
    """The clients whose disconnect pipelines came to their end."""
    return sorted(words[1] for words in read_journal(folder) if words[0] == "goodbye")


def assert_the_books_balance(folder: Path) -> None:
    """At the end of the process nothing that came in or went out is unaccounted for.

    Only where the exit is ours: a stock server ends by its signal, and runs nothing at exit.
    """
    assert ["books", "balance"] in read_journal(folder), read_journal(folder)


def connected(stack: ExitStack, served: Served, path: str) -> tuple[ClientConnection, str]:
    """A client that is known to the app, and its id."""
    client = stack.enter_context(served.connect(path))
    client_id = client.recv(timeout=PATIENCE)
    assert isinstance(client_id, str)
    return client, client_id


@pytest.mark.parametrize(
    ("launch", "number", "endpoint"),
    [
        *((launch, number, "/live") for launch in OURS for number in SIGNALS),
        *((launch, signal.SIGTERM, "/blocking") for launch in (SCRIPT, MOUNTED)),
    ],
    ids=str,
)
def test_a_running_pipeline_ends_before_the_close(
    serve: Serve, tmp_path: Path, launch: Launch, number: signal.Signals, endpoint: str
) -> None:
    """A running handler gets its time and its reply comes before 1012; all disconnects run."""
    served = serve(launch.argv, app=live_app("shutdown_timeout=60"))
    with ExitStack() as stack:
        busy, busy_id = connected(stack, served, launch.prefix + endpoint)
        idle = [connected(stack, served, launch.prefix + "/live") for _ in range(3)]
        busy.send("wait")
        assert busy.recv(timeout=PATIENCE) == "started"
        served.send(number)
        # The drain has begun when nobody new is let in; until then the handler is held.
        eventually(lambda: refuses(served, launch.prefix + "/live"), "handshakes refused")
        (tmp_path / "release").touch()
        assert until_closed(busy) == (["reply to wait"], 1012)
        for client, _ in idle:
            assert until_closed(client) == ([], 1012)
        assert served.wait() == 0
    expected = {client_id: ["1012"] for client_id in [busy_id, *(i for _, i in idle)]}
    seen = disconnects(tmp_path)
    assert {client_id: seen.pop(client_id, None) for client_id in expected} == expected
    # The probes that got in before the drain began had their one disconnect as well.
    assert all(len(codes) == 1 for codes in seen.values())
    assert set(goodbyes(tmp_path)) >= {client_id for _, client_id in idle}
    assert_the_books_balance(tmp_path)
    served.assert_no_noise()


@pytest.mark.parametrize("launch", STOCK, ids=str)
@pytest.mark.parametrize("endpoint", ["/live", "/blocking"])
def test_a_stock_server_loses_no_disconnect(
    serve: Serve, tmp_path: Path, launch: Launch, endpoint: str
) -> None:
    """Stock uvicorn closes first, but all clients get 1012, and pipelines and disconnects end."""
    served = serve(launch.argv, app=live_app("shutdown_timeout=60"))
    with ExitStack() as stack:
        busy, busy_id = connected(stack, served, launch.prefix + endpoint)
        idle = [connected(stack, served, launch.prefix + "/live") for _ in range(3)]
        busy.send("wait")
        assert busy.recv(timeout=PATIENCE) == "started"
        served.send(signal.SIGTERM)
        for client, _ in idle:
            assert until_closed(client) == ([], 1012)
        (tmp_path / "release").touch()
        assert until_closed(busy)[1] == 1012
        served.wait()
    expected = {client_id: ["1012"] for client_id in [busy_id, *(i for _, i in idle)]}
    assert disconnects(tmp_path) == expected
    assert ["finished", busy_id] in read_journal(tmp_path)
    assert set(goodbyes(tmp_path)) >= {client_id for _, client_id in idle}
    served.assert_no_noise()


@pytest.mark.parametrize("launch", [SCRIPT, MOUNTED, *STOCK], ids=str)
def test_a_stuck_handler_is_cut_at_the_deadline(
    serve: Serve, tmp_path: Path, launch: Launch
) -> None:
    """A handler that never ends is cancelled at shutdown_timeout; its disconnect still runs."""
    served = serve(launch.argv, app=live_app("shutdown_timeout=1"))
    with ExitStack() as stack:
        stuck, stuck_id = connected(stack, served, launch.prefix + "/live")
        stuck.send("stick")
        assert stuck.recv(timeout=PATIENCE) == "started"
        served.send(signal.SIGTERM)
        assert until_closed(stuck) == ([], 1012)
        code = served.wait()
    assert code == 0 or not launch.ours
    assert ["cut", stuck_id] in read_journal(tmp_path)
    assert disconnects(tmp_path) == {stuck_id: ["1012"]}
    assert goodbyes(tmp_path) == [stuck_id]
    if launch.ours:
        assert_the_books_balance(tmp_path)


@pytest.mark.parametrize("launch", [SCRIPT, MOUNTED], ids=str)
def test_a_stuck_thread_does_not_hold_the_exit(
    serve: Serve, tmp_path: Path, launch: Launch
) -> None:
    """A blocking handler cannot be stopped, but the process ends: 1012 for its client, exit 0."""
    served = serve(launch.argv, app=live_app("shutdown_timeout=1"))
    with ExitStack() as stack:
        stuck, stuck_id = connected(stack, served, launch.prefix + "/blocking")
        idle, idle_id = connected(stack, served, launch.prefix + "/live")
        stuck.send("stick")
        assert stuck.recv(timeout=PATIENCE) == "started"
        served.send(signal.SIGTERM)
        assert until_closed(stuck) == ([], 1012)
        assert until_closed(idle) == ([], 1012)
        assert served.wait() == 0
    # The thread will not end before the process, so the deadline lets its client's disconnect run.
    assert disconnects(tmp_path) == {stuck_id: ["1012"], idle_id: ["1012"]}
    assert_the_books_balance(tmp_path)


@pytest.mark.parametrize("launch", [SCRIPT, MOUNTED], ids=str)
def test_what_waits_is_handled_before_the_close(
    serve: Serve, tmp_path: Path, launch: Launch
) -> None:
    """Messages that were there before the signal are not lost: each reply comes before 1012."""
    served = serve(launch.argv, app=live_app("shutdown_timeout=60"))
    with ExitStack() as stack:
        busy, busy_id = connected(stack, served, launch.prefix + "/live")
        busy.send("wait")
        assert busy.recv(timeout=PATIENCE) == "started"
        for number in range(20):
            busy.send(str(number))
        # A pong is an answer from behind them: they have been read.
        assert busy.ping().wait(PATIENCE)
        served.send(signal.SIGTERM)
        eventually(lambda: refuses(served, launch.prefix + "/live"), "handshakes refused")
        (tmp_path / "release").touch()
        replies = ["reply to wait", *(f"reply to {number}" for number in range(20))]
        assert until_closed(busy) == (replies, 1012)
        assert served.wait() == 0
    assert disconnects(tmp_path)[busy_id] == ["1012"]
    assert_the_books_balance(tmp_path)


@pytest.mark.parametrize("launch", [SCRIPT, MOUNTED], ids=str)
@pytest.mark.parametrize("query", ["", "?forever"])
def test_a_handshake_under_way_is_refused(
    serve: Serve, tmp_path: Path, launch: Launch, query: str
) -> None:
    """A before that still runs gets its time, or is cut; there never was a client."""
    options = "shutdown_timeout=1" if query else "shutdown_timeout=60"
    served = serve(launch.argv, app=live_app(options))
    with ExitStack() as stack:
        peer = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), PATIENCE))
        peer.sendall(handshake(served.port, launch.prefix + "/guarded" + query))
        eventually(lambda: ["asked"] in read_journal(tmp_path), "the before runs")
        idle, idle_id = connected(stack, served, launch.prefix + "/live")
        served.send(signal.SIGTERM)
        assert until_closed(idle) == ([], 1012)  # so the drain has begun
        (tmp_path / "release").touch()
        answer = b""
        while chunk := peer.recv(4096):
            answer += chunk
        # Cut, it counts as a before that failed, and those are refused with 500.
        statuses = (b"HTTP/1.1 503 ", b"HTTP/1.1 500 ") if query else (b"HTTP/1.1 503 ",)
        assert answer.startswith(statuses), answer
        assert served.wait() == 0
    assert disconnects(tmp_path) == {idle_id: ["1012"]}
    assert_the_books_balance(tmp_path)


@pytest.mark.parametrize("launch", [SCRIPT, MOUNTED], ids=str)
@pytest.mark.parametrize("reads", ["nothing", "no close"])
def test_a_silent_client_does_not_hold_the_exit(
    serve: Serve, tmp_path: Path, launch: Launch, reads: str
) -> None:
    """A client that reads nothing, or never answers the close, is aborted at the deadline."""
    options = "shutdown_timeout=1, close_timeout=600, ping_interval=None, send_buffer_limit=2**26"
    served = serve(launch.argv, app=live_app(options))
    with ExitStack() as stack:
        silent = raw_client(served.port, launch.prefix + "/live", receive_buffer=4096)
        stack.callback(silent.close)
        good, good_id = connected(stack, served, launch.prefix + "/live")
        if reads == "nothing":
            silent.sendall(masked_text("flood"))
            # Its answer does not fit the kernel's buffers, so the flush can never end.
            assert silent.recv(1)
        served.send(signal.SIGTERM)
        assert until_closed(good) == ([], 1012)
        assert served.wait() == 0
    seen = disconnects(tmp_path)
    assert seen.pop(good_id) == ["1012"]
    assert [len(codes) for codes in seen.values()] == [1]
    assert_the_books_balance(tmp_path)
    served.assert_no_noise()


def test_the_closes_are_spread(serve: Serve, tmp_path: Path) -> None:
    """With shutdown_spread the clients do not all come back in one instant."""
    served = serve(SCRIPT.argv, app=live_app("shutdown_timeout=30, shutdown_spread=3"))
    with ExitStack() as stack:
        clients = [connected(stack, served, "/live") for _ in range(16)]
        served.send(signal.SIGTERM)
        for client, _ in clients:
            assert until_closed(client) == ([], 1012)
        assert served.wait() == 0
    journal = [words for words in read_journal(tmp_path) if words[0] == "disconnect"]
    assert Counter(words[1] for words in journal) == Counter(i for _, i in clients)
    # The server's own clock: a slow machine can only lengthen what it measures.
    times = [float(words[3]) for words in journal]
    assert max(times) - min(times) > 1.0


@pytest.mark.parametrize("launch", [SCRIPT, MOUNTED], ids=str)
def test_an_open_connection_cannot_begin_a_handshake_in_the_drain(
    serve: Serve, tmp_path: Path, launch: Launch
) -> None:
    """A connection accepted before the signal gets 503, or is closed, but never 101."""
    path = launch.prefix + "/live"
    served = serve(launch.argv, app=live_app("shutdown_timeout=60"))
    with ExitStack() as stack:
        early = stack.enter_context(socket.create_connection(("127.0.0.1", served.port), PATIENCE))
        busy, busy_id = connected(stack, served, path)
        busy.send("wait")
        assert busy.recv(timeout=PATIENCE) == "started"
        served.send(signal.SIGTERM)
        eventually(lambda: refuses(served, path), "handshakes refused")
        answer = b""
        try:
            early.sendall(handshake(served.port, path))
            while chunk := early.recv(4096):
                answer += chunk
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert answer == b"" or answer.startswith(b"HTTP/1.1 503 "), answer
        (tmp_path / "release").touch()
        assert until_closed(busy) == (["reply to wait"], 1012)
        assert served.wait() == 0
    assert disconnects(tmp_path)[busy_id] == ["1012"]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("launch", OURS, ids=str)
def test_without_clients_the_end_is_clean(
    serve: Serve, tmp_path: Path, launch: Launch, number: signal.Signals
) -> None:
    """Nobody there: exit 0 and no noise; `bolt.run` returns to its caller."""
    served = serve(launch.argv, app=live_app())
    assert served.port
    assert served.stop(number) == 0
    served.assert_no_noise()
    assert (["returned"] in read_journal(tmp_path)) == (launch is SCRIPT)


def test_nothing_is_left_open(serve: Serve, tmp_path: Path) -> None:
    """Under Python's development mode no file, socket, task or coroutine is left behind."""
    command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "app.py"]
    served = serve(command, app=live_app())
    with ExitStack() as stack:
        for endpoint in ("/live", "/blocking"):
            client, _ = connected(stack, served, endpoint)
            client.send("hello")
            while client.recv(timeout=PATIENCE) != "reply to hello":
                pass
        with served.connect("/live"):
            pass
        assert served.stop() == 0
    served.assert_no_noise()
    assert "ResourceWarning" not in served.output, served.output
    assert_the_books_balance(tmp_path)


def test_it_can_be_run_again(serve: Serve, tmp_path: Path) -> None:
    """After a stop the same Bolt may start again, on another loop and with new clients."""
    source = """
        import time
        from pathlib import Path

        from boltws import Bolt

        bolt = Bolt()
        bolt.ws("/live", on_message=lambda event: event.reply(event.message))
        bolt.run(port=0)
        print("once more", flush=True)
        while not Path("go").exists():
            time.sleep(0.01)
        bolt.ws("/more", on_message=lambda event: event.reply("more " + event.message))
        bolt.run(port=0)
        assert bolt.stats().imbalance() == "", bolt.stats()
    """
    served = serve([sys.executable, "app.py"], app=source)
    with served.connect("/live") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "hello"
        served.send(signal.SIGINT)
        assert until_closed(client) == ([], 1012)
    served.wait_for(lambda line: line == "once more", "that it goes on")
    served.forget_output()
    (tmp_path / "go").touch()
    with served.connect("/more") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "more hello"
        assert served.stop() == 0
        assert until_closed(client) == ([], 1012)
    served.assert_no_noise()


def test_a_second_interrupt_is_obeyed(serve: Serve, tmp_path: Path) -> None:
    """Who presses Ctrl-C twice does not wait for the deadline, and is told nothing untrue."""
    served = serve(SCRIPT.argv, app=live_app("shutdown_timeout=600"))
    with ExitStack() as stack:
        stuck, _ = connected(stack, served, "/live")
        stuck.send("stick")
        assert stuck.recv(timeout=PATIENCE) == "started"
        served.send(signal.SIGINT)
        eventually(lambda: refuses(served, "/live"), "handshakes refused")
        served.send(signal.SIGINT)
        served.wait()
    assert "unsupported" not in served.output, "the app does have a lifespan"


HANGING = """
    import asyncio
    from contextlib import asynccontextmanager

    from starlette.applications import Starlette

    from boltws import Bolt
    from boltws.server.run import build_server

    @asynccontextmanager
    async def lifespan(app):
        while WHEN == "start":
            await asyncio.sleep(0.01)
            if server.should_exit:
                print("asked to stop", flush=True)
                await asyncio.Event().wait()
        yield
        print("asked to stop", flush=True)
        await asyncio.Event().wait()

    server = build_server(Bolt(http=Starlette(lifespan=lifespan)), port=0)
    server.run()
"""


@pytest.mark.parametrize("when", ["start", "stop"])
def test_a_second_interrupt_does_not_wait_for_an_app_that_hangs(serve: Serve, when: str) -> None:
    """The first one lets its lifespan end."""
    served = serve([sys.executable, "app.py"], app=HANGING.replace("WHEN", repr(when)))
    last = "Waiting for application startup" if when == "start" else "listening"
    served.wait_for(lambda line: last in line, "that it runs")
    served.send(signal.SIGINT)
    served.wait_for(lambda line: line == "asked to stop", "that it was told")
    served.send(signal.SIGINT)
    assert served.wait() == 0
    served.assert_no_noise()
    assert "unsupported" not in served.output, "the app does have a lifespan"


BLOCKED = """
    import threading, time

    from boltws import Bolt
    from boltws.server.run import build_server

    bolt = Bolt()

    def said(event):
        print("blocked", flush=True)
        time.sleep(3600)

    bolt.ws("/live", on_message=said)
    server = build_server(bolt, port=0)

    def tell():
        for name in ("should_exit", "force_exit"):
            while not getattr(server, name):
                time.sleep(0.01)
            print(name, flush=True)

    threading.Thread(target=tell, daemon=True).start()
    server.run()
"""


def test_a_third_interrupt_ends_the_callback_that_blocks_the_loop(serve: Serve) -> None:
    """The first two are only seen by the event loop."""
    served = serve([sys.executable, "app.py"], app=BLOCKED)
    with served.connect("/live") as client:
        client.send("x")
        for told in ("blocked", "should_exit", "force_exit"):
            served.wait_for(told.__eq__, told)
            served.send(signal.SIGINT)
        served.wait()
