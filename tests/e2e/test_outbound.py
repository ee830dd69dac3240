"""Sending to those who do not read: slow clients, and that nobody else notices."""

from __future__ import annotations

import asyncio
from typing import Any

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, closed, eventually, recv
from .servers import everywhere

CHUNK = b"x" * 2**16
PLENTY = 1000
"""Chunks that no buffers of the system hold: 64 MiB."""


def room(bolt: Bolt, **options: Any) -> Journal:
    """An endpoint whose clients are members of "r" or, at /other, of no limit's concern."""
    seen = Journal()
    bolt.ws(
        "/slow",
        lambda event: (event.join("r"), seen.note("connect", event.client_id)),
        lambda event: event.reply(event.message),
        lambda event: seen.note("disconnect", event.close_code),
        send_buffer_limit=2**16,
        **options,
    )
    bolt.ws("/other", lambda event: event.join("r"), lambda event: event.reply(event.message))
    return seen


def broadcast_until(bolt: Bolt, fewer_than: int) -> int:
    """Broadcast to "r" until the call says that somebody did not take it; how many did before."""
    for sent in range(PLENTY):
        if bolt.ws_room_broadcast_binary("r", CHUNK) < fewer_than:
            return sent
    raise AssertionError("a client that does not read never became slow")


class Reader:
    """A member that reads all the time."""

    def __init__(self, client: Any) -> None:
        self.chunks = 0
        self._task = asyncio.ensure_future(self._read(client))

    async def _read(self, client: Any) -> None:
        async for message in client:
            self.chunks += len(message) >= len(CHUNK)

    async def got(self, chunks: int) -> None:
        await eventually(lambda: self.chunks == chunks, lambda: f"{chunks}, {self.chunks} came")


@everywhere
async def test_slow_consumer_close(new_bolt: NewBolt, serve: Serve) -> None:
    """A member that does not read is parted with, 1013; the broadcast that found it out says so,
    it is counted, and the other member misses nothing."""
    bolt = new_bolt(slow_consumer="close", close_timeout=0.2)
    seen = room(bolt)
    served = serve(bolt)
    async with served.deaf("/slow") as deaf, served.connect("/other") as other:
        assert (await seen.next())[0] == "connect"
        reader = Reader(other)
        await eventually(lambda: bolt.ws_room_count("r") == 2)
        sent = await asyncio.to_thread(broadcast_until, bolt, 2)
        assert await seen.next() == ("disconnect", 1013)
        assert bolt.ws_room_count("r") == 1
        assert bolt.ws_room_broadcast_binary("r", CHUNK) == 1
        await reader.got(sent + 2)
        stats = bolt.stats()
        assert stats.closed == {1013: 1}
        assert stats.dropped_out == {"slow": 1}
        assert stats.slow_clients == 0
        deaf.transport.abort()


@everywhere
async def test_slow_consumer_drop(new_bolt: NewBolt, serve: Serve) -> None:
    """With "drop" it stays and misses what it could not take, each counted; what it took arrives
    in order, and when it has read up it is served again."""
    bolt = new_bolt(slow_consumer="drop")
    seen = room(bolt)
    served = serve(bolt)

    def flood() -> tuple[list[int], int]:
        """Broadcast numbers until ten were not taken: which were, and how many in all."""
        taken: list[int] = []
        for n in range(PLENTY):
            if bolt.ws_room_broadcast_binary("r", f"{n:9}".encode() + CHUNK) == 2:
                taken.append(n)
            if n + 1 - len(taken) == 10:
                return taken, n + 1
        raise AssertionError("a client that does not read never became slow")

    async with served.deaf("/slow") as deaf, served.connect("/other") as other:
        _, deaf_id = await seen.next()
        reader = Reader(other)
        await eventually(lambda: bolt.ws_room_count("r") == 2)
        taken, count = await asyncio.to_thread(flood)
        await reader.got(count)
        stats = bolt.stats()
        assert stats.dropped_out == {"slow": 10}
        assert stats.closed == {}
        for n in taken:
            assert (await recv(deaf))[:9] == f"{n:9}".encode()
        await eventually(lambda: bolt.stats().slow_clients == 0)
        assert bolt.ws_send_to(deaf_id, "back") is True
        assert await recv(deaf) == "back"


@everywhere
async def test_a_direct_send_says_that_it_was_not_taken(new_bolt: NewBolt, serve: Serve) -> None:
    """ws_send_to returns False for a slow client, and parts with it."""
    bolt = new_bolt(close_timeout=0.2)
    seen = room(bolt)
    served = serve(bolt)
    async with served.deaf("/slow") as deaf:
        _, deaf_id = await seen.next()

        def flood() -> int:
            for sent in range(PLENTY):
                if not bolt.ws_send_binary_to(deaf_id, CHUNK):
                    return sent
            raise AssertionError("never slow")

        assert await asyncio.to_thread(flood) > 0
        assert await seen.next() == ("disconnect", 1013)
        assert bolt.ws_send_to(deaf_id, "x") is False
        assert bolt.stats().dropped_out == {"slow": 1, "no_client": 1}
        deaf.transport.abort()


@everywhere
async def test_a_burst_in_one_turn(new_bolt: NewBolt, serve: Serve) -> None:
    """Within one turn nothing drains, so a burst may go to eight times send_buffer_limit: a
    client that reads gets all of it, and is not parted with."""
    bolt = new_bolt()
    endpoint = bolt.ws("/p", send_buffer_limit=2**16)
    chunk = b"x" * 2**13

    @endpoint.on_message
    def said(event: Event) -> None:
        taken = sum(event.reply(chunk) for _ in range(50))  # 400 KiB of at most 512
        event.reply(f"{taken}")

    async with serve(bolt).connect("/p", compression=None) as client:
        await client.send("go")
        for _ in range(50):
            assert await recv(client) == chunk
        assert await recv(client) == "50"
        await eventually(lambda: bolt.stats().slow_clients == 0)


@everywhere
async def test_the_cap_on_a_burst(new_bolt: NewBolt, serve: Serve) -> None:
    """Above eight times the limit even a burst is cut, and each call says so."""
    bolt = new_bolt()
    endpoint = bolt.ws("/p", send_buffer_limit=2**14, slow_consumer="drop")
    taken = Journal()

    @endpoint.on_message
    def said(event: Event) -> None:
        taken.note(sum(event.reply(CHUNK) for _ in range(200)))  # 12.5 MiB

    served = serve(bolt)
    async with served.deaf("/p") as client:
        await client.send("go")
        count = await taken.next()
        assert count < 200
        assert bolt.stats().dropped_out == {"slow": 200 - count}
        for _ in range(count):
            assert await recv(client) == CHUNK


@everywhere
async def test_drain(new_bolt: NewBolt, serve: Serve) -> None:
    """ws_drain lets an async handler send any amount to one client without loss: it waits while
    the client is slow, and tells whether it is still there."""
    bolt = new_bolt(slow_consumer="drop")
    endpoint = bolt.ws("/p", send_buffer_limit=2**16)
    total = 300  # 18.75 MiB
    waits = Journal()

    @endpoint.on_message
    async def said(event: Event) -> None:
        for _ in range(total):
            assert event.reply(CHUNK)
            if bolt.stats().slow_clients:
                waits.note("slow")
            await bolt.ws_drain(event.client_id)
        event.reply("all sent")

    served = serve(bolt)
    async with served.deaf("/p") as client:
        await client.send("go")
        assert await waits.next() == "slow"
        for _ in range(total):
            assert await recv(client) == CHUNK
        assert await recv(client) == "all sent"
    assert bolt.stats().dropped_out == {}


@everywhere
async def test_drain_of_a_client_that_goes(new_bolt: NewBolt, serve: Serve) -> None:
    """Whoever waits for a slow client is let go when the client is."""
    bolt = new_bolt(slow_consumer="drop")
    seen = Journal()
    endpoint = bolt.ws("/p", send_buffer_limit=2**16)

    @endpoint.on_message
    async def said(event: Event) -> None:
        while await bolt.ws_drain(event.client_id):
            event.reply(CHUNK)
            if bolt.stats().slow_clients:
                seen.note("slow")
        seen.note("gone")

    served = serve(bolt)
    async with served.deaf("/p") as client:
        await client.send("go")
        assert await seen.next() == "slow"
        await eventually(lambda: bolt.stats().slow_clients == 1)
        client.transport.abort()
    while (entry := await seen.next()) != "gone":
        assert entry == "slow"


@everywhere
async def test_drain_is_for_the_loop(new_bolt: NewBolt, serve: Serve) -> None:
    """On another loop ws_drain raises instead of waiting for what cannot wake it."""
    bolt = new_bolt()
    seen = room(bolt)
    async with serve(bolt).connect("/slow") as client:
        _, client_id = await seen.next()
        try:
            await bolt.ws_drain(client_id)
        except RuntimeError as error:
            assert "loop" in str(error)
        else:
            raise AssertionError("it did not raise")
        assert await ask(client, "x") == "x"


@everywhere
async def test_a_slow_client_closes_by_itself(new_bolt: NewBolt, serve: Serve) -> None:
    """A slow client that goes away leaves nothing behind."""
    bolt = new_bolt(slow_consumer="drop")
    seen = room(bolt)
    served = serve(bolt)
    async with served.deaf("/slow") as deaf:
        await seen.next()
        await eventually(lambda: not bolt.ws_room_broadcast_binary("r", CHUNK))
        deaf.transport.abort()
    assert (await seen.next())[0] == "disconnect"
    assert bolt.stats().slow_clients == 0


@everywhere
async def test_the_close_of_a_client_that_reads_late(new_bolt: NewBolt, serve: Serve) -> None:
    """What was taken before the close arrives before it."""
    bolt = new_bolt()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    def said(event: Event) -> None:
        for _ in range(10):
            event.reply(CHUNK)
        event.close(4000, "that was all")

    served = serve(bolt)
    async with served.deaf("/p") as client:
        await client.send("go")
        for _ in range(10):
            assert await recv(client) == CHUNK
        assert await closed(client) == (4000, "that was all")
