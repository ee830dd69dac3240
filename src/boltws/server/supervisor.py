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
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
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
_ANSWER = 30  # seconds that a worker may take to say that it lives, and to serve in a restart
_TICK = 0.5  # seconds between two looks at the workers, which are uvicorn's
_LOOK = 0.05  # seconds between two looks at those that end
_PAUSE = 2.0  # seconds until one that never served is replaced, lest a broken one makes us spin
_MARGIN = 30  # seconds beyond its own deadline that a worker gets to end: for the app's lifespan


def run_workers(
    target: str,
    workers: int,
    build: Callable[[], Server],
    settings: dict[str, Any],
    deadline: int | None,
) -> None:
    """Serve `target` in `workers` processes until a signal. `build` makes a worker's server, and
    is sent to it; the server ends within `deadline` seconds, but for the app's lifespan. Workers
    talk over `BOLTWS_BACKPLANE`; where that is not set, over a nats-server that is started here.

    SIGHUP replaces the workers one by one, the new one first; SIGTTIN and SIGTTOU add and remove
    one. Raises :class:`StartError` when it cannot start.
    """
    NatsBackplane.check()  # once, and not in each worker first
    config, sockets = supervised(
        target, settings, workers=workers, timeout_graceful_shutdown=deadline
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
    """uvicorn's, which does not stand still: it waits for no worker, be it for an answer, for its
    start or for its end, so that meanwhile signals are heeded and dead workers replaced."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        self.failed = False  # it has ended because no worker can start
        self._old: list[_Worker] = []  # to be replaced, one after the other
        self._new: _Worker | None = None  # takes the place of the first of them when it serves
        self._leaving: dict[_Worker, float] = {}  # told to end, and when they are killed
        self._patience = _patience(config)

    @property
    def _workers(self) -> list[_Worker]:
        return cast("list[_Worker]", self.processes)

    def _start(self) -> _Worker:
        worker = cast(_Worker, multiprocess.Process(self.config, self.sockets))
        worker.start()
        return worker

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are dead or hang; report those that should have no traffic."""
        if self.should_exit.is_set():
            return
        for at, worker in enumerate(self._workers):
            worker.look()
            if worker.lives:
                self._report(worker)
                continue
            if worker.ended is None:
                self._bury(worker)
            if self.failed:
                return
            assert worker.ended is not None
            if worker.has_served or time.monotonic() - worker.ended >= _PAUSE:
                self._workers[at] = self._start()
        self._see_off()
        self._replace()

    def _bury(self, worker: _Worker) -> None:
        ended = worker.exitcode is not None
        worker.end()
        if worker.exitcode == _CANNOT_START and not any(other.serves for other in self._workers):
            logger.error("Child process [%s] cannot start, and no other serves", worker.pid)
            self.failed = True
            self.should_exit.set()
            return
        why = _status(worker.exitcode) if ended else f"no answer for {_ANSWER} s, killed"
        logger.warning("Child process [%s] has ended (%s), and is replaced", worker.pid, why)

    def _report(self, worker: _Worker) -> None:
        why, before = worker.state, worker.told
        if why in (before, _STARTING):
            return
        worker.told = why
        if why:
            logger.warning("Child process [%s] is not ready: %s", worker.pid, why)
        elif before != _STARTING:
            logger.warning("Child process [%s] is ready again", worker.pid)

    # Rolling restart.

    def restart_all(self) -> None:
        """Begin to replace all workers, one after the other."""
        self._old = list(self._workers)

    def _replace(self) -> None:
        """One step more, where there is one to take."""
        self._old = [worker for worker in self._old if worker in self._workers]  # or it has died
        new = self._new
        if new is None:
            if self._old and not self._leaving:
                self._new = self._start()
            return
        new.look()
        if new.serves:
            self._new = None
            if self._old:
                at = self._workers.index(self._old.pop(0))
                new, self._workers[at] = self._workers[at], new
            self._part_with(new)
        elif not new.lives or time.monotonic() - new.began > _ANSWER:
            new.end()
            logger.error(
                "New child process [%s] does not serve (%s): the restart ends here, and the "
                "others stay",
                new.pid,
                _status(new.exitcode),
            )
            self._new = None
            self._old.clear()

    def handle_ttou(self) -> None:
        """uvicorn's, which waits for the end of the worker."""
        logger.info("Received SIGTTOU, decreasing the number of processes.")
        if self.processes_num > 1:
            self.processes_num -= 1
            self._part_with(self._workers.pop())

    # The end of workers.

    def _part_with(self, worker: _Worker) -> None:
        worker.terminate()
        self._leaving[worker] = time.monotonic() + self._patience

    def _see_off(self) -> None:
        """Kill those that should have ended: one whose event loop is blocked never would."""
        for worker, until in list(self._leaving.items()):
            if worker.exitcode is None:
                if time.monotonic() < until:
                    continue
                logger.warning(
                    "Child process [%s] has not ended in %g s: killed", worker.pid, self._patience
                )
            worker.end()
            del self._leaving[worker]

    def terminate_all(self) -> None:
        """Tell all to end."""
        if self._new is not None:
            self._part_with(self._new)
        for worker in self._workers:
            self._part_with(worker)

    def join_all(self) -> None:
        """Return when all have ended."""
        while self._leaving:
            self._see_off()
            time.sleep(_LOOK)


def _patience(config: uvicorn.Config) -> int:
    """Seconds in which a worker that has been told to end must have done so."""
    return (config.timeout_graceful_shutdown or 0) + _MARGIN


def _status(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # one of the real-time signals
        return f"signal {-code}"


class _Worker(multiprocess.Process):
    """One process. What is here and not in the methods is made in the supervisor and sent."""

    def __init__(
        self, build: Callable[[], Server], config: uvicorn.Config, sockets: list[socket.socket]
    ) -> None:
        super().__init__(config, sockets)
        self._server = cast(Any, _Starting(build))
        self._asked = False
        self._unanswered = 0  # looks since the last answer: a clock goes on while all is suspended
        self.state = _STARTING  # its last answer: why it should have no traffic
        self.told = _STARTING  # the one that is in the log
        self.began = time.monotonic()
        self.ended: float | None = None  # when that was seen

    @property
    def lives(self) -> bool:
        """Whether it runs, and answers."""
        return self.exitcode is None and self._unanswered * _TICK < _ANSWER

    @property
    def has_served(self) -> bool:
        """Whether it has come so far as to serve."""
        return self.state != _STARTING

    @property
    def serves(self) -> bool:
        """Whether it does now."""
        return self.has_served and self.lives

    def look(self) -> None:
        """Take its answer to the last question, if that has come, and ask again."""
        self._unanswered += 1
        with suppress(OSError, EOFError):  # it is dead
            if self._asked and self.parent_conn.poll():
                self.state = self.parent_conn.recv()
                self._asked = False
                self._unanswered = 0
            if not self._asked:
                self._asked = True
                self.parent_conn.send(_READY)

    def end(self) -> None:
        """Kill it, unless it has ended, and leave no zombie."""
        self.kill()
        self.process.join()
        self.ended = time.monotonic()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        patience = _patience(self.config)
        threading.Thread(target=_end_with_parent, args=(patience,), daemon=True).start()
        starting = cast(_Starting, self._server)
        starting.ready = partial(setattr, self, "_server")
        super().target(sockets)

    def pong(self) -> None:
        """Answer one question of the supervisor: why it should have no traffic."""
        self.child_conn.recv()
        server: Any = self.server
        self.child_conn.send(server.not_ready())


def _end_with_parent(patience: float) -> None:
    """A supervisor that was killed cannot end its workers: they see it, and stop as on SIGTERM; or
    are killed, lest one that hangs keeps the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL)


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
            _tell(f"boltws: {error}\n")
            raise SystemExit(_CANNOT_START) from None
        except Exception:
            if server is not None:
                raise
            # An app that cannot be imported cannot be a second later: as uvicorn does where the
            # lifespan fails, this is the end, and not a traceback a second for ever.
            _tell(traceback.format_exc())
            raise SystemExit(_CANNOT_START) from None


def _tell(text: str) -> None:
    """In one piece, beside what the other workers say; to nobody where stderr is closed."""
    if sys.stderr is not None:
        sys.stderr.write(text)
