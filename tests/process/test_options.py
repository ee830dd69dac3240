"""The command line's options, each on a real server: sockets, TLS, logs, an app for HTTP."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect, unix_connect

from .conftest import Serve
from .harness import PATIENCE, console_script, free_port
from .launch import OURS, Launch, live_app

pytestmark = pytest.mark.slow

BOLTWS_RUN = [sys.executable, "-m", "boltws", "run"]

ECHO_APP = """
    from boltws import Bolt

    bolt = Bolt()
    bolt.ws("/live", on_message=lambda event: event.reply(event.message))


    async def site(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the site at " + scope["path"].encode()})


    if __name__ == "__main__":
        bolt.run(port=0)
"""


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("launch", OURS, ids=str)
def test_every_way_to_start_serves(serve: Serve, launch: Launch) -> None:
    """The script, the module, the command and a mount in FastAPI all serve the same endpoint."""
    served = serve(launch.argv, app=live_app())
    with served.connect(launch.prefix + "/live") as client:
        assert len(str(client.recv(timeout=PATIENCE))) == 36
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "reply to hello"
    with pytest.raises(InvalidStatus) as refused, served.connect(launch.prefix + "/nowhere"):
        pass
    assert refused.value.response.status_code in (403, 404)


def test_the_default_port_can_be_given(serve: Serve) -> None:
    """`--host` and `--port` are where it listens, and the startup line says so."""
    port = free_port()
    served = serve(
        [*BOLTWS_RUN, "app:bolt", "--host", "127.0.0.1", "--port", str(port)], app=ECHO_APP
    )
    assert served.port == port
    assert get(port, "/live")[0] == 426
    assert get(port, "/nowhere")[0] == 404


@pytest.mark.parametrize("way", ["command", "workers", "reload", "script"])
def test_a_unix_socket(serve: Serve, tmp_path: Path, way: str) -> None:
    """`--uds` listens on a path, speaks WebSocket there, and takes the path away at the end."""
    # Relative: the path of a Unix socket has about a hundred bytes at most.
    command = [*BOLTWS_RUN, "app:bolt", "--uds", "s"]
    if way == "workers":
        command += ["--workers", "2"]
    if way == "reload":
        command += ["--reload"]
    served = serve(
        [sys.executable, "app.py"] if way == "script" else command,
        app=ECHO_APP.replace("port=0", "uds='s'"),
    )
    served.wait_for(lambda line: "unix:s" in line, "the path of its socket")
    for _ in range(2):
        with unix_connect(str(tmp_path / "s"), uri="ws://localhost/live") as client:
            client.send("hello")
            assert client.recv(timeout=PATIENCE) == "hello"
    assert served.stop() == 0
    assert not (tmp_path / "s").exists()
    served.assert_no_noise()


WAITING_APP = """
    import asyncio
    from boltws import Bolt

    bolt = Bolt()


    @bolt.ws("/live").on_message
    async def wait(event):
        event.reply(event.message)
        if event.message == "wait":
            await asyncio.to_thread(lambda: open("gate").close())
"""


def test_a_unix_socket_in_a_rolling_restart(serve: Serve, tmp_path: Path) -> None:
    """A server that comes to its end takes away its own socket, not that of the server which has
    taken over the path meanwhile."""
    os.mkfifo(tmp_path / "gate")  # opening it to read waits for who opens it to write
    command = [*BOLTWS_RUN, "app:bolt", "--uds", "s"]
    old = serve(command, app=WAITING_APP)
    old.wait_for(lambda line: "unix:s" in line, "the path of its socket")
    with unix_connect(str(tmp_path / "s"), uri="ws://localhost/live") as client:
        client.send("wait")
        assert client.recv(timeout=PATIENCE) == "wait"
        old.send(signal.SIGTERM)
        old.wait_for(lambda line: "Waiting for connections" in line, "that it waits")
        new = serve(command, app=WAITING_APP)
        new.wait_for(lambda line: "unix:s" in line, "the path of its socket")
        (tmp_path / "gate").open("w").close()
        assert old.wait() == 0
    with unix_connect(str(tmp_path / "s"), uri="ws://localhost/live") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "hello"
    assert new.stop() == 0
    assert not (tmp_path / "s").exists()


def test_a_tls_handshake_that_does_not_come(serve: Serve, certificate: tuple[Path, Path]) -> None:
    """A connection that never begins its TLS handshake ends with `handshake_timeout`: well before
    the event loop's own limit of a minute, and this test's."""
    cert, key = map(str, certificate)
    served = serve(
        [*BOLTWS_RUN, "app:bolt", "--port", "0", "--ssl-certfile", cert, "--ssl-keyfile", key],
        app=ECHO_APP.replace("Bolt()", "Bolt(handshake_timeout=0.5)"),
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as silent:
        assert silent.recv(1) == b""
    served.assert_no_noise()


# With the asynchronous client: the threads of the other one read and write on one TLS object at
# once, and about one connection in five hundred hangs for that.
@pytest.mark.parametrize("way", ["command", "script"])
async def test_tls(serve: Serve, certificate: tuple[Path, Path], way: str) -> None:
    """With a certificate it serves wss, and a client that checks it is content."""
    cert, key = certificate
    command = [*BOLTWS_RUN, "app:bolt", "--port", "0"]
    command += ["--ssl-certfile", str(cert), "--ssl-keyfile", str(key)]
    files = f"ssl_certfile={str(cert)!r}, ssl_keyfile={str(key)!r}"
    served = serve(
        command if way == "command" else [sys.executable, "app.py"],
        app=ECHO_APP.replace("port=0", f"port=0, {files}"),
    )
    trust = ssl.create_default_context(cafile=str(cert))
    uri = f"wss://127.0.0.1:{await asyncio.to_thread(lambda: served.port)}/live"
    async with asyncio.timeout(PATIENCE):
        async with connect_async(uri, ssl=trust, proxy=None) as client:
            for size in (1, 100, 100_000):
                await client.send("x" * size)
                assert await client.recv() == "x" * size
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connect_async(uri, ssl=ssl.create_default_context(), proxy=None):
                pass
        # A client that is there when the server stops: the close goes through TLS as well.
        async with connect_async(uri, ssl=trust, proxy=None) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            assert await asyncio.to_thread(served.stop) == 0
            await client.wait_closed()
        assert client.close_code == 1012
    served.assert_no_noise()


def test_the_log_level(serve: Serve) -> None:
    """`--log-level warning` starts in silence, and still serves."""
    port = free_port()
    command = [*BOLTWS_RUN, "app:bolt", "--port", str(port), "--log-level", "warning"]
    served = serve(command, app=ECHO_APP)
    served.learn_port(port)
    with served.connect("/live") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "hello"
    assert served.stop() == 0
    assert served.output == ""


def test_a_wrong_log_level_is_told(serve: Serve) -> None:
    """The levels there are stand in the one line of the answer."""
    served = serve([*BOLTWS_RUN, "app:bolt", "--log-level", "loud"], app=ECHO_APP)
    assert served.wait() == 1
    assert len(served.stderr) == 1, served.output
    assert served.stderr[0].startswith("boltws: "), served.output
    assert "'loud'" in served.output
    assert "warning" in served.output


def test_the_access_log_can_be_off(serve: Serve) -> None:
    """A request leaves a line by default, and none with `--no-access-log`."""
    command = [*BOLTWS_RUN, "app:bolt", "--port", "0"]
    talkative = serve(command, app=ECHO_APP)
    assert get(talkative.port, "/nowhere")[0] == 404
    talkative.wait_for(lambda line: "/nowhere" in line and "404" in line, "the request")
    with talkative.connect("/live"):
        talkative.wait_for(lambda line: "/live" in line and "WebSocket" in line, "the handshake")
    quiet = serve([*command, "--no-access-log"], app=ECHO_APP)
    assert get(quiet.port, "/nowhere")[0] == 404
    with quiet.connect("/live"):
        pass
    assert quiet.stop() == 0
    assert "/nowhere" not in quiet.output
    assert "/live" not in quiet.output


def test_an_app_for_http(serve: Serve) -> None:
    """`--http` serves what is no endpoint of Bolt's; the endpoints stay Bolt's."""
    served = serve([*BOLTWS_RUN, "app:bolt", "--port", "0", "--http", "app:site"], app=ECHO_APP)
    assert get(served.port, "/") == (200, b"the site at /")
    assert get(served.port, "/page") == (200, b"the site at /page")
    assert get(served.port, "/live")[0] == 426
    with served.connect("/live") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "hello"
    assert served.stop() == 0
    served.assert_no_noise()


def test_any_asgi_app(serve: Serve) -> None:
    """Our protocol serves an app that knows nothing of Bolt, its HTTP and its own WebSocket."""
    app = """
        from fastapi import FastAPI, WebSocket

        api = FastAPI()


        @api.get("/hello")
        async def hello() -> str:
            return "hello"


        @api.websocket("/live")
        async def live(socket: WebSocket) -> None:
            await socket.accept()
            async for message in socket.iter_text():
                await socket.send_text("starlette says " + message)
    """
    served = serve([console_script(), "run", "app:api", "--port", "0"], app=app)
    assert get(served.port, "/hello") == (200, b'"hello"')
    with served.connect("/live") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "starlette says hello"
    assert served.stop(signal.SIGINT) == 0
    served.assert_no_noise()


def test_the_soft_descriptor_limit_is_raised(serve: Serve) -> None:
    """A server needs a descriptor for each client: it takes all that the hard limit allows."""
    pytest.importorskip("resource")
    app = """
        import resource

        from boltws import Bolt

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 256), hard))
        bolt = Bolt()


        def limits(event):
            event.reply(" ".join(map(str, resource.getrlimit(resource.RLIMIT_NOFILE))))


        bolt.ws("/live", limits)
        if __name__ == "__main__":
            bolt.run(port=0)
    """
    for command in ([sys.executable, "app.py"], [*BOLTWS_RUN, "app:bolt", "--port", "0"]):
        served = serve(command, app=app)
        with served.connect("/live") as client:
            soft, hard = str(client.recv(timeout=PATIENCE)).split()
            assert soft == hard
        assert served.stop() == 0


def test_the_version_and_the_help(serve: Serve) -> None:
    """`boltws --help` and `boltws run --help` name what there is."""
    top = serve([console_script(), "--help"])
    assert top.wait() == 0
    assert "run" in top.output
    run = serve([console_script(), "run", "--help"])
    assert run.wait() == 0
    options = "--host --port --uds --ssl-certfile --ssl-keyfile --log-level --no-access-log"
    for option in [*options.split(), "--reload", "--http"]:
        assert option in run.output


def test_the_current_folder_is_importable(serve: Serve, tmp_path: Path) -> None:
    """`boltws run package.module:app` finds the package in the folder it is called in."""
    package = tmp_path / "shop" / "live"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "endpoints.py").write_text("class api:\n    from app import bolt\n")
    command = [console_script(), "run", "shop.live.endpoints:api.bolt", "--port", "0"]
    served = serve(command, app=ECHO_APP)
    with served.connect("/live") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "hello"
    assert served.stop() == 0


@pytest.mark.parametrize("host", ["localhost", "0.0.0.0", "::1"])
def test_other_hosts(serve: Serve, host: str) -> None:
    """A name, every address, and IPv6: the startup line names the host and the port it took."""
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    command = [*BOLTWS_RUN, "app:bolt", "--host", host, "--port", "0"]
    served = serve(command, app=ECHO_APP)
    assert served.port
    shown = f"[{host}]" if ":" in host else host
    assert f"://{shown}:{served.port}" in served.output
    reached = ["[::1]"] if host == "::1" else ["127.0.0.1"]
    if host == "localhost" and has_ipv6() and "::1" in addresses_of(host):
        reached.append("[::1]")  # the same port for each of the name's addresses
    for address in reached:
        uri = f"ws://{address}:{served.port}/live"
        with connect(uri, proxy=None, open_timeout=PATIENCE) as client:
            client.send("hello")
            assert client.recv(timeout=PATIENCE) == "hello"
    assert served.stop() == 0
    served.assert_no_noise()


@pytest.mark.skipif(sys.platform == "win32", reason="looks through the process' descriptors")
@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_small_writes_are_not_held_back(serve: Serve, loop: str) -> None:
    """Nagle's algorithm is off on every connection: it holds a message back for some 40 ms."""
    app = """
        import os
        import socket
        import sys

        from boltws import Bolt
        from boltws.server.run import build_server

        bolt = Bolt()


        def nodelay(event):
            for descriptor in range(3, 100):
                try:
                    with socket.socket(fileno=os.dup(descriptor)) as found:
                        if found.getpeername() == tuple(event.request.client):
                            option = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                            event.reply(str(bool(option)))
                except OSError:
                    pass  # no such descriptor, no socket, or not a connected one


        bolt.ws("/live", nodelay)
        build_server(bolt, port=0, loop=sys.argv[1]).run()
    """
    served = serve([sys.executable, "app.py", loop], app=app)
    with served.connect("/live") as client:
        assert client.recv(timeout=PATIENCE) == "True"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def addresses_of(host: str) -> set[str]:
    return {str(found[4][0]) for found in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)}
