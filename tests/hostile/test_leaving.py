"""Clients that disconnect inside every await of every callback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from boltws import Bolt, Event

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import Gate, Journal, eventually
from ..e2e.servers import Served
from ..e2e.wire import Wire, close, handshake, text
from .helpers import bystander, echoing, no_descriptor_left, reset

STAGES = [
    "before connect",
    "connect",
    "after connect",
    "before message",
    "message",
    "after message",
    "before disconnect",
    "disconnect",
    "after disconnect",
]

WAYS: dict[str, Callable[[Wire], None]] = {
    "reset": reset,
    "abort": Wire.abort,
    "end": lambda wire: wire._writer.write_eof(),
    "close": lambda wire: wire.send(close(1000)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stage", STAGES)
async def test_a_client_that_leaves(
    new_bolt: NewBolt, serve: Serve, stage: str, way: str, leaving: list[Served]
) -> None:
    """It leaves while the callback of `stage` awaits: what was begun is ended, nothing that needs
    the client raises, disconnect is the last and runs once; who left before the 101 never was a
    client."""
    bolt = new_bolt(close_timeout=1)
    echoing(bolt)
    reached, seen, gate = Journal(), Journal(), Gate()

    async def at(name: str, event: Event) -> None:
        """Note it; wait where it is the stage that is asked for; then use the client."""
        if name == stage:
            reached.note(name)
            await gate.passed()
        if name != "before connect":
            event.reply("are you there?")
            event.join("r")
            await asyncio.sleep(0)
            event.leave("r")
        seen.note(name)

    endpoint = bolt.ws("/x")
    endpoint.on_before(lambda event: at(f"before {event.type}", event))
    endpoint.on_after(lambda event: at(f"after {event.type}", event))
    endpoint.on_connect(lambda event: at("connect", event))
    endpoint.on_message(lambda event: at("message", event))
    endpoint.on_disconnect(lambda event: at("disconnect", event))
    served = serve(bolt)

    async with bystander(served), no_descriptor_left(leaving):
        async with Wire(served) as wire:
            # Whoever is to leave in the disconnect goes twice: the first time is why it runs.
            wire.send(handshake(served, "/x"), text("hello"))
            if stage.endswith("disconnect"):
                wire.send(close(1000))
            assert await reached.next() == stage
            WAYS[way](wire)
            if stage != "before connect" or way in ("reset", "abort"):
                assert await gone(wire)
        gate.open()
        if stage == "before connect":
            await settled(bolt)
        if bolt.stats().connections_opened > 1:
            while await seen.next() != "after disconnect":
                pass
    if "after disconnect" in seen.seen:
        assert seen.seen.count("disconnect") == 1
        assert seen.seen[-1] == "after disconnect"
        connected = 2
    else:
        assert bolt.stats().refused == {"gone": 1}
        assert seen.seen == ["before connect"]
        connected = 1
    stats = bolt.stats()
    assert stats.connections_opened == connected
    assert (stats.errors, stats.failed, stats.rooms) == (0, 0, 0)


async def gone(wire: Wire) -> bool:
    """The peer's side of the connection is over, as far as it can see."""
    if wire._writer.transport.is_closing():
        return True
    try:
        await wire.end()
    except ConnectionError:
        pass
    return True


async def settled(bolt: Bolt) -> None:
    """The handshake has come to its end, in whatever way."""
    await eventually(lambda: bool(bolt.stats().refused) or bolt.stats().connections_opened > 1)
