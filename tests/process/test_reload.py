"""`boltws run --reload`: an edit is served without a restart by hand, and all of it ends."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from .conftest import Serve
from .harness import PATIENCE, Served, eventually, free_port, until_closed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APP = """
from boltws import Bolt

bolt = Bolt()
bolt.ws("/live", lambda event: event.reply("version 1"))
"""


def version(served: Served) -> str:
    """What the server answers now; "" between two servers."""
    try:
        with served.connect("/live") as client:
            return str(client.recv(timeout=PATIENCE))
    except (OSError, InvalidHandshake, ConnectionClosed):
        return ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_edit_is_served(serve: Serve, tmp_path: Path, number: signal.Signals) -> None:
    """The new source is served, who was connected gets 1012, and a signal leaves no orphan."""
    port = free_port()
    command = [sys.executable, "-m", "boltws", "run", "app:bolt", "--port", str(port), "--reload"]
    served = serve(command, app=APP)
    served.learn_port(port)
    eventually(lambda: version(served) == "version 1", "version 1 answers")
    with served.connect("/live") as client:
        assert client.recv(timeout=PATIENCE) == "version 1"
        (tmp_path / "app.py").write_text(APP.replace("version 1", "version two"))
        assert until_closed(client) == ([], 1012)
    eventually(lambda: version(served) == "version two", "version two answers")
    with served.connect("/live") as client:
        assert client.recv(timeout=PATIENCE) == "version two"
        assert served.stop(number) == 0
        assert until_closed(client) == ([], 1012)
    assert "Traceback" not in served.output, served.output


def test_a_broken_edit_can_be_mended(serve: Serve, tmp_path: Path) -> None:
    """A mistake in the new source is told, and its mending is served: the watcher lives on."""
    port = free_port()
    command = [sys.executable, "-m", "boltws", "run", "app:bolt", "--port", str(port), "--reload"]
    served = serve(command, app=APP)
    served.learn_port(port)
    eventually(lambda: version(served) == "version 1", "version 1 answers")
    (tmp_path / "app.py").write_text(APP + "bolt.ws('no slash')\n")
    served.wait_for(lambda line: "no slash" in line, "what is wrong with the edit")
    (tmp_path / "app.py").write_text(APP.replace("version 1", "version two"))
    eventually(lambda: version(served) == "version two", "version two answers")
    assert served.stop() == 0
