"""Peers that break off, fall silent, stop to read or do not take leave."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import Any, Literal

import pytest
from websockets.frames import Opcode

from boltws import Bolt

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import Journal, eventually
from ..e2e.servers import Served
from ..e2e.wire import Wire, close, frame, handshake, text
from .helpers import bystander, echoing, no_descriptor_left, reset, small_socket, unsent

WHOLE = text("x" * 1000)
BREAKS = {
    "in a header": WHOLE[:1],
    "behind the length": WHOLE[:4],
    "in the mask": WHOLE[:6],
    "in the payload": WHOLE[:500],
    "between fragments": frame(Opcode.TEXT, b"x", fin=False),
    "in a ping": frame(Opcode.PING, b"x" * 100)[:50],
    "in a close": close(1000, "bye")[:7],
    "behind messages": WHOLE * 100 + WHOLE[:50],
}


async def test_resets_half_way_through_a_frame(
    new_bolt: NewBolt, serve: Serve, leaving: list[Served]
) -> None:
    """A thousand connections are reset in the middle of something: each has its disconnect,
    1006, and none leaves anything behind."""
    bolt = new_bolt()
    ends = Journal()
    bolt.ws("/p", None, lambda e: e.reply(e.message), lambda e: ends.note(e.close_code))
    gone = Journal()
    bolt.ws("/reset", lambda e: e.join("r"), None, lambda e: gone.note(e.close_code))
    served = serve(bolt)
    breaks = list(BREAKS.values())

    async def break_off(n: int) -> None:
        async with Wire(served) as wire:
            data = breaks[n % len(breaks)]
            if n % 2:
                wire.send(handshake(served, "/reset"), data)  # reset while it shakes hands
                await wire.head()
            else:
                await wire.upgrade("/reset")
                wire.send(frame(Opcode.PING))
                assert (await wire.frame()).opcode is Opcode.PONG
                wire.send(data)
            reset(wire)

    async with bystander(served), no_descriptor_left(leaving):
        for start in range(0, 1000, 20):
            async with asyncio.TaskGroup() as group:
                for n in range(start, start + 20):
                    group.create_task(break_off(n))
        assert await gone.take(1000) == [1006] * 1000
        assert bolt.ws_room_count("r") == 0
    assert bolt.stats().closed == {1006: 1000, 1000: 1}


async def test_resets_during_the_handshake(
    new_bolt: NewBolt, serve: Serve, leaving: list[Served]
) -> None:
    """Connections that are reset while their handshake comes or is decided are no clients, or
    clients that are gone at once."""
    bolt = new_bolt()
    echoing(bolt)
    slow = bolt.ws("/slow")

    @slow.on_before
    async def wait(event: Any) -> None:
        for _ in range(random.randrange(20)):
            await asyncio.sleep(0)

    served = serve(bolt)

    async def break_off(n: int) -> None:
        async with Wire(served) as wire:
            request = handshake(served, "/slow") + text("x")
            wire.send(request[: len(request) * n // 100])
            for _ in range(n % 7):
                await asyncio.sleep(0)
            reset(wire)

    async with bystander(served), no_descriptor_left(leaving):
        async with asyncio.TaskGroup() as group:
            for n in range(1, 101):
                group.create_task(break_off(n))
    stats = bolt.stats()
    assert set(stats.refused) <= {"gone"}
    assert stats.closed.keys() <= {1000, 1006}


@pytest.mark.parametrize("policy", ["close", "drop"])
async def test_readers_that_stop(
    new_bolt: NewBolt, serve: Serve, policy: Literal["close", "drop"], leaving: list[Served]
) -> None:
    """Members that stop to read, while much is broadcast: what the server keeps for each stays
    about its limit, and everybody else misses no message."""
    limit, size, count = 2**15, 2**12, 600
    bolt = new_bolt(close_timeout=0.3)
    bolt.ws("/stop", lambda e: e.join("r"), send_buffer_limit=limit, slow_consumer=policy)
    bolt.ws("/read", lambda e: e.join("r"))
    echoing(bolt)
    served = serve(bolt)

    async def read(member: Any) -> int:
        got = 0
        while (await member.recv())[:3] != b"end":
            got += 1
        return got

    async with bystander(served), no_descriptor_left(leaving), AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(served.connect("/read")) for _ in range(3)]
        stopped = [small_socket(served) for _ in range(5)]
        for raw in stopped:
            stack.callback(raw.close)
            raw.sendall(handshake(served, "/stop"))
        await eventually(lambda: bolt.ws_room_count("r") == 8)
        reading = [asyncio.create_task(read(reader)) for reader in readers]
        most = sent = 0
        # More than the system's own buffers hold for a peer that does not read.
        for _ in range(20):
            sent += count
            for _ in range(count):
                await asyncio.to_thread(bolt.ws_room_broadcast_binary, "r", bytes(size))
            most = max([most, *await asyncio.to_thread(unsent, served, bolt)])
            if bolt.stats().dropped_out.get("slow", 0) >= 5:
                break
        await asyncio.to_thread(bolt.ws_room_broadcast_binary, "r", b"end")
        async with asyncio.timeout(10):
            assert [await task for task in reading] == [sent] * 3
        assert most <= limit + 2 * size
        assert bolt.stats().dropped_out["slow"] >= 5
        if policy == "close":
            assert bolt.stats().closed[1013] == 5


@pytest.mark.parametrize("held_up", [False, True], ids=["silent", "silent and full"])
async def test_half_dead_peers(
    new_bolt: NewBolt, serve: Serve, held_up: bool, leaving: list[Served]
) -> None:
    """Peers whose machine is gone say nothing, not even that: pinged in vain, they are parted
    with, also where much is unsent; who answers stays."""
    bolt = new_bolt(ping_interval=0.1, ping_timeout=0.1, close_timeout=60)
    echoing(bolt)
    ends = Journal()
    bolt.ws("/dead", None, None, lambda e: ends.note(e.close_code), slow_consumer="drop")
    served = serve(bolt)

    def fill() -> None:
        for client_id in bolt.ws_client_list()[1:]:
            for _ in range(500):
                if not bolt.ws_send_binary_to(client_id, bytes(2**16)):
                    break
            else:
                raise AssertionError("never full")

    async with bystander(served), no_descriptor_left(leaving):
        dead = [small_socket(served) for _ in range(5 if held_up else 30)]
        for raw in dead:
            raw.sendall(handshake(served, "/dead"))
        await eventually(lambda: bolt.stats().connections_opened == len(dead) + 1)
        if held_up:
            await asyncio.to_thread(fill)
        assert await ends.take(len(dead)) == [1011] * len(dead)
        await eventually(lambda: bolt.stats().closing == 0, "their sockets are gone")
        for raw in dead:
            raw.close()
    assert bolt.stats().slow_clients == 0


@pytest.mark.parametrize("peer", ["silent", "talking", "not reading"])
async def test_closes_that_are_never_answered(
    new_bolt: NewBolt, serve: Serve, peer: str, leaving: list[Served]
) -> None:
    """Peers that do not answer the close, whatever else they do, are aborted at close_timeout."""
    bolt = new_bolt(close_timeout=0.2)
    echoing(bolt)
    ends = Journal()
    bolt.ws("/stay", None, None, lambda e: ends.note(e.close_code), slow_consumer="drop")
    served = serve(bolt)

    async def stay(wire: Wire) -> None:
        try:
            while True:
                if peer == "talking":
                    wire.send(text("I stay"), frame(Opcode.PING))
                await asyncio.sleep(0.01)
                if not (peer == "not reading" or await wire._reader.read(2**16)):
                    return
        except ConnectionError:
            pass

    def close_all() -> None:
        for client_id in bolt.ws_client_list()[1:]:
            if peer == "not reading":
                while bolt.ws_send_binary_to(client_id, bytes(2**18)):
                    pass
            bolt.ws_close_client(client_id, 4000)

    async with bystander(served), no_descriptor_left(leaving), AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire(served)) for _ in range(10)]
        for wire in wires:
            await wire.upgrade("/stay")
        await eventually(lambda: bolt.stats().connections_opened == 11)
        staying = [asyncio.create_task(stay(wire)) for wire in wires]
        await asyncio.to_thread(close_all)
        assert await ends.take(10) == [4000] * 10
        await eventually(lambda: bolt.stats().closing == 0, "aborted")
        for task in staying:
            if peer == "not reading":
                task.cancel()
        await asyncio.wait(staying)


async def test_both_close_at_once(new_bolt: NewBolt, serve: Serve, leaving: list[Served]) -> None:
    """Closes that cross: one of the two codes holds, disconnect runs once, the connection ends."""
    bolt = new_bolt()
    echoing(bolt)
    ends = Journal()
    bolt.ws("/both", None, None, lambda e: ends.note(e.close_code))
    served = serve(bolt)

    async def cross(n: int) -> None:
        async with Wire(served) as wire:
            await wire.upgrade("/both")
            client_id = bolt.ws_client_list()[-1]
            ours = asyncio.create_task(asyncio.to_thread(bolt.ws_close_client, client_id, 4000))
            for _ in range(n % 5):
                await asyncio.sleep(0)
            wire.send(close(4001))
            was_ours = await ours
            code = await ends.next()
            assert code == (4000 if was_ours else 4001)
            assert (await wire.closing())[0] == code
            assert await wire.end() == b""

    async with bystander(served), no_descriptor_left(leaving):
        for n in range(40):
            await cross(n)
    assert len(ends.seen) == 40


async def test_members_that_leave_during_broadcasts(
    new_bolt: NewBolt, serve: Serve, leaving: list[Served]
) -> None:
    """Members come, go and are reset while there are broadcasts: those who stay get them all, in
    order, and the room is empty in the end."""
    bolt = new_bolt()
    bolt.ws("/r", lambda e: e.join("r"), lambda e: e.leave("r"))
    echoing(bolt)
    served = serve(bolt)
    done = asyncio.Event()

    async def leave(n: int) -> None:
        while not done.is_set():
            async with Wire(served) as wire:
                await wire.upgrade("/r")
                await wire.frame()
                [reset, Wire.abort, leave_the_room, say_goodbye][n % 4](wire)

    async def stay(bolt: Bolt, until: str) -> list[str]:
        async with served.connect("/r") as client:
            came = [str(await client.recv())]
            while came[-1] != until:
                came.append(str(await client.recv()))
            return came

    async with bystander(served), no_descriptor_left(leaving):
        staying = [asyncio.create_task(stay(bolt, "1500")) for _ in range(3)]
        await eventually(lambda: bolt.ws_room_count("r") == 3)
        restless = [asyncio.create_task(leave(n)) for n in range(12)]
        for n in range(1500):
            await asyncio.to_thread(bolt.ws_room_broadcast, "r", f"{n}")
        done.set()
        while not all(task.done() for task in restless):
            await asyncio.to_thread(bolt.ws_room_broadcast, "r", "1499.5")
        for leaver in restless:
            leaver.result()
        await asyncio.to_thread(bolt.ws_room_broadcast, "r", "1500")
        for task in staying:
            came = await task
            assert [x for x in came if x != "1499.5"] == [f"{n}" for n in range(1501)]
    assert bolt.stats().connections_opened > 30


def leave_the_room(wire: Wire) -> None:
    wire.send(text("leave"))


def say_goodbye(wire: Wire) -> None:
    wire.send(close())
