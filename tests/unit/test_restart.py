"""A second life: on the loop of the first, or after a loop that ended without a word."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio.client import connect

from boltws import Bolt, Event
from boltws.request import Address
from boltws.server.run import bind, build_server

from .conftest import Errors
from .flow import Flow, turns, turns_until


@pytest.mark.parametrize("busy_with", ["message", "disconnect", "nothing"])
def test_a_disconnect_is_handled_on_the_next_loop(busy_with: str, logged: Errors) -> None:
    """The client had left when the first loop ended: its disconnect runs once, or had begun."""
    bolt = Bolt()
    seen: list[str] = []

    def note(event: Event) -> Any:
        seen.append(event.type)
        return asyncio.Event().wait() if event.type == busy_with else None

    bolt.ws("/p", None, note, note)

    async def first() -> None:
        client = Flow(bolt).connect()
        client.says("x")
        await turns()
        client.vanish()
        if busy_with != "nothing":
            await turns()
        for task in asyncio.all_tasks():  # what hangs here ends in silence
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def second() -> None:
        flow = Flow(bolt)
        await turns_until(lambda: not flow.hub.ending)
        assert not flow.hub.closing
        await flow.end()

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(first())
        asyncio.run(second())
        assert seen == ["message", "disconnect"]
        stats = bolt.stats()
        assert (stats.running, stats.closing, stats.imbalance()) == (0, 0, "")


def test_addresses_and_handshakes_are_counted_anew() -> None:
    """What was counted on the first loop does not count on the second, nor is taken off there."""
    bolt = Bolt(max_connections_per_address=2)
    bolt.ws("/p")
    peer = {"client": ("203.0.113.7", 1)}
    address = Address("203.0.113.7", 1)
    handshakes: list[Any] = []

    async def first() -> None:
        flow = Flow(bolt)
        flow.connect("/p", **peer)
        task = asyncio.current_task()
        assert task is not None
        handshakes.append(flow.runtime.handshake(task, address))
        handshakes[0].__enter__()

    async def second() -> None:
        flow = Flow(bolt)
        assert not flow.runtime.handshakes
        handshakes[0].__exit__(None, None, None)
        for full in (False, False, True):
            flow.hub.addresses.add(address.host)  # type: ignore[union-attr]
            assert flow.runtime.is_full(address) is full
        await flow.end()

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(first())
        asyncio.run(second())


async def test_two_servers_in_a_row_on_one_loop() -> None:
    """Mounted without a lifespan: what refuses handshakes during a shutdown is over with it."""
    bolt = Bolt()
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    app = Starlette(routes=[Mount("/live", bolt)])
    for text in ("one", "two"):
        server = build_server(app, port=0, log_level="warning", access_log=False)
        sockets = bind(server.config)
        port = sockets[0].getsockname()[1]
        serving = asyncio.ensure_future(server.serve(sockets=sockets))
        while not server.started:
            await asyncio.sleep(0.001)
        async with connect(f"ws://127.0.0.1:{port}/live/p", proxy=None) as client:
            await client.send(text)
            assert await client.recv() == text
        server.should_exit = True
        await serving
    assert bolt.stats().connections_opened == 2
