"""The command ``boltws``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .app import Bolt
from .backplane.settings import URL_VARIABLE, Settings
from .errors import ConfigurationError, StartError
from .loading import NotFound, is_asgi_app, load, serves, takes
from .publish_command import add_publish, publish


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command. Raises ``SystemExit``: 0 after a stop, 1 when it cannot start, with one line
    and what the app raised while it was imported, 2 for arguments that are wrong."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.command == "publish":
        publish(parsed)
        return
    settings = vars(parsed)
    names = ("command", "target", "http", "reload", "workers", "backplane")
    _, target, http, reload, workers, backplane = (settings.pop(name) for name in names)
    if reload and workers > 1:
        parser.error("--reload and --workers exclude each other")
    sys.path.insert(0, os.getcwd())
    try:
        if backplane is not None:
            _check_url("--backplane", backplane)
            os.environ[URL_VARIABLE] = backplane
        elif url := os.environ.get(URL_VARIABLE):
            _check_url(URL_VARIABLE, url)
        if reload:
            _run_reloading(target, http, settings)
        elif workers > 1:
            _run_workers(target, http, workers, settings)
        else:
            _run(target, http, settings)
    except (ConfigurationError, StartError) as error:
        raise SystemExit(f"boltws: {error}") from None


def _parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = argparse.ArgumentParser(prog="boltws", description="Real-time WebSocket server.")
    parser.add_argument("--version", action="version", version=f"boltws {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="serve a Bolt, or an ASGI app that mounts one")
    run.add_argument("target", metavar="module:app", help="what to serve")
    run.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    run.add_argument("--port", type=int, default=3000, help="0 takes a free one; default: 3000")
    run.add_argument("--uds", metavar="PATH", help="listen on a Unix socket instead")
    run.add_argument("--ssl-certfile", metavar="FILE", help="PEM certificate, to serve wss")
    run.add_argument("--ssl-keyfile", metavar="FILE", help="PEM key of the certificate")
    run.add_argument("--log-level", default="info", help="critical … trace; default: info")
    run.add_argument(
        "--no-access-log", dest="access_log", action="store_false", help="log no requests"
    )
    run.add_argument(
        "--workers",
        type=_positive,
        default=1,
        metavar="N",
        help="processes; they talk over the backplane, or over a nats-server that is started here",
    )
    run.add_argument(
        "--backplane",
        metavar="URL",
        help=f"nats://host:4222, where the other nodes are; better in {URL_VARIABLE} when it has "
        "a secret in it",
    )
    run.add_argument("--reload", action="store_true", help="start anew when a file changes")
    run.add_argument(
        "--http", metavar="module:app", help="an ASGI app for all that is no endpoint of the Bolt"
    )
    add_publish(commands)
    return parser


def _check_url(source: str, url: str) -> None:
    """A mistake is told before anything is opened."""
    try:
        Settings.of(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of processes is 1 or more, not {text!r}")
    return int(text)


def load_app(target: str) -> Any:
    """The app that ``module:attribute`` names. Raises :class:`StartError` where it does not."""
    try:
        found = load(target)
    except NotFound as error:
        raise StartError(f"{error}{_hint(target)}") from None
    if not is_asgi_app(found):
        # Other servers take an app factory.
        makes = inspect.isfunction(found) and takes(found, 0)
        made = f"; call it in the module: bolt = {found.__name__}()" if makes else ""
        raise StartError(
            f"{target!r} is {type(found).__name__}, not a Bolt or an ASGI app{made}{_hint(target)}"
        )
    return found


def _hint(target: str) -> str:
    """Where the module has a Bolt."""
    module = sys.modules.get(target.partition(":")[0])
    bolts = [name for name, value in vars(module or object).items() if isinstance(value, Bolt)]
    return f"; its Bolt is {module.__name__}:{bolts[0]}" if module and bolts else ""


def _load(target: str, http: str | None) -> Any:
    before = serves.set(True)
    try:
        app = load_app(target)
        if http is not None:
            if not isinstance(app, Bolt):
                raise StartError(f"--http goes with a Bolt, and {target!r} is {type(app).__name__}")
            app.http = load_app(http)
        if isinstance(app, Bolt):
            app._runtime.seal()  # a mistake is told before anything is opened
        return app
    except (ConfigurationError, StartError):
        raise
    except Exception as error:
        raise StartError(f"{target!r} cannot be imported:\n{_traceback(error)}") from None
    finally:
        serves.reset(before)


_OURS = (str(Path(__file__).parent) + os.sep, str(importlib.__file__), "<frozen importlib")


def _traceback(error: Exception) -> str:
    """The lines of the app's author, without those of ours and of Python's that led there."""
    told = traceback.TracebackException.from_exception(error)
    told.stack[:] = [line for line in told.stack if not line.filename.startswith(_OURS)]
    return "".join(told.format()).rstrip()


def _run(target: str, http: str | None, settings: dict[str, Any]) -> None:
    from .server.run import serve

    serve(_load(target, http), **settings)


def _run_workers(target: str, http: str | None, workers: int, settings: dict[str, Any]) -> None:
    """Serve in several processes."""
    from .server.run import build_server
    from .server.supervisor import run_workers

    server = build_server(_load(target, http), **settings)  # what is wrong is told here, once
    deadline = server.config.timeout_graceful_shutdown
    run_workers(target, workers, partial(_build, target, http, settings), settings, deadline)


def _build(target: str, http: str | None, settings: dict[str, Any]) -> Any:
    """A worker's server."""
    from .server.run import build_server

    sys.path.insert(0, os.getcwd())
    return build_server(_load(target, http), **settings)


def _run_reloading(target: str, http: str | None, settings: dict[str, Any]) -> None:
    """Watch the files in a parent process; serve in a child, on a socket of the parent's."""
    from uvicorn.supervisors import ChangeReload

    from .server.run import build_server, remover, supervised

    build_server(_nothing, **settings)  # what is wrong with the settings is told here, once
    config, sockets = supervised(target, settings, reload=True)
    remove = remover(config.uds)
    try:
        ChangeReload(config, target=partial(_child, target, http, settings), sockets=sockets).run()
    finally:
        remove()


def _child(target: str, http: str | None, settings: dict[str, Any], sockets: Any) -> None:
    try:
        _build(target, http, settings).run(sockets=sockets)
    except (ConfigurationError, StartError) as error:
        raise SystemExit(f"boltws: {error}") from None


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("stands for an app where settings are checked")
