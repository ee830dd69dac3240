"""Hostile input at full scale: too much for every run, so that a newer Python may leave it out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import resource
import socket
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.frames import Opcode

from boltws import Bolt, Event

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import PATIENCE, Journal, ask, eventually, recv
from ..e2e.servers import Served
from ..e2e.wire import Wire, frame, handshake
from .helpers import (
    bystander,
    descriptors,
    echoing,
    little_memory,
    no_descriptor_left,
    no_memory_left,
    small_socket,
    unsent,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

MIB = 2**20
MILLION = 1_000_000


# Handshakes.


def begin_all(served: Served, count: int) -> list[socket.socket]:
    """So many connections, each with the beginning of a request or nothing."""
    request = handshake(served, "/p")
    beginnings = itertools.cycle([b"", b"G", request[:40], request[:-2]])
    opened = []
    for beginning in itertools.islice(beginnings, count):
        raw = socket.create_connection(("127.0.0.1", served.port), PATIENCE)
        raw.sendall(beginning)
        opened.append(raw)
    return opened


def see_all_ended(opened: list[socket.socket]) -> None:
    """The server ends each, with or without a reset, and says nothing."""
    for raw in opened:
        with raw, contextlib.suppress(ConnectionError):
            assert raw.recv(1) == b""


async def test_5000_handshakes_that_are_never_finished(
    new_bolt: NewBolt,
    serve: Serve,
    leaving: list[Served],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Five thousand connections at once that say nothing, or half of a request: others shake
    hands meanwhile, and when their time is up they are gone with all they held; twice."""
    count = 5000
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * count + 500:
        pytest.skip("both ends are in this process, and it may not open so many descriptors")
    bolt = new_bolt(handshake_timeout=5)
    echoing(bolt)
    served = serve(bolt)
    caplog.set_level(logging.WARNING, "uvicorn.error")  # it would keep a record for each

    async def attack() -> None:
        before = descriptors()
        opened = await asyncio.to_thread(begin_all, served, count)
        await eventually(lambda: descriptors() >= before + 2 * count, "all are open at once")
        assert bolt.stats().refused.get("timeout", 0) % count == 0
        async with served.connect("/p") as client:
            assert await ask(client, "x") == "x"
        await asyncio.to_thread(see_all_ended, opened)
        opened.clear()
        await eventually(lambda: descriptors() <= before, "the server's ends are closed too")

    async with bystander(served), no_descriptor_left(leaving):
        await attack()
        async with no_memory_left(8 * MIB):
            with little_memory(128 * MIB):
                await attack()
        assert bolt.stats().refused == {"timeout": 2 * count}
        assert bolt.stats().connections_opened == 3


# Fragments.


@pytest.mark.parametrize("piece", [b"", b"x"], ids=["empty", "tiny"])
async def test_a_million_fragments_that_are_a_message(
    new_bolt: NewBolt, serve: Serve, piece: bytes, leaving: list[Served]
) -> None:
    """Where they are allowed, a million fragments are joined, and cost no more than the message:
    others are served between them."""
    bolt = new_bolt(max_fragments=MILLION + 2)
    echoing(bolt)
    served = serve(bolt)
    thousand = frame(Opcode.CONT, piece, fin=False) * 1000
    async with bystander(served), no_descriptor_left(leaving):
        async with Wire(served) as wire:
            await wire.upgrade("/p")
            async with no_memory_left(8 * MIB):
                with little_memory(16 * MIB):
                    wire.send(frame(Opcode.TEXT, b"<", fin=False))
                    for _ in range(MILLION // 1000):
                        wire.send(thousand)
                        await wire._writer.drain()
                    wire.send(frame(Opcode.CONT, b">"))
                    assert await wire.text() == f"<{piece.decode() * MILLION}>"


# Rooms.


async def test_a_million_rooms(new_bolt: NewBolt, serve: Serve, leaving: list[Served]) -> None:
    """Ten clients join a million rooms; half of them leave theirs one by one, the other half by
    their end. Others are served in between, and no room and no memory is left."""
    members, rooms, slice_ = 10, MILLION // 10, 500
    bolt = new_bolt()
    echoing(bolt)

    def move(event: Event) -> None:
        what, _, start = event.message.partition(" ")
        do: Any = {"join": event.join, "leave": event.leave}[what]
        for n in range(int(start), int(start) + slice_):
            assert do(f"{event.client_id} {n}")
        event.reply(f"{len(event.rooms)}")

    bolt.ws("/move", None, move)
    served = serve(bolt)

    async def moving(client: Any, what: str, most: int) -> None:
        for start in range(0, most, slice_):
            left = start + slice_ if what == "join" else most - start - slice_
            assert await ask(client, f"{what} {start}") == str(left)

    async def come_and_go(most: int) -> None:
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(served.connect("/move")) for _ in range(members)
            ]
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    group.create_task(moving(client, "join", most))
            assert bolt.stats().rooms == members * most
            async with asyncio.TaskGroup() as group:
                for client in clients[::2]:
                    group.create_task(moving(client, "leave", most))
            assert bolt.stats().rooms == members * most // 2
        await eventually(lambda: bolt.stats().rooms == 0)

    async with bystander(served), no_descriptor_left(leaving):
        await come_and_go(slice_)
        # They take some 400 MiB. 40 of them are the hub's table of rooms, which a dict keeps
        # until it is filled again.
        async with no_memory_left(128 * MIB):
            await come_and_go(rooms)


# Readers.

SECONDS = 60
PACE = 0.01  # seconds between two broadcasts
SIZE = 16 * 1024
LIMIT = 128 * 1024
STOPPED = 5  # of each policy


def numbered(n: int) -> str:
    return f"{n:<{SIZE}}"


async def broadcasts(served: Served, bolt: Bolt) -> tuple[int, int]:
    """A minute of them, each with its number: how many there were, and the most bytes that were
    unsent for one client at a time."""
    until = time.monotonic() + SECONDS
    n = most = 0
    while time.monotonic() < until:
        await asyncio.to_thread(bolt.ws_room_broadcast, "r", numbered(n))
        n += 1
        if n % 20 == 0:
            most = max([most, *await asyncio.to_thread(unsent, served, bolt)])
        await asyncio.sleep(PACE)
    return n, most


async def numbers(next_message: Any) -> list[int]:
    """Those that come, up to the first that is none."""
    came = []
    while (message := (await next_message()).strip()) != "end":
        came.append(int(message))
    return came


async def test_readers_that_stop_for_a_minute(
    new_bolt: NewBolt, serve: Serve, leaving: list[Served]
) -> None:
    """Members that read nothing for sixty seconds of broadcasts cost no more than their limit all
    the time, and the others miss nothing. Under "close" they are parted with, once; under "drop"
    each is there still, and what it then reads and what was counted as dropped is all there was."""
    # A stopped reader answers no ping either: the keepalive would end it at its time.
    bolt = new_bolt(ping_interval=None, send_buffer_limit=LIMIT, close_timeout=1)
    ends = Journal()
    for policy in "close", "drop":
        bolt.ws(
            f"/{policy}",
            lambda e: e.join("r"),
            None,
            lambda e: ends.note(e.close_code),
            slow_consumer=policy,
        )
    bolt.ws("/read", lambda e: e.join("r"))
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served), no_descriptor_left(leaving), AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(served.connect("/read")) for _ in range(3)]
        for _ in range(STOPPED):
            raw = stack.enter_context(small_socket(served))
            raw.sendall(handshake(served, "/close"))
        sleepers = [await stack.enter_async_context(served.deaf("/drop")) for _ in range(STOPPED)]
        await eventually(lambda: bolt.ws_room_count("r") == 3 + 2 * STOPPED)
        reading = [asyncio.create_task(numbers(lambda r=r: recv(r))) for r in readers]
        with little_memory(2 * STOPPED * LIMIT + 16 * MIB):
            sent, most = await broadcasts(served, bolt)
        assert most <= LIMIT + 2 * SIZE
        assert await ends.take(STOPPED) == [1013] * STOPPED
        assert bolt.ws_room_count("r") == 3 + STOPPED
        assert bolt.stats().slow_clients == STOPPED
        waking = [asyncio.create_task(numbers(lambda s=s: recv(s))) for s in sleepers]
        await eventually(lambda: bolt.stats().slow_clients == 0)
        assert await asyncio.to_thread(bolt.ws_room_broadcast, "r", "end") == 3 + STOPPED
        for task in reading:
            assert await task == list(range(sent))
        got = [await task for task in waking]
        assert all(came == sorted(set(came)) for came in got)
        dropped = bolt.stats().dropped_out["slow"] - STOPPED  # one for each that was closed
        assert sum(map(len, got)) + dropped == STOPPED * sent
        assert min(sent - len(came) for came in got) > 0
    assert bolt.stats().closed[1013] == STOPPED
