"""Many workers: uvicorn's supervisor with servers of ours, and a NATS server for them to talk
through."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.supervisors import multiprocess

from ..backplane.embedded import EmbeddedServer
from ..backplane.nats import NatsBackplane
from ..backplane.settings import URL_VARIABLE
from ..errors import ConfigurationError, StartError
from .run import Server, remover, supervised

logger = logging.getLogger("uvicorn.error")

# uvicorn's status of a worker that cannot start: the supervisor stops then, and does not try again.
_CANNOT_START = 3
_STARTING = "starting"
_READY = b"ready"
_FIRST_ANSWER = 30  # seconds that a worker may take to say that it lives: it imports the app first


def run_workers(
    target: str, workers: int, build: Callable[[], Server], settings: dict[str, Any]
) -> None:
    """Serve `target` in `workers` processes until a signal. `build` makes a worker's server, and
    is sent to it. Workers talk over `BOLTWS_BACKPLANE`; where that is not set, over a nats-server
    that is started here.

    SIGHUP replaces the workers one by one, the new one first; SIGTTIN and SIGTTOU add and remove
    one. Raises :class:`StartError` when it cannot start.
    """
    NatsBackplane.check()  # once, and not in each worker first
    config, sockets = supervised(
        target, settings, workers=workers, timeout_worker_healthcheck=_FIRST_ANSWER
    )
    with ExitStack() as stack:
        stack.callback(remover(config.uds))
        for sock in sockets:
            stack.callback(sock.close)
        if not os.environ.get(URL_VARIABLE):
            nats = stack.enter_context(EmbeddedServer())
            url = nats.url.replace("://", f"://{nats.token}@")
            build = partial(_build_with_backplane, url, build)
        supervisor = _supervisor(config, sockets, build)
        supervisor.run()
    if supervisor.failed:
        raise StartError("a worker did not start; the lines above say why")


def _build_with_backplane(url: str, build: Callable[[], Server]) -> Server:
    """In a worker: the URL came with the function, not with the arguments of the process, which
    are everybody's to read."""
    os.environ[URL_VARIABLE] = url
    return build()


def _supervisor(
    config: uvicorn.Config, sockets: list[socket.socket], build: Callable[[], Server]
) -> Supervisor:
    # uvicorn's supervisor takes the class of its workers from its module, and from nowhere else.
    multiprocess.Process = cast(Any, partial(_Worker, build))  # type: ignore[misc]
    return Supervisor(config, sockets)


class Supervisor(multiprocess.Multiprocess):
    """uvicorn's, which says which workers are not ready, and whether one cannot start."""

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers; report those that live and should have no traffic."""
        super().keep_subprocess_alive()
        for worker in cast("list[_Worker]", self.processes):
            why, before = worker.not_ready(), worker.told
            if why == before or why == _STARTING:
                continue
            worker.told = why
            if why:
                logger.warning("Child process [%s] is not ready: %s", worker.pid, why)
            elif before != _STARTING:
                logger.warning("Child process [%s] is ready again", worker.pid)

    @property
    def failed(self) -> bool:
        """Whether a worker could not start."""
        return any(process.exitcode == _CANNOT_START for process in self.processes)


class _Worker(multiprocess.Process):
    """One process. What is here and not in the methods is made in the supervisor and sent."""

    def __init__(
        self, build: Callable[[], Server], config: uvicorn.Config, sockets: list[socket.socket]
    ) -> None:
        super().__init__(config, sockets)
        self._server = cast(Any, _Starting(build))
        self.told = _STARTING  # what the last answer of `not_ready` was that is in the log

    def start(self) -> None:
        """Start it, and keep our end of the pipe alone: with both of them here, the supervisor
        would wait half a minute for the answer of a worker that died meanwhile."""
        super().start()
        self.child_conn.close()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        starting = cast(_Starting, self._server)
        starting.ready = partial(setattr, self, "_server")
        super().target(sockets)

    def pong(self) -> None:
        """Answer one question of the supervisor: whether the server has started, which is
        uvicorn's, or why it is not ready."""
        asked = self.child_conn.recv()
        server: Any = self.server
        self.child_conn.send(server.not_ready() if asked == _READY else server.started)

    def not_ready(self) -> str:
        """Why the worker should have no traffic; ``""`` where it should, or does not answer."""
        try:
            self.parent_conn.send(_READY)
            answer = self.parent_conn.recv() if self.parent_conn.poll(1) else ""
        except (OSError, EOFError):
            return ""
        return answer if isinstance(answer, str) else ""


def _end_with_parent() -> None:
    """A supervisor that was killed cannot end its workers: they see it, and stop as on SIGTERM."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


class _Starting:
    """Stands for a worker's server while the app is imported: it answers that it lives, and has
    not started."""

    started = False
    ready: Callable[[Server], None]

    def __init__(self, build: Callable[[], Server]) -> None:
        self._build = build

    def not_ready(self) -> str:
        """It cannot be."""
        return _STARTING

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Import the app, and serve it."""
        server: Server | None = None
        try:
            server = self._build()
            self.ready(server)
            server.run(sockets)
        except (ConfigurationError, StartError) as error:
            sys.stderr.write(f"boltws: {error}\n")
            raise SystemExit(_CANNOT_START) from None
        except Exception:
            if server is not None:
                raise
            # An app that cannot be imported cannot be a second later: as uvicorn does where the
            # lifespan fails, this is the end, and not a traceback a second for ever.
            sys.stderr.write(traceback.format_exc())  # in one piece, beside those of the others
            raise SystemExit(_CANNOT_START) from None
