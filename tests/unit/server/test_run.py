"""What a server is built from, and what it says where that cannot be."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from boltws import Bolt
from boltws.errors import StartError
from boltws.server.run import _address, bind, build_server, supervised
from boltws.siblings import workers_asked_for

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"port": "3000"},
            "port must be a whole number 0 to 65535, not '3000' (a str): int(...) makes one",
        ),
        (
            {"port": 3000.0},
            "port must be a whole number 0 to 65535, not 3000.0 (a float): int(...) makes one",
        ),
        ({"port": None}, "port must be a whole number 0 to 65535, not None"),
        ({"port": True}, "port must be a whole number 0 to 65535, not True (a bool)"),
        ({"port": 65536}, "port 65536 is none: a port is 0 (any that is free) to 65535"),
        ({"host": 3000}, "host must be a str, not 3000 (an int); did you mean port=3000?"),
        ({"host": None}, "host must be a str, not None"),
        (
            {"host": "localhost:3000"},
            "host must be a name or an address alone, not 'localhost:3000': port is apart",
        ),
        (
            {"host": "http://localhost"},
            "host must be a name or an address alone, not 'http://localhost': port is apart",
        ),
        ({"uds": 5}, "uds must be the path of a socket, a str, not 5 (an int)"),
        ({"ssl_certfile": 5}, "a TLS file must be a path, not 5 (an int)"),
    ],
)
def test_a_setting_that_is_none(given: dict[str, Any], said: str) -> None:
    """What was expected, what was found, and what to do."""
    with pytest.raises(StartError) as raised:
        build_server(Bolt(), **given)
    assert str(raised.value) == said


def test_a_certificate_without_its_key(tmp_path: Path) -> None:
    """OpenSSL speaks of its PEM library. Of a file that is no certificate it may."""
    file = tmp_path / "cert.pem"
    file.write_text(CERTIFICATE)
    with pytest.raises(StartError, match=r"cert\.pem': a certificate, and no key: give its file"):
        build_server(Bolt(), ssl_certfile=str(file))
    file.write_text("nothing of the kind")
    with pytest.raises(StartError) as raised:
        build_server(Bolt(), ssl_certfile=str(file))
    assert "no key" not in str(raised.value) and "None" not in str(raised.value)


@pytest.mark.parametrize(
    ("host", "shown"), [("", "0.0.0.0"), ("localhost", "localhost"), ("::1", "[::1]")]
)
def test_the_address_has_a_host(host: str, shown: str) -> None:
    """The one that was given; for all there are, what the system calls them."""
    config = build_server(Bolt(), host=host, port=0).config
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        assert _address(config, sock) == f"http://{shown}:{sock.getsockname()[1]}"


async def test_a_server_of_ours_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Platforms set WEB_CONCURRENCY for servers that read it. Ours does not."""
    seen = []

    async def serve(self: Any, sockets: Any = None) -> None:
        seen.append(workers_asked_for([]))

    monkeypatch.setattr(uvicorn.Server, "_serve", serve)
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    server = build_server(Bolt(), port=0)
    await server.serve()
    assert seen == [1] and server.config.workers == 1
    settings = {"host": "127.0.0.1", "port": 0, "uds": None, "log_level": "info"}
    config, sockets = supervised("app:bolt", settings, reload=True)
    for sock in sockets:
        sock.close()
    assert config.workers == 1
    assert workers_asked_for([]) == 4, "another server in this process may read it"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
def test_a_unix_socket_whose_server_hangs_is_in_use(tmp_path: Path) -> None:
    """Its backlog is full, and whoever knocks would wait for ever."""
    path = str(tmp_path / "s")
    with contextlib.ExitStack() as stack:
        hangs = stack.enter_context(socket.socket(socket.AF_UNIX))
        hangs.bind(path)
        hangs.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waits = stack.enter_context(socket.socket(socket.AF_UNIX))
                waits.setblocking(False)
                waits.connect(path)
        with pytest.raises(StartError, match="something listens there"):
            bind(uvicorn.Config("app:app", uds=path))
