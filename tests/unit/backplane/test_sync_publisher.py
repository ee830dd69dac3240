"""The blocking publisher: from threads, after a fork, at the end of a script."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from boltws.backplane.publisher import Publisher
from boltws.backplane.sync_publisher import SyncPublisher
from boltws.errors import BackplaneError

from .outside import PATIENCE, Ear, ear, nats_server
from .test_publisher import CALLS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as address:
        yield f"nats://{address}"


@pytest.fixture
async def heard(url: str) -> AsyncIterator[Ear]:
    async with ear(url) as listening:
        yield listening


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Every test leaves no thread of a publisher behind."""
    yield
    assert [t for t in threading.enumerate() if t.name == "boltws-publisher"] == []


@pytest.mark.parametrize("name", sorted({name for name, *_ in CALLS} | {"flush", "close"}))
def test_the_same_names(name: str) -> None:
    """It has the async publisher's methods, with the same parameters, and its docstrings."""
    mine, theirs = getattr(SyncPublisher, name), getattr(Publisher, name)
    assert inspect.signature(mine) == inspect.signature(theirs)
    assert mine.__doc__


async def test_what_goes_out(url: str, heard: Ear) -> None:
    """The same as from the async one. In a coroutine it works too, though it blocks."""
    with SyncPublisher(url) as publisher:
        for name, arguments, expected in CALLS:
            if any(isinstance(argument, Iterator) for argument in arguments):
                continue  # read by the other test
            assert getattr(publisher, name)(*arguments) is None
            assert await heard.next() == expected


async def test_threads(url: str, heard: Ear) -> None:
    """Any number of threads share one connection; each one's messages stay in order."""
    with SyncPublisher(url) as publisher, ThreadPoolExecutor(8) as pool:

        def work(worker: int) -> None:
            for number in range(50):
                publisher.broadcast(f"{worker} {number}")

        list(pool.map(work, range(8)))
        publisher.flush()
    numbers: dict[str, list[int]] = {}
    for _ in range(8 * 50):
        worker, number = (await heard.next()).payload.split()
        numbers.setdefault(worker.decode(), []).append(int(number))
    assert all(found == list(range(50)) for found in numbers.values()) and len(numbers) == 8


def test_errors_come_to_the_caller() -> None:
    """Of a message and of the connection, as they are."""
    publisher = SyncPublisher("nats://127.0.0.1:1")
    with pytest.raises(TypeError, match="a text message"):
        publisher.broadcast(5)  # type: ignore[arg-type]
    with pytest.raises(BackplaneError, match="refused"):
        publisher.broadcast("m")
    with pytest.raises(BackplaneError, match="refused"):
        publisher.__enter__()
    publisher.close()
    publisher.close()
    with pytest.raises(BackplaneError, match="^the publisher is closed$"):
        publisher.broadcast("m")


def test_never_used(url: str) -> None:
    """Made and closed: no thread, no connection. What is wrong with a URL is told at once."""
    SyncPublisher(url).close()
    assert repr(SyncPublisher("nats://secret@host")) == "<SyncPublisher nats://host:4222>"
    with pytest.raises(ValueError, match="begins with nats://"):
        SyncPublisher("http://host")


def test_closed_while_others_wait() -> None:
    """A call that waits in another thread is not left waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publisher = SyncPublisher(f"nats://127.0.0.1:{silent.getsockname()[1]}", connect_timeout=1)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(publisher.broadcast, "m")
            silent.accept()[0].close()
            publisher.close()
            with pytest.raises(BackplaneError):
                call.result(PATIENCE)


def test_forgotten(url: str) -> None:
    """One that nobody holds any more ends its thread."""
    publisher = SyncPublisher(url)
    publisher.broadcast("m")
    thread = publisher._thread
    assert thread is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its socket was not closed
        del publisher
        thread.join(PATIENCE)
        gc.collect()
    assert not thread.is_alive()


FORK = """
import os, sys, threading
from boltws.backplane.sync_publisher import SyncPublisher
publisher = SyncPublisher(sys.argv[1])
publisher.broadcast("parent before")
publisher.flush()
publisher._lock.acquire()  # as another thread may hold it at the fork
child = os.fork()
if child:
    publisher._lock.release()
    status = os.waitpid(child, 0)[1]
    publisher.broadcast("parent after")
    publisher.flush()
    sys.exit(status)
publisher.broadcast("child")
publisher.close()
"""

FORK_WITHOUT_THE_ARGUMENTS = """
import os, sys
from boltws.backplane.sync_publisher import SyncPublisher
url, file = sys.argv[1:]
os.environ["BOLTWS_BACKPLANE"] = url
publisher, other = SyncPublisher(), SyncPublisher(url, creds=file)
publisher.broadcast("parent")
publisher.flush()
del os.environ["BOLTWS_BACKPLANE"]
os.unlink(file)
child = os.fork()
if child:
    sys.exit(os.waitpid(child, 0)[1])
publisher.broadcast("child")
publisher.close()
"""

SCRIPT = """
import sys
from boltws.backplane.sync_publisher import SyncPublisher
publisher = SyncPublisher(sys.argv[1])
publisher.broadcast("from a script")
"""


def run(source: str, *arguments: str) -> None:
    """Run a script: it succeeds and says nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", source, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.stderr, done.stdout, done.returncode) == ("", "", 0)


async def test_a_fork(url: str, heard: Ear) -> None:
    """Celery's prefork: used before the fork, it connects anew in the child, and the parent's
    connection takes no harm."""
    await asyncio.to_thread(run, FORK, url)
    said = [(await heard.next()).payload for _ in range(3)]
    assert said == [b"parent before", b"child", b"parent after"]
    assert heard.silent


async def test_a_fork_without_the_arguments(url: str, heard: Ear, tmp_path: Path) -> None:
    """The variable that named the server, and a file, are gone by then: they are not read again."""
    file = tmp_path / "user.creds"
    file.write_text("a secret")
    await asyncio.to_thread(run, FORK_WITHOUT_THE_ARGUMENTS, url, str(file))
    assert [(await heard.next()).payload for _ in range(2)] == [b"parent", b"child"]


async def test_a_script_that_just_ends(url: str, heard: Ear) -> None:
    """No close: it ends in silence and does not hang. The message had left the process."""
    await asyncio.to_thread(run, SCRIPT, url)
    assert (await heard.next()).payload == b"from a script"


async def test_ctrl_c() -> None:
    """A call that waits can be interrupted."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = SCRIPT.replace("sys.argv[1])", "sys.argv[1], connect_timeout=1000)")
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", source, url, stderr=asyncio.subprocess.PIPE
        )
        connection, _ = await asyncio.to_thread(silent.accept)
        with connection:
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                _, said = await process.communicate()
        assert said.rstrip().endswith(b"KeyboardInterrupt")
