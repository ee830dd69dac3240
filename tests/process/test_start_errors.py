"""The mistakes people make first: one line on stderr that says what to mend, and exit code 1."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from .conftest import Serve
from .harness import console_script, free_port

pytestmark = pytest.mark.slow

BOLTWS_RUN = [sys.executable, "-m", "boltws", "run"]

GOOD_APP = """
    from boltws import Bolt

    bolt = Bolt()
    bolt.ws("/live", on_message=lambda event: event.reply(event.message))
    number = 5
"""


def the_one_line(serve: Serve, argv: list[str], **files: str) -> str:
    """Run a command that must fail with exit code 1 and one line; gives that line."""
    served = serve(argv, **files)
    assert served.wait() == 1, served.output
    assert len(served.stderr) == 1, served.output
    line = served.stderr[0]
    assert line.startswith("boltws: "), line
    return line


def assert_names(line: str, *parts: str) -> None:
    assert [part for part in parts if part not in line] == [], line


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("app", ["'app'", "module:"]),
        (":bolt", ["':bolt'", "module:"]),
        ("app:", ["'app:'", "module:"]),
        ("nowhere:bolt", ["nowhere"]),
        ("nowhere.deeper:bolt", ["nowhere"]),
        ("app.deeper:bolt", ["app.deeper"]),
        ("app:bold", ["bold", "app"]),
        ("app:bolt.nothing", ["bolt.nothing", "app"]),
        ("app:number", ["number", "int", "ASGI"]),
        ("app.py", ["app.py", "module:"]),
        ("app.py:bolt", ["'app.py'", "'app'"]),
    ],
)
def test_a_bad_target_is_named(serve: Serve, target: str, named: list[str]) -> None:
    """`boltws run` says what it looked for and what it found instead."""
    assert_names(the_one_line(serve, [*BOLTWS_RUN, target], app=GOOD_APP), *named)


def test_the_console_script_says_the_same(serve: Serve) -> None:
    """The installed command reports as `python -m boltws` does."""
    line = the_one_line(serve, [console_script(), "run", "nowhere:bolt"])
    assert_names(line, "nowhere")


def test_a_bad_http_app_is_named(serve: Serve) -> None:
    """`--http` is looked up like the app itself."""
    line = the_one_line(serve, [*BOLTWS_RUN, "app:bolt", "--http", "app:site"], app=GOOD_APP)
    assert_names(line, "site", "app")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (
            "import nothing_of_this_name",
            "ModuleNotFoundError: No module named 'nothing_of_this_name'",
        ),
        ("from boltws import Bold", "ImportError: cannot import name 'Bold'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:\n    pass", "SyntaxError"),
    ],
)
def test_an_error_inside_the_module_keeps_its_traceback(
    serve: Serve, source: str, error: str
) -> None:
    """The module is there and fails by itself: only its traceback says where."""
    served = serve([*BOLTWS_RUN, "app:bolt"], app=source)
    assert served.wait() == 1, served.output
    assert "app.py" in served.output
    assert error in served.output


def test_a_module_missing_inside_is_not_taken_for_the_app(serve: Serve) -> None:
    """The error of an app in a package whose own import fails names the import, not the app."""
    served = serve([*BOLTWS_RUN, "app:bolt"], app="import app.inner")
    assert served.wait() == 1, served.output
    assert "app.inner" in served.output


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (["bolt.ws('/twice')", "bolt.ws('/twice')"], ["/twice", "twice"]),
        (["bolt.ws('/a/:x')", "bolt.ws('/a/{x}')"], ["/a/:x", "/a/{x}"]),
        (["bolt.ws('/live', 'no_such_callback')"], ["no_such_callback", "on_connect", "/live"]),
        (["bolt.ws('/live').before('no_such_before')"], ["no_such_before", "before", "/live"]),
        (["bolt.after('no_such_after')"], ["no_such_after", "after"]),
        (["bolt.ws('/live', 'nowhere:joined')"], ["nowhere"]),
        (["bolt.ws('/live', 'json:joined')"], ["json", "joined"]),
        (["word = 5", "bolt.ws('/live', 'word')"], ["word", "int"]),
        (
            ["def said(event, more): ...", "bolt.ws('/live', on_message=said)"],
            ["said(event, more)", "the event or nothing"],
        ),
        (
            ["def said(event, more): ...", "bolt.ws('/live', on_message='said')"],
            ["said(event, more)", "the event or nothing"],
        ),
        (["def said(*, key): ...", "bolt.before(said)"], ["said", "the event or nothing"]),
        (["bolt.ws('live')"], ["'live'", "'/'"]),
        (["bolt.ws('/live/{room')"], ["/live/{room", "brace"]),
        (["bolt.ws('/live', overflow='drp')"], ["overflow", "'drp'", "drop_oldest"]),
        (["bolt.ws('/live', capacity=3)"], ["capacity"]),
        (["bolt.run(port=0)"], ["'app' calls bolt.run()", "if __name__ == '__main__':"]),
        (["@bolt.ws('/live')", "def live(event): ..."], ["'/live'", "no decorator"]),
        (["bolt.ws('/live/<room>')"], ["<room>", "{room}"]),
    ],
)
def test_a_mistake_in_the_app_is_one_line(serve: Serve, lines: list[str], named: list[str]) -> None:
    """Whatever is wrong with endpoints, callbacks and options, `boltws run` says it in a line."""
    source = "\n".join(["from boltws import Bolt", "bolt = Bolt()", *lines])
    assert_names(the_one_line(serve, [*BOLTWS_RUN, "app:bolt"], app=source), *named)


MISSING_CALLBACK = """
    from fastapi import FastAPI

    from boltws import Bolt

    bolt = Bolt()
    bolt.ws("/live", "no_such_callback")
    api = FastAPI(lifespan=bolt.lifespan)
    api.mount("/in", bolt)

    if __name__ == "__main__":
        bolt.run(port=0)
"""


def test_bolt_run_names_a_missing_callback(serve: Serve) -> None:
    """`python app.py` ends as `boltws run` does: one line, exit code 1."""
    line = the_one_line(serve, [sys.executable, "app.py"], app=MISSING_CALLBACK)
    assert_names(line, "no_such_callback", "/live")


@pytest.mark.parametrize("target", ["app:bolt", "app:api"])
def test_another_server_does_not_start_either(serve: Serve, target: str) -> None:
    """Through uvicorn's lifespan, Bolt's own or a mounting app's, the start fails and says why."""
    command = [sys.executable, "-m", "uvicorn", target, "--port", "0"]
    served = serve(command, app=MISSING_CALLBACK)
    assert served.wait() != 0
    assert "no_such_callback" in served.output
    if target == "app:bolt":
        assert "Traceback" not in served.output, served.output


def test_boltws_run_of_a_mounting_app_does_not_start(serve: Serve) -> None:
    """A mount's mistake stops `boltws run`; the mounting framework may show its traceback."""
    served = serve([*BOLTWS_RUN, "app:api", "--port", "0"], app=MISSING_CALLBACK)
    assert served.wait() == 1, served.output
    assert "no_such_callback" in served.output


RUN = """
    from boltws import Bolt

    bolt = Bolt()
    if __name__ == "__main__":
        bolt.run({})
"""


def test_a_port_in_use_is_named(serve: Serve) -> None:
    """Both ways to start name the address that is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        by_hand = the_one_line(serve, [sys.executable, "app.py"], app=RUN.format(f"port={port}"))
        by_command = the_one_line(serve, [*BOLTWS_RUN, "app:bolt", "--port", port], app=GOOD_APP)
    assert_names(by_hand, port, "in use")
    assert_names(by_command, port, "in use")


def test_a_port_in_use_is_named_with_reload(serve: Serve) -> None:
    """The supervisor that watches for changes reports the same, and leaves no process behind."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        served = serve([*BOLTWS_RUN, "app:bolt", "--reload", "--port", port], app=GOOD_APP)
        assert served.wait() == 1, served.output
        # What it watches has been logged by then; the error is the one other line.
        errors = [line for line in served.stderr if not line.startswith("INFO:")]
        assert len(errors) == 1, served.output
        assert_names(errors[0], "boltws: ", port, "in use")


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="root may listen on any port"
)
def test_a_privileged_port_is_named(serve: Serve) -> None:
    """A port that only root may take is an error of one line."""
    line = the_one_line(serve, [*BOLTWS_RUN, "app:bolt", "--port", "80"], app=GOOD_APP)
    assert_names(line, "80", "ermission")


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "not a host"])
def test_a_bad_host_is_named(serve: Serve, host: str) -> None:
    """An address that is not this machine's, and a name that is nobody's."""
    by_hand = [sys.executable, "app.py"]
    assert_names(the_one_line(serve, by_hand, app=RUN.format(f"{host!r}, 0")), host)
    by_command = [*BOLTWS_RUN, "app:bolt", "--port", "0", "--host", host]
    assert_names(the_one_line(serve, by_command, app=GOOD_APP), host)


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_out_of_range_is_named(serve: Serve, port: str) -> None:
    """65,535 is the last port; what is beyond must not be served on some other port."""
    line = the_one_line(serve, [sys.executable, "app.py"], app=RUN.format(f"port={port}"))
    assert_names(line, port)
    line = the_one_line(serve, [*BOLTWS_RUN, "app:bolt", f"--port={port}"], app=GOOD_APP)
    assert_names(line, port)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--ssl-certfile", "missing.pem", "--ssl-keyfile", "missing.key"], "missing.pem"),
        (["--ssl-certfile", "app.py", "--ssl-keyfile", "app.py"], "app.py"),
        (["--ssl-keyfile", "app.py"], "ssl_certfile"),
        (["--uds", "no/such/folder/socket"], "no/such/folder/socket"),
    ],
)
def test_a_file_that_does_not_do_is_named(serve: Serve, options: list[str], named: str) -> None:
    """A certificate that is missing, one that is none, a key alone, a socket nowhere."""
    line = the_one_line(serve, [*BOLTWS_RUN, "app:bolt", "--port", "0", *options], app=GOOD_APP)
    assert_names(line.replace("--ssl-certfile", "ssl_certfile"), named)


@pytest.mark.parametrize("name", ["reload", "workers"])
def test_bolt_run_says_where_reload_and_workers_belong(serve: Serve, name: str) -> None:
    """Both need processes of their own: the last line of the error names `boltws run`."""
    served = serve([sys.executable, "app.py"], app=RUN.format(f"{name}=True"))
    assert served.wait() == 1
    assert_names(served.stderr[-1], name, "boltws run")


@pytest.mark.parametrize(
    "arguments", [[], ["run"], ["walk", "app:bolt"], ["run", "app:bolt", "--port", "many"]]
)
def test_wrong_usage_shows_the_usage(serve: Serve, arguments: list[str]) -> None:
    """What the command line cannot read is a usage error: exit code 2, no traceback."""
    served = serve([sys.executable, "-m", "boltws", *arguments], app=GOOD_APP)
    assert served.wait() == 2, served.output
    assert "usage: boltws" in served.output
    assert "Traceback" not in served.output


def test_a_failed_start_leaves_the_port_free(serve: Serve, tmp_path: Path) -> None:
    """A start that fails for its callbacks never listened, so the mended app takes the port."""
    port = free_port()
    command = [*BOLTWS_RUN, "app:bolt", "--port", str(port)]
    the_one_line(serve, command, app=MISSING_CALLBACK)
    served = serve(command, app=GOOD_APP)
    assert served.port == port
    with served.connect("/live") as client:
        client.send("again")
        assert client.recv(timeout=30) == "again"
    assert served.stop() == 0


def test_a_unix_socket_in_use_is_named(serve: Serve, tmp_path: Path) -> None:
    """A path that another server listens on, and a file that is no socket, are left alone."""
    (tmp_path / "notes").write_text("precious")
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(tmp_path / "s"))
        taken.listen()
        for path in ("s", "notes"):
            line = the_one_line(serve, [*BOLTWS_RUN, "app:bolt", "--uds", path], app=GOOD_APP)
            assert_names(line, f"'{path}'", "another path")
        assert (tmp_path / "s").is_socket()
    assert (tmp_path / "notes").read_text() == "precious"


def test_a_unix_socket_that_was_left_is_taken(serve: Serve, tmp_path: Path) -> None:
    """The socket of a server that was killed does not stand in the way of the next."""
    command = [*BOLTWS_RUN, "app:bolt", "--uds", "s"]
    killed = serve(command, app=GOOD_APP)
    killed.wait_for(lambda line: "unix:s" in line, "the path of its socket")
    killed.kill()
    assert (tmp_path / "s").is_socket()
    served = serve(command, app=GOOD_APP)
    served.wait_for(lambda line: "unix:s" in line, "the path of its socket")
    assert served.stop() == 0


def test_workers_that_cannot_import_the_app_are_not_tried_for_ever(serve: Serve) -> None:
    """What raises in workers alone passes the supervisor's own look at the app: the first one
    that does not start is the end, with each worker's traceback once."""
    app = (
        GOOD_APP
        + """
    import multiprocessing

    if multiprocessing.parent_process() is not None:
        raise LookupError("not here")
    """
    )
    served = serve([*BOLTWS_RUN, "app:bolt", "--port", "0", "--workers", "2"], app=app)
    assert served.wait() == 1
    assert 1 <= served.output.count("LookupError: not here\n") <= 2, served.output
    assert served.stderr[-1] == "boltws: a worker did not start; the lines above say why"
