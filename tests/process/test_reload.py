"""`boltws run --reload`: an edit is served without a restart by hand, and all of it ends."""

from __future__ import annotations

import signal
import sys

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


def edit(served: Served, source: str) -> None:
    """Write the app anew, as often as it takes for the watcher to see it.

    What is written between a start and the watcher's first look is no change to it.
    """
    reloads = served.output.count("Reloading")

    def seen() -> bool:
        if served.output.count("Reloading") > reloads:
            return True
        (served.folder / "app.py").write_text(source)
        return False

    eventually(seen, "the edit is seen", between=1.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_an_edit_is_served(serve: Serve, number: signal.Signals) -> None:
    """The new source is served, who was connected gets 1012, and a signal leaves no orphan."""
    port = free_port()
    command = [sys.executable, "-m", "boltws", "run", "app:bolt", "--port", str(port), "--reload"]
    served = serve(command, app=APP)
    served.learn_port(port)
    eventually(lambda: version(served) == "version 1", "version 1 answers")
    with served.connect("/live") as client:
        assert client.recv(timeout=PATIENCE) == "version 1"
        edit(served, APP.replace("version 1", "version two"))
        assert until_closed(client) == ([], 1012)
    eventually(lambda: version(served) == "version two", "version two answers")
    with served.connect("/live") as client:
        assert client.recv(timeout=PATIENCE) == "version two"
        assert served.stop(number) == 0
        assert until_closed(client) == ([], 1012)
    assert "Traceback" not in served.output, served.output


def test_a_broken_edit_can_be_mended(serve: Serve) -> None:
    """A mistake in the new source is told, and its mending is served: the watcher lives on."""
    port = free_port()
    command = [sys.executable, "-m", "boltws", "run", "app:bolt", "--port", str(port), "--reload"]
    served = serve(command, app=APP)
    served.learn_port(port)
    eventually(lambda: version(served) == "version 1", "version 1 answers")
    edit(served, APP + "bolt.ws('no slash')\n")
    served.wait_for(lambda line: "no slash" in line, "what is wrong with the edit")
    edit(served, APP.replace("version 1", "version two"))
    eventually(lambda: version(served) == "version two", "version two answers")
    assert served.stop() == 0
