"""Every ws_* operation works from any thread, and blocks for its result."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, closed, recv
from .servers import everywhere


def in_a_thread(bolt: Bolt, client_id: str) -> dict[str, object]:
    """Each operation, called from a plain thread: what it gave."""
    assert threading.current_thread() is not threading.main_thread()
    return {
        "send": bolt.ws_send_to(client_id, "direct"),
        "binary": bolt.ws_send_binary_to(client_id, b"direct"),
        "join": bolt.ws_room_join("r", client_id),
        "members": bolt.ws_room_members("r"),
        "count": bolt.ws_room_count("r"),
        "room": bolt.ws_room_broadcast("r", "room"),
        "room binary": bolt.ws_room_broadcast_binary("r", b"room"),
        "all": bolt.ws_broadcast("all"),
        "all binary": bolt.ws_broadcast_binary(b"all"),
        "leave": bolt.ws_room_leave("r", client_id),
        "list": bolt.ws_client_list(),
        "connections": bolt.ws_connection_count(),
        "dropped": bolt.ws_dropped_count(),
        "close": bolt.ws_close_client(client_id, 4000, "from a thread"),
        "gone": bolt.ws_connection_count(),
    }


@everywhere
async def test_every_operation(new_bolt: NewBolt, serve: Serve) -> None:
    """From a thread that has no loop, each gives what it gives on the loop, in order."""
    bolt = new_bolt()
    bolt.ws("/p", lambda event: event.reply(event.client_id))
    async with serve(bolt).connect("/p") as client:
        client_id = await recv(client)
        assert await asyncio.to_thread(in_a_thread, bolt, client_id) == {
            "send": True,
            "binary": True,
            "join": True,
            "members": [client_id],
            "count": 1,
            "room": 1,
            "room binary": 1,
            "all": 1,
            "all binary": 1,
            "leave": True,
            "list": [client_id],
            "connections": 1,
            "dropped": 0,
            "close": True,
            "gone": 0,
        }
        for expected in ("direct", b"direct", "room", b"room", "all", b"all"):
            assert await recv(client) == expected
        assert await closed(client) == (4000, "from a thread")


@everywhere
async def test_errors_come_back_to_the_thread(new_bolt: NewBolt, serve: Serve) -> None:
    """A wrong argument raises where it was given."""
    bolt = new_bolt()
    bolt.ws("/p", lambda event: event.reply(event.client_id))
    async with serve(bolt).connect("/p") as client:
        client_id = await recv(client)

        def wrong() -> None:
            with pytest.raises(ValueError, match="room"):
                bolt.ws_room_join("", client_id)
            with pytest.raises(ValueError, match="close code"):
                bolt.ws_close_client(client_id, 1)
            with pytest.raises(TypeError):
                bolt.ws_send_to(client_id, 5)  # type: ignore[arg-type]

        await asyncio.to_thread(wrong)


@everywhere
async def test_blocking_callbacks(new_bolt: NewBolt, serve: Serve) -> None:
    """In a worker thread an event's own operations and the ambient ones work alike."""
    bolt = new_bolt(blocking=True)
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    def said(event: Event) -> None:
        seen.note(
            event.join("r"),
            event.rooms,
            bolt.ws_room_members("r") == [event.client_id],
            event.reply("reply"),
            bolt.ws_send_to(bolt.ws_client_id(), bolt.ws_event_message()),
            event.leave("r"),
            event.close(4000),
        )

    async with serve(bolt).connect("/p") as client:
        assert await ask(client, "x") == "reply"
        assert await recv(client) == "x"
        assert await seen.next() == (True, ("r",), True, True, True, True, True)
        assert await closed(client) == (4000, "")


@everywhere
async def test_many_threads_at_once(new_bolt: NewBolt, serve: Serve) -> None:
    """Eight threads send: nothing is lost, and what each sent stays in its order."""
    bolt = new_bolt()
    bolt.ws("/p", lambda event: event.reply(event.client_id))
    async with serve(bolt).connect("/p", compression=None) as client:
        client_id = await recv(client)

        def talk(thread: int) -> int:
            return sum(bolt.ws_send_to(client_id, f"{thread} {n}") for n in range(50))

        with ThreadPoolExecutor(8) as pool:
            loop = asyncio.get_running_loop()
            talking = [loop.run_in_executor(pool, talk, thread) for thread in range(8)]
            messages = [await recv(client) for _ in range(400)]
            assert await asyncio.gather(*talking) == [50] * 8
    for thread in range(8):
        mine = [m for m in messages if m.startswith(f"{thread} ")]
        assert mine == [f"{thread} {n}" for n in range(50)]


@everywhere
async def test_stats_from_any_thread(new_bolt: NewBolt, serve: Serve) -> None:
    """A snapshot taken in a thread balances, and does not change afterwards."""
    bolt = new_bolt()
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    async with serve(bolt).connect("/p") as client:
        before = await asyncio.to_thread(bolt.stats)
        assert await ask(client, "x") == "x"
        after = await asyncio.to_thread(bolt.stats)
        assert (before.received, after.received) == (0, 1)
        assert (before.imbalance(), after.imbalance()) == ("", "")
        assert (after.connections_now, after.connections_peak) == (1, 1)
        assert after.bytes_in > before.bytes_in
        assert after.bytes_out > before.bytes_out
