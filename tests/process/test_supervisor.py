"""What the supervisor of many workers knows of them."""

from __future__ import annotations

import contextlib
import os
from typing import NoReturn

import pytest
import uvicorn

from boltws.server.supervisor import _Worker

from .harness import PATIENCE

pytestmark = pytest.mark.slow


def die() -> NoReturn:
    """What a worker runs in place of a server."""
    os._exit(1)


def test_the_death_of_a_worker_is_an_answer() -> None:
    """One that dies with a question unanswered ends the wait for it: the supervisor would stand
    still meanwhile, and replace no other."""
    worker = _Worker(die, uvicorn.Config("app:app", log_config=None), [])
    worker.start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            worker.parent_conn.send(b"ping")
            assert worker.parent_conn.poll(PATIENCE), "the pipe outlives the worker"
            worker.parent_conn.recv()
    worker.process.join(PATIENCE)
    assert not worker.is_alive() and worker.exitcode == 1
