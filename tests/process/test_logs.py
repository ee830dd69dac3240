"""What a server prints: its own lines and boltws' in one form, or in the app's."""

from __future__ import annotations

import http.client
import sys
from pathlib import Path

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
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/live?token=secret")
    connection.getresponse().read()
    connection.close()
    with served.connect("/live?token=secret") as client:
        client.send("go")
        assert client.recv(timeout=PATIENCE) == "about to fail"
    assert served.stop() == 0
    assert "secret" not in served.output
    access = served.output.count('"GET /live HTTP/1.1" 426')
    assert access == (0 if {"--no-access-log", "critical"} & {*arguments} else 1), served.output
    return [line for line in served.output.splitlines() if "callback of /live raised" in line]


@pytest.mark.parametrize(
    "how", [[], ["--no-access-log"], ["--log-level", "INFO"], ["--reload"], ["--workers", "2"]]
)
def test_a_line_of_ours_looks_like_the_server_s(serve: Serve, how: list[str]) -> None:
    """Once, and with its level; so do the access lines, where they are asked for."""
    (line,) = lines_of_a_failure(serve, "", *how)
    assert line.startswith("ERROR:    message callback of /live raised for client ")


def test_an_app_that_configures_logging_gets_our_lines_in_its_form(serve: Serve) -> None:
    """Once, there too."""
    configure = 'logging.basicConfig(format="mine %(name)s %(levelname)s %(message)s")'
    (line,) = lines_of_a_failure(serve, configure)
    assert line.startswith("mine boltws ERROR message callback of /live raised for client ")


@pytest.mark.parametrize(
    "configure",
    [
        'logging.basicConfig(filename="log", filemode="w")',
        'logging.getLogger("boltws").addHandler(logging.FileHandler("log", mode="w"))',
        "from logging.handlers import MemoryHandler as M; "
        'logging.getLogger().addHandler(M(1, target=logging.FileHandler("log")))',
    ],
    ids=["root", "boltws", "memory"],
)
def test_the_app_s_own_handlers_stay_open(serve: Serve, tmp_path: Path, configure: str) -> None:
    """The app is imported before its server sets up the log, and what it opened works on; there,
    and only there."""
    assert lines_of_a_failure(serve, configure) == []
    assert (tmp_path / "log").read_text().count("callback of /live raised") == 1


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
