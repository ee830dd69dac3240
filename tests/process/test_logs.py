"""What a server prints: its own lines and boltws' in one form, or in the app's."""

from __future__ import annotations

import sys

import pytest

from .conftest import Serve
from .harness import PATIENCE, free_port

pytestmark = pytest.mark.slow

RUN = [sys.executable, "-m", "boltws", "run", "app:bolt"]

FAILING = """
    import logging
    from boltws import Bolt

    {configure}
    bolt = Bolt()


    @bolt.ws("/live").on_message
    def fail(event):
        event.reply("about to fail")
        raise LookupError("no such thing")
"""


def lines_of_a_failure(serve: Serve, configure: str, *arguments: str) -> list[str]:
    port = free_port()
    app = FAILING.format(configure=configure)
    served = serve([*RUN, "--port", str(port), *arguments], app=app)
    served.learn_port(port)
    with served.connect("/live?token=secret") as client:
        client.send("go")
        assert client.recv(timeout=PATIENCE) == "about to fail"
    assert served.stop() == 0
    assert "secret" not in served.output
    return [line for line in served.output.splitlines() if "callback of /live raised" in line]


def test_a_line_of_ours_looks_like_the_server_s(serve: Serve) -> None:
    """Once, and with its level."""
    (line,) = lines_of_a_failure(serve, "")
    assert line.startswith("ERROR:    message callback of /live raised for client ")


def test_an_app_that_configures_logging_gets_our_lines_in_its_form(serve: Serve) -> None:
    """Once, there too."""
    configure = 'logging.basicConfig(format="mine %(name)s %(levelname)s %(message)s")'
    (line,) = lines_of_a_failure(serve, configure)
    assert line.startswith("mine boltws ERROR message callback of /live raised for client ")


def test_the_log_level_is_for_our_lines_too(serve: Serve) -> None:
    """What is below it is not printed."""
    assert lines_of_a_failure(serve, "", "--log-level", "critical") == []


@pytest.mark.parametrize("how", [["--reload"], ["--workers", "2"]], ids=" ".join)
def test_a_wrong_log_level_is_told_by_supervisors_too(serve: Serve, how: list[str]) -> None:
    """One line, before anything starts."""
    served = serve([*RUN, "--log-level", "loud", *how], app=FAILING.format(configure=""))
    assert served.wait() == 1
    (line,) = served.output.splitlines()
    assert line.startswith("boltws: log level 'loud' is none of critical, error, ")
