"""The supervisor of many workers stands still for none of them."""

from __future__ import annotations

import logging
import signal
from types import SimpleNamespace

import pytest
import uvicorn
from uvicorn.supervisors import multiprocess

from boltws.server import supervisor
from boltws.server.supervisor import Supervisor, _Worker

CANNOT_START = 3
DEADLINE = 5  # seconds that a server gets to end


class Fake(_Worker):
    """A worker without a process: it does what a test says."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.code: int | None = None
        self.answer: str | None = ""
        self.told_to_end = False
        self.began = supervisor.time.monotonic()
        self.ended = None
        self.state = self.told = "starting"
        self._unanswered = 0

    pid = property(lambda self: self.number)
    exitcode = property(lambda self: self.code)

    def start(self) -> None:
        """There is nothing to start."""

    def look(self) -> None:
        self._unanswered += 1
        if self.code is None and self.answer is not None:
            self.state, self._unanswered = self.answer, 0

    def terminate(self) -> None:
        self.told_to_end = True

    def end(self) -> None:
        self.code = -signal.SIGKILL if self.code is None else self.code
        self.ended = supervisor.time.monotonic()


class Fleet(Supervisor):
    """A supervisor of such workers, whose clock the test has."""

    def __init__(self, workers: int) -> None:
        self.now = 1000.0
        self.made: list[Fake] = []
        self.answer = ""  # of those that are started from now on
        super().__init__(
            uvicorn.Config(
                "app:app", workers=workers, log_config=None, timeout_graceful_shutdown=DEADLINE
            ),
            [],
        )

    def make(self, config: uvicorn.Config, sockets: list[object]) -> Fake:
        self.made.append(Fake(len(self.made)))
        self.made[-1].answer = self.answer
        return self.made[-1]

    def tick(self, times: int = 1) -> None:
        """What uvicorn does every half second."""
        for _ in range(times):
            self.now += 0.5
            self.handle_signals()
            self.keep_subprocess_alive()

    @property
    def numbers(self) -> list[int | None]:
        return [worker.pid for worker in self.processes]


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setattr(multiprocess, "SIGNALS", {signal.SIGHUP: "HUP", signal.SIGTTOU: "TTOU"})
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    made = Fleet(2)
    monkeypatch.setattr(multiprocess, "Process", made.make)
    clock = SimpleNamespace(monotonic=lambda: made.now, sleep=lambda seconds: made.tick())
    monkeypatch.setattr(supervisor, "time", clock)
    made.init_processes()
    made.tick()
    return made


def test_a_rolling_restart_replaces_all_one_by_one(fleet: Fleet) -> None:
    """The new one serves before the old one is told to end, and the next waits for that end."""
    fleet.signal_queue.append(signal.SIGHUP)
    fleet.tick()
    assert fleet.numbers == [0, 1] and len(fleet.made) == 3
    fleet.tick()
    assert fleet.numbers == [2, 1] and fleet.made[0].told_to_end
    fleet.tick(3)
    assert len(fleet.made) == 3, "the first one has not ended"
    fleet.made[0].code = 0
    fleet.tick(2)
    assert fleet.numbers == [2, 3] and fleet.made[1].told_to_end
    fleet.made[1].code = 0
    fleet.tick(5)
    assert fleet.numbers == [2, 3] and len(fleet.made) == 4


def test_a_worker_that_does_not_end_holds_nothing_up(fleet: Fleet) -> None:
    """One whose event loop is blocked: meanwhile others that die are replaced; it is killed when
    its time is up, and the restart goes on."""
    fleet.signal_queue.append(signal.SIGHUP)
    fleet.tick(2)
    hangs = fleet.made[0]
    fleet.made[1].code = -signal.SIGKILL
    fleet.tick(2)
    assert fleet.numbers == [2, 3] and hangs.exitcode is None
    fleet.tick(2 * (DEADLINE + 30))
    assert hangs.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("restarting", [False, True])
def test_the_end_does_not_wait_for_ever(fleet: Fleet, restarting: bool) -> None:
    """A worker that hangs is killed at the end too, in the middle of a restart or not."""
    if restarting:
        fleet.answer = "starting"
        fleet.signal_queue.append(signal.SIGHUP)
        fleet.tick()
    fleet.should_exit.set()
    fleet.terminate_all()
    fleet.join_all()
    assert len(fleet.made) == 2 + restarting
    assert all(worker.told_to_end and worker.exitcode is not None for worker in fleet.made)


def test_a_new_worker_that_cannot_start_ends_the_restart(fleet: Fleet) -> None:
    """The others serve on, and another restart may be tried."""
    fleet.signal_queue.append(signal.SIGHUP)
    fleet.tick()
    fleet.made[2].code = CANNOT_START
    fleet.tick(9)
    assert fleet.numbers == [0, 1] and len(fleet.made) == 3
    assert not fleet.should_exit.is_set()
    fleet.signal_queue.append(signal.SIGHUP)
    fleet.tick(2)
    assert fleet.numbers == [3, 1]


def test_a_new_worker_that_is_not_there_in_time_ends_the_restart(fleet: Fleet) -> None:
    """The old ones stay."""
    fleet.answer = "starting"
    fleet.signal_queue.append(signal.SIGHUP)
    fleet.tick(70)
    assert fleet.numbers == [0, 1] and fleet.made[2].exitcode is not None


def test_one_that_cannot_start_does_not_end_those_that_serve(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    """The database, say, or NATS is away when a dead worker is replaced: it is tried again, after
    a pause, and the clients of the others notice nothing."""
    fleet.answer = "starting"
    fleet.made[0].code = -signal.SIGKILL
    with caplog.at_level(logging.WARNING, "uvicorn.error"):
        fleet.tick()
    assert "[0] has ended (SIGKILL)" in caplog.text
    fleet.made[2].code = CANNOT_START
    fleet.tick()
    assert not fleet.should_exit.is_set() and not fleet.failed
    assert fleet.numbers == [2, 1], "it is started anew without a pause"
    fleet.tick(5)
    assert fleet.numbers == [3, 1]


def test_where_none_serves_one_that_cannot_start_is_the_end(fleet: Fleet) -> None:
    """Whoever started it is told by its exit status."""
    fleet.answer = "starting"
    fleet.made[0].code = fleet.made[1].code = -signal.SIGKILL
    fleet.tick()
    fleet.made[2].code = CANNOT_START
    fleet.tick()
    assert fleet.failed and fleet.should_exit.is_set()


def test_a_worker_that_does_not_answer_is_replaced(fleet: Fleet) -> None:
    """It may be stopped, or hold the interpreter's lock."""
    fleet.made[0].answer = None
    fleet.tick(50)
    assert fleet.numbers == [0, 1]
    fleet.tick(15)
    assert fleet.numbers == [2, 1] and fleet.made[0].exitcode == -signal.SIGKILL


def test_sigttou_does_not_wait_for_the_worker_that_goes(fleet: Fleet) -> None:
    """And never takes the last one."""
    fleet.signal_queue += [signal.SIGTTOU, signal.SIGTTOU]
    fleet.tick(3)
    assert fleet.numbers == [0] and fleet.made[1].told_to_end


def test_a_worker_that_hangs_does_not_outlive_its_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The supervisor was killed: SIGTERM is for those that can still heed it, and no other may
    keep the port."""
    did: list[object] = []
    parent = SimpleNamespace(join=lambda: did.append("the supervisor is gone"))
    monkeypatch.setattr("multiprocessing.parent_process", lambda: parent)
    monkeypatch.setattr("os.kill", lambda pid, number: did.append(number))
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(sleep=did.append))
    supervisor._end_with_parent(35)
    assert did == ["the supervisor is gone", signal.SIGTERM, 35, signal.SIGKILL]
