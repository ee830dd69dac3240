"""The end of a connection is always noticed, whether nats-py tells of it or not."""

from __future__ import annotations

import asyncio
import gc
import warnings
from pathlib import Path
from typing import Any

import pytest

from boltws import Bolt

from ..conftest import Errors
from ..flow import Clock, Flow, turns, turns_until
from .fleet import Fleet
from .outside import nats_server
from .wired import linked


async def test_alive() -> None:
    """While it is connected, and while nats-py tries to be again."""
    again = asyncio.Event()

    async def back() -> None:
        again.set()

    async with linked(reconnected_cb=back, max_reconnect_attempts=-1) as link:
        assert not link.is_dead
        connect, may = link._select_next_server, asyncio.Event()

        async def later() -> None:
            await may.wait()
            await connect()

        link._select_next_server = later  # type: ignore[method-assign]
        link.wire._reader.feed_eof()
        await turns_until(lambda: not link.is_connected)
        assert not link.is_dead
        may.set()
        await again.wait()
        assert not link.is_dead
    assert link.is_dead


@pytest.mark.parametrize("how", ["fails", "takes for ever"])
async def test_what_waits_cannot_be_sent(how: str) -> None:
    """The server says why it closes, and is gone before what waits is written: it has ended, and
    giving it up leaves nothing behind."""
    async with linked() as link:

        async def drain() -> None:
            if how == "fails":
                raise ConnectionResetError("reset by peer")
            await asyncio.Event().wait()

        wire: Any = link.wire
        wire.drain = drain
        wire.write = lambda data: None
        link._pending.append(b"PUB a 1\r\nx\r\n")
        link._pending_data_size = 1
        link.wire.hears(b"-ERR 'User Authentication Expired'\r\n")
        await link.ended.wait()
        assert link.is_dead
        await turns()
        await link.give_up()
        assert wire.aborted
        assert not link._pending


async def test_reconnecting_fails_unexpectedly(caplog: pytest.LogCaptureFixture) -> None:
    """A credentials file that cannot be read, say: it has ended, and says why."""
    async with linked(max_reconnect_attempts=-1) as link:

        async def unreadable() -> None:
            raise ValueError("no seed in the file")

        link._select_next_server = unreadable  # type: ignore[method-assign]
        link.wire._reader.feed_eof()
        await link.ended.wait()
        assert link.is_dead
        await asyncio.wait([link._reconnection_task])  # type: ignore[list-item]
        assert link._reconnection_task.exception() is None  # type: ignore[union-attr]
        assert "no seed in the file" in caplog.text
        await link.give_up()
        assert link.is_closed and link.wire.aborted


async def test_reading_fails_unexpectedly() -> None:
    """Connected, and nobody reads."""
    async with linked() as link:
        link._reading_task.cancel()  # type: ignore[union-attr]
        await turns_until(lambda: link.is_dead)
        assert link.is_connected
        await link.give_up()
        assert link.is_closed and link.wire.aborted


@pytest.mark.parametrize("gives_up", ["at once", "never", "with an error"])
async def test_another_takes_its_place(gives_up: str, fleet: Fleet, clock: Clock) -> None:
    """Within seconds, with all subscriptions, whatever becomes of the dead one."""
    one, two = await fleet.two()
    client = two.client("blue")
    await fleet.quiet()
    old: Any = two.link
    if gives_up == "never":
        old.give_up = asyncio.Event().wait
    elif gives_up == "with an error":
        old.give_up = None
    old.stuck = True
    await asyncio.sleep(4)
    assert two.link is not old and two.backplane.hears
    old.abort()
    one.bolt.ws_room_broadcast("blue", "x")
    await fleet.quiet()
    assert client.got == ["x"]


def test_loops_that_end_without_a_word(tmp_path: Path, logged: Errors) -> None:
    """What was connected on one is given up at the next start, in silence."""
    with nats_server(tmp_path) as address:
        bolt = Bolt(backplane=f"nats://{address}")
        bolt.ws("/p")

        async def live(last: bool) -> None:
            flow = Flow(bolt)
            await flow.runtime.connected()
            if last:
                await flow.runtime.drain()

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # nobody has closed the sockets
            for last in (False, False, True):
                asyncio.run(live(last))
                gc.collect()
    assert logged.texts() == []


async def test_a_stop_without_a_word(tmp_path: Path) -> None:
    """On a loop that lives on, nothing of it lives on."""
    with nats_server(tmp_path) as address:
        bolt = Bolt(backplane=f"nats://{address}")
        flow = Flow(bolt)
        await flow.runtime.connected()
        backplane: Any = flow.hub.remote
        link = backplane.link
        flow.runtime.stop()
        await link.ended.wait()
        await turns_until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
        assert link.is_closed
