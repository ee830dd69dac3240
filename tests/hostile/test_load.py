"""More than a server is made for: connections, messages, rooms, and handlers that do not end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Literal

import pytest

from boltws import Bolt, Event

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import Gate, Journal, ask, closed, eventually
from ..e2e.servers import Served
from ..e2e.wire import Wire, handshake, text
from .helpers import Flood, bystander, echoing, no_descriptor_left, resident

Expect = Callable[[str, str], list[logging.LogRecord]]
MIB = 2**20


class Crowd:
    """Handshakes that all come at once: who was let in, and how the others were answered."""

    def __init__(self) -> None:
        self.inside = 0
        self.refused: list[tuple[int, str]] = []
        self.leave = asyncio.Event()

    async def come(self, served: Served, **headers: str) -> None:
        async with Wire(served) as wire:
            wire.send(handshake(served, "/crowd", **headers))
            status, answer = await wire.head()
            if status == 101:
                self.inside += 1
                await self.leave.wait()
            else:
                assert answer["connection"] == "close"
                self.refused.append((status, answer["retry-after"]))


def crowded(bolt: Bolt) -> None:
    """An endpoint whose handshakes take a few turns: those in progress count as well."""

    async def ponder(event: Event) -> None:
        if event.type == "connect":
            await asyncio.sleep(0.01)

    bolt.ws("/crowd").on_before(ponder)


async def test_more_than_max_connections(
    new_bolt: NewBolt, serve: Serve, leaving: list[Served]
) -> None:
    """A hundred at once where ten fit: ten are in, the others are told to come again, and when
    the ten have gone there is room."""
    bolt = new_bolt(max_connections=11)
    echoing(bolt)
    crowded(bolt)
    served = serve(bolt)
    async with bystander(served), no_descriptor_left(leaving):
        for again in (1, 2):
            crowd = Crowd()
            async with asyncio.TaskGroup() as group:
                for _ in range(100):
                    group.create_task(crowd.come(served))
                await eventually(lambda c=crowd: c.inside + len(c.refused) == 100)  # type: ignore[misc]
                assert crowd.inside == 10
                assert crowd.refused == [(503, "1")] * 90
                crowd.leave.set()
            await eventually(lambda: bolt.stats().connections_now == 1)
            assert bolt.stats().refused == {"limit": 90 * again}
    assert bolt.stats().connections_peak == 11


@pytest.mark.parametrize("proxied", [False, True], ids=["spoofed", "proxied"])
async def test_more_than_one_address_may_have(
    new_bolt: NewBolt, serve: Serve, proxied: bool, leaving: list[Served]
) -> None:
    """The limit is the socket's address's, whatever an untrusted peer says of itself; behind a
    trusted proxy it is that of the last address the proxy vouches for."""
    trusted = ["127.0.0.1"] if proxied else ["10.0.0.0/8"]
    bolt = new_bolt(max_connections_per_address=5, trusted_proxies=trusted)
    echoing(bolt)
    crowded(bolt)
    served = serve(bolt)
    async with AsyncExitStack() as stack:
        if proxied:  # else it would be one of the five
            await stack.enter_async_context(bystander(served))
        await stack.enter_async_context(no_descriptor_left(leaving))
        crowd = Crowd()
        async with asyncio.TaskGroup() as group:
            for n in range(40):
                # Two addresses as the proxy sees them; what stands before them is made up.
                hops = f"203.0.113.{n}, 198.51.100.{n % 2}"
                group.create_task(crowd.come(served, x_forwarded_for=hops))
            await eventually(lambda: crowd.inside + len(crowd.refused) == 40)
            assert crowd.inside == (10 if proxied else 5)
            assert set(crowd.refused) == {(503, "1")}
            crowd.leave.set()
        await eventually(lambda: bolt.stats().connections_now == int(proxied))
        async with served.connect("/p") as client:  # the addresses are free again
            assert await ask(client, "x") == "x"


@pytest.mark.parametrize("policy", ["drop", "close"])
async def test_a_flood_of_messages(
    new_bolt: NewBolt, serve: Serve, policy: Literal["drop", "close"], leaving: list[Served]
) -> None:
    """Of 50,000 messages at once, as many are handled as may be; the others are counted, or end
    the connection with 1008."""
    bolt = new_bolt()
    echoing(bolt)
    ends = Journal()
    bolt.ws(
        "/flood",
        None,
        None,
        lambda e: ends.note(e.close_code),
        rate_limit=(100, 3600),
        rate_policy=policy,
    )
    served = serve(bolt)
    async with bystander(served), no_descriptor_left(leaving):
        before = bolt.stats().handled
        async with Wire(served) as wire:
            await wire.upgrade("/flood")
            wire.send(text("x") * 50_000)
            if policy == "drop":
                await eventually(lambda: bolt.stats().dropped_in.get("rate", 0) == 49_900)
            else:
                assert (await wire.closing())[0] == 1008
        assert await ends.next() == (1006 if policy == "drop" else 1008)
        assert bolt.stats().handled >= before + 100
    if policy == "close":
        assert bolt.stats().dropped_in["rate"] == 1


async def test_a_flood_that_is_slowed_down(new_bolt: NewBolt, serve: Serve) -> None:
    """Under "pause" a flood is handled at its pace and no message is lost; the rest stays with
    the peer, not in the server's memory."""
    bolt = new_bolt()
    echoing(bolt)
    seen = Journal()
    bolt.ws("/flood", None, lambda e: seen.note(e.message[:4]), rate_limit=(200, 0.5))
    served = serve(bolt)
    async with bystander(served):
        base = resident()
        flood = Flood(served, text("x" * 10_000), 10_000, "/flood")  # a hundred megabytes
        assert await seen.take(250) == ["xxxx"] * 250
        assert flood.thread.is_alive() and flood.sent < 50 * MIB
        stats = bolt.stats()
        assert stats.waiting <= 1 and not stats.dropped_in
        assert stats.bytes_in < 32 * MIB
        assert resident() - base < 16 * MIB
        flood.end()


async def test_handlers_that_hang(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect, leaving: list[Served]
) -> None:
    """Fifty clients whose handlers never end: each is cancelled at handler_timeout and counted,
    and all of them are served again behind it."""
    bolt = new_bolt()
    echoing(bolt)

    async def hang(event: Event) -> None:
        if event.message == "hang":
            await asyncio.Event().wait()
        event.reply(event.message)

    bolt.ws("/hang", None, hang, handler_timeout=0.05)
    served = serve(bolt)
    expect_error("boltws", "message callback of /hang raised")
    async with bystander(served), no_descriptor_left(leaving), AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(Wire(served)) for _ in range(50)]
        for wire in wires:
            await wire.upgrade("/hang", text("hang"), text("hang"), text("well"))
        for wire in wires:
            assert await wire.text() == "well"
        stats = bolt.stats()
        assert (stats.timed_out, stats.errors, stats.failed) == (100, 100, 0)


async def test_clients_that_leave_hanging_handlers(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect, leaving: list[Served]
) -> None:
    """Who leaves while its handler hangs is not kept for ever: the timeout ends it."""
    bolt = new_bolt()
    echoing(bolt)
    ends = Journal()

    async def hang(event: Event) -> None:
        await asyncio.Event().wait()

    bolt.ws("/hang", None, hang, lambda e: ends.note(e.close_code), handler_timeout=0.2)
    served = serve(bolt)
    expect_error("boltws", "message callback of /hang raised")
    async with bystander(served), no_descriptor_left(leaving):
        for _ in range(30):
            async with Wire(served) as wire:
                await wire.upgrade("/hang", text("hang"))
        assert await ends.take(30) == [1006] * 30
    assert bolt.stats().timed_out == 30


async def test_threads_that_hang(new_bolt: NewBolt, serve: Serve, expect_error: Expect) -> None:
    """A blocking handler cannot be stopped: its client is closed with 1011 and counted; others
    have the threads that are left, and its disconnect waits for its thread."""
    bolt = new_bolt(blocking_threads=4, close_timeout=1)
    echoing(bolt)
    gate, ends = Gate(), Journal()

    def work(event: Event) -> None:
        if event.message == "hang":
            gate.wait()
        event.reply(event.message)

    bolt.ws(
        "/thread",
        None,
        work,
        lambda e: ends.note(e.close_code),
        blocking=True,
        handler_timeout=0.1,
    )
    served = serve(bolt)
    expect_error("boltws", "message callback of /thread raised")
    async with bystander(served), AsyncExitStack() as stack:
        hanging = [await stack.enter_async_context(served.connect("/thread")) for _ in range(3)]
        well = await stack.enter_async_context(served.connect("/thread"))
        for client in hanging:
            await client.send("hang")
        for client in hanging:
            assert (await closed(client))[0] == 1011
        assert await ask(well, "x") == "x"
        assert ends.seen == []
        gate.open()
        assert await ends.take(3) == [1011] * 3
        assert bolt.stats().timed_out == 3


async def test_handlers_that_raise(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect, leaving: list[Served]
) -> None:
    """Two thousand messages whose handler raises are two thousand that failed, no more."""
    bolt = new_bolt()
    echoing(bolt)

    def fail(event: Event) -> None:
        if event.message == "last":
            event.reply("still here")
        else:
            raise ValueError(event.message)

    bolt.ws("/fail", None, fail)
    served = serve(bolt)
    expect_error("boltws", "message callback of /fail raised")
    async with bystander(served), no_descriptor_left(leaving):
        for _ in range(10):
            async with Wire(served) as wire:
                await wire.upgrade("/fail", *[text("x")] * 200, text("last"))
                assert await wire.text() == "still here"
    stats = bolt.stats()
    assert (stats.failed, stats.errors) == (2000, 2000)
    assert stats.closed.get(1011, 0) == 0


@pytest.mark.parametrize("how", ["leave", "disconnect"])
async def test_20_000_rooms(new_bolt: NewBolt, serve: Serve, how: str) -> None:
    """A client that joins twenty thousand rooms and leaves them, one by one or by its end, again
    and again, leaves no room and no memory behind."""
    bolt = new_bolt()
    echoing(bolt)

    def move(event: Event) -> None:
        which: Any = {"join": event.join, "leave": event.leave}.get(event.message)
        if which is not None:
            for n in range(20_000):
                assert which(f"{event.client_id} {n}")
        event.reply(f"{bolt.stats().rooms}")

    bolt.ws("/move", None, move)
    served = serve(bolt)

    async def round_trip() -> None:
        async with served.connect("/move") as client:
            assert await ask(client, "join") == "20000"
            if how == "leave":
                assert await ask(client, "leave") == "0"
        await eventually(lambda: bolt.stats().rooms == 0)

    async with bystander(served):
        await round_trip()
        base = resident()
        for _ in range(4):
            await round_trip()
        # One round's rooms take some ten megabytes; four of them would show.
        assert resident() - base < 8 * MIB
