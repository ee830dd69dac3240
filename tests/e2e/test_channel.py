"""The event channel: order, what happens when it is full, and that its books balance."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import pytest

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Gate, Journal, ask, closed, eventually, recv
from .servers import everywhere


@everywhere
async def test_order_of_one_client(new_bolt: NewBolt, serve: Serve) -> None:
    """Handlers that await for different times still answer one client in order, one at a time."""
    bolt = new_bolt()
    dice = random.Random(1)
    active = 0
    most = 0
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    async def said(event: Event) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        for _ in range(dice.randrange(5)):
            await asyncio.sleep(0)
        event.reply(event.message)
        active -= 1

    async with serve(bolt).connect("/p") as client:
        for n in range(200):
            await client.send(f"{n}")
        assert [await recv(client) for _ in range(200)] == [f"{n}" for n in range(200)]
    assert most == 1


@everywhere
async def test_clients_do_not_wait_for_each_other(new_bolt: NewBolt, serve: Serve) -> None:
    """While one client's handler hangs, another's messages are handled."""
    bolt = new_bolt()
    gate = Gate()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    async def said(event: Event) -> None:
        if event.message == "hang":
            await gate.passed()
        event.reply(event.message)

    served = serve(bolt)
    async with served.connect("/p") as one, served.connect("/p") as two:
        await one.send("hang")
        assert await ask(two, "x") == "x"
        gate.open()
        assert await recv(one) == "hang"


class Held:
    """An endpoint whose first message holds the handler until the gate opens."""

    def __init__(self, bolt: Bolt, **options: Any) -> None:
        self.gate = Gate()
        self.seen = Journal()
        endpoint = bolt.ws("/p", **options)

        @endpoint.on_message
        async def said(event: Event) -> None:
            self.seen.note(event.message)
            if event.message == "first":
                await self.gate.passed()

        @endpoint.on_disconnect
        def left(event: Event) -> None:
            self.seen.note(event.close_code)

    async def flood(self, bolt: Bolt, client: Any, messages: list[str]) -> None:
        """Send `messages` while the first is being handled, and wait until all have come."""
        await client.send("first")
        assert await self.seen.next() == "first"
        for message in messages:
            await client.send(message)
        expected = 1 + len(messages)
        await eventually(
            lambda: bolt.stats().received == expected, lambda: f"{expected}: {bolt.stats()}"
        )


@everywhere
async def test_drop(new_bolt: NewBolt, serve: Serve) -> None:
    """A full channel drops the newest and counts it; what waits is handled."""
    bolt = new_bolt()
    held = Held(bolt, channel_capacity=3)
    async with serve(bolt).connect("/p") as client:
        await held.flood(bolt, client, [f"{n}" for n in range(10)])
        stats = bolt.stats()
        assert (stats.running, stats.waiting, stats.dropped_in) == (1, 3, {"overflow": 7})
        assert bolt.ws_dropped_count() == 7
        held.gate.open()
        assert await held.seen.take(3) == ["0", "1", "2"]
        await client.send("later")
        assert await held.seen.next() == "later"


@everywhere
async def test_drop_oldest(new_bolt: NewBolt, serve: Serve) -> None:
    """A full channel makes room for the newest."""
    bolt = new_bolt()
    held = Held(bolt, channel_capacity=3, overflow="drop_oldest")
    async with serve(bolt).connect("/p") as client:
        await held.flood(bolt, client, [f"{n}" for n in range(10)])
        assert bolt.ws_dropped_count() == 7
        held.gate.open()
        assert await held.seen.take(3) == ["7", "8", "9"]


@everywhere
async def test_overflow_close(new_bolt: NewBolt, serve: Serve) -> None:
    """A full channel ends the connection with 1013; what waits is handled before disconnect."""
    bolt = new_bolt()
    held = Held(bolt, channel_capacity=3, overflow="close")
    async with serve(bolt).connect("/p") as client:
        await client.send("first")
        assert await held.seen.next() == "first"
        for n in range(4):
            await client.send(f"{n}")
        assert (await closed(client))[0] == 1013
        held.gate.open()
    assert await held.seen.take(4) == ["0", "1", "2", 1013]
    assert bolt.ws_dropped_count() == 1
    assert bolt.stats().closed == {1013: 1}


@everywhere
@pytest.mark.parametrize("overflow", ["drop", "drop_oldest"])
async def test_bytes_count_too(new_bolt: NewBolt, serve: Serve, overflow: str) -> None:
    """The channel holds channel_bytes, whatever the number of messages; a newest that needs the
    room of several takes it."""
    bolt = new_bolt()
    held = Held(bolt, channel_bytes=1000, overflow=overflow)
    async with serve(bolt).connect("/p") as client:
        small = [f"{n}" * 300 for n in range(3)]
        await held.flood(bolt, client, [*small, "x" * 700])
        held.gate.open()
        if overflow == "drop":
            assert await held.seen.take(3) == small
            assert bolt.ws_dropped_count() == 1
        else:
            assert await held.seen.take(2) == [small[2], "x" * 700]
            assert bolt.ws_dropped_count() == 2


@everywhere
async def test_one_clients_flood_costs_no_other(new_bolt: NewBolt, serve: Serve) -> None:
    """Each client has a channel of its own: another's overflow drops none of its messages."""
    bolt = new_bolt()
    held = Held(bolt, channel_capacity=3)
    served = serve(bolt)
    async with served.connect("/p") as loud, served.connect("/p") as quiet:
        await held.flood(bolt, loud, ["loud"] * 10)
        for n in range(3):
            await quiet.send(f"quiet {n}")
        assert await held.seen.take(3) == [f"quiet {n}" for n in range(3)]
        held.gate.open()


@everywhere
async def test_pause_loses_nothing(new_bolt: NewBolt, serve: Serve) -> None:
    """A fast sender and a slow handler: TCP pushes back, and every byte arrives, in order,
    while no more than the capacity waits."""
    bolt = new_bolt()
    received = hashlib.sha256()
    most = 0
    endpoint = bolt.ws("/p", channel_capacity=4, overflow="pause")

    @endpoint.on_message
    async def said(event: Event) -> None:
        nonlocal most
        most = max(most, bolt.stats().waiting)
        if event.message == "end":
            event.reply(received.hexdigest())
        received.update(event.binary)
        await asyncio.sleep(0)

    sent = hashlib.sha256()
    dice = random.Random(2)
    async with serve(bolt).connect("/p", compression=None) as client:
        for _ in range(1000):
            message = dice.randbytes(dice.choice((0, 1, 100, 200, 5000)))
            sent.update(message)
            await client.send(message)
        assert await ask(client, "end") == sent.hexdigest()
    assert most <= 4
    assert bolt.ws_dropped_count() == 0
    assert bolt.stats().handled == 1001


@everywhere
async def test_pause_pushes_back(new_bolt: NewBolt, serve: Serve) -> None:
    """While the handler hangs, the sender cannot go on for ever; when it ends, all arrives."""
    bolt = new_bolt()
    held = Held(bolt, channel_capacity=2, overflow="pause")
    big = "x" * 2**19
    async with serve(bolt).connect("/p", compression=None) as client:
        await client.send("first")
        assert await held.seen.next() == "first"
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for _ in range(60):  # 30 MiB: more than all the buffers on the way hold
                await client.send(big)
                sent += 1

        flooding = asyncio.ensure_future(flood())
        await eventually(lambda: bolt.stats().waiting == 2)
        assert sent < 60
        assert bolt.stats().received <= 4
        held.gate.open()
        await flooding
        assert [len(message) for message in await held.seen.take(60)] == [len(big)] * 60
    assert bolt.ws_dropped_count() == 0


@everywhere
async def test_the_server_goes_while_a_paused_client_waits(new_bolt: NewBolt, serve: Serve) -> None:
    """A client that is closed while its reading is paused still ends, and its books balance."""
    bolt = new_bolt()
    held = Held(bolt, channel_capacity=2, overflow="pause")
    async with serve(bolt).connect("/p") as client:
        await client.send("first")
        assert await held.seen.next() == "first"
        for n in range(20):
            await client.send(f"{n}")
        await eventually(lambda: bolt.stats().waiting == 2)
        (client_id,) = bolt.ws_client_list()
        assert bolt.ws_close_client(client_id, 4000)
        assert await closed(client) == (4000, "")
        held.gate.open()
    entries = [await held.seen.next()]
    while entries[-1] != 4000:
        entries.append(await held.seen.next())
    assert entries[:2] == ["0", "1"]


@everywhere
async def test_rate_limit(new_bolt: NewBolt, serve: Serve) -> None:
    """Messages above rate_limit are dropped and counted, or end the connection with 1008."""
    bolt = new_bolt(rate_limit=(5, 3600))
    seen = Journal()
    bolt.ws("/drop", None, lambda event: seen.note(event.message), rate_policy="drop")
    bolt.ws("/close", None, lambda event: seen.note(event.message), rate_policy="close")
    served = serve(bolt)
    async with served.connect("/drop") as client:
        for n in range(8):
            await client.send(f"{n}")
        assert await seen.take(5) == [f"{n}" for n in range(5)]
        await eventually(lambda: bolt.stats().dropped_in == {"rate": 3})
    async with served.connect("/close") as client:
        for n in range(6):
            await client.send(f"{n}")
        assert (await closed(client))[0] == 1008
    assert len(seen.seen) == 10
    assert bolt.ws_dropped_count() == 0, "that one counts full channels"
