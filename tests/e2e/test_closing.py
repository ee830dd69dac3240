"""How connections end: codes and reasons both ways, and exactly one disconnect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Gate, Journal, ask, closed, eventually, recv
from .servers import Kind, everywhere, ours

GOOD_CODES = [1000, 1001, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
BAD_CODES = [0, 999, 1002, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, -1, True, "1000", None]


def noted(bolt: Bolt) -> Journal:
    """An endpoint that tells each client its id, and notes how it ended."""
    ends = Journal()
    bolt.ws(
        "/p",
        lambda event: event.reply(event.client_id),
        lambda event: event.reply(event.message),
        lambda event: ends.note(event.close_code, event.close_reason),
    )
    return ends


@everywhere
async def test_the_client_closes(new_bolt: NewBolt, serve: Serve, kind: Kind) -> None:
    """disconnect tells the peer's code and reason, as far as the server passes them on."""
    bolt = new_bolt()
    ends = noted(bolt)
    served = serve(bolt)
    for code, reason in [(1000, ""), (1001, "going"), (3000, "\N{SNOWMAN}"), (4999, "x" * 123)]:
        async with served.connect("/p") as client:
            await recv(client)
            await client.close(code, reason)
        expected = (code if kind.tells_code else 1006, reason if kind.tells_reason else "")
        assert await ends.next() == expected


@ours
async def test_the_client_gives_no_code(new_bolt: NewBolt, serve: Serve) -> None:
    """An empty close frame is 1005, a lost connection 1006: for the event and in the ledger."""
    bolt = new_bolt()
    ends = noted(bolt)
    served = serve(bolt)
    async with served.connect("/p") as client:
        await recv(client)
        client.protocol.send_close()
        client.send_data()
        await client.wait_closed()
    assert await ends.next() == (1005, "")
    async with served.connect("/p") as client:
        await recv(client)
        client.transport.abort()
    assert await ends.next() == (1006, "")
    await eventually(lambda: bolt.stats().closed == {1005: 1, 1006: 1})


@everywhere
async def test_a_lost_connection(new_bolt: NewBolt, serve: Serve) -> None:
    """A connection that just ends has its disconnect like any other."""
    bolt = new_bolt()
    ends = noted(bolt)
    async with serve(bolt).connect("/p") as client:
        await recv(client)
        client.transport.abort()
    code, reason = await ends.next()
    assert code in (1005, 1006)  # uvicorn and granian say 1005 of it
    assert reason == ""


@everywhere
async def test_the_server_closes(new_bolt: NewBolt, serve: Serve) -> None:
    """Code and reason reach the client and the disconnect event; then the client is unknown."""
    bolt = new_bolt()
    ends = noted(bolt)
    served = serve(bolt)
    for code, reason in [(1000, ""), (1001, "going"), (4999, "\N{SNOWMAN}" * 41)]:
        async with served.connect("/p") as client:
            client_id = await recv(client)
            assert bolt.ws_close_client(client_id, code, reason) is True
            assert await closed(client) == (code, reason)
            assert bolt.ws_close_client(client_id, code, reason) is False
        assert await ends.next() == (code, reason)
    assert bolt.ws_close_client("nobody") is False


@everywhere
async def test_event_close(new_bolt: NewBolt, serve: Serve) -> None:
    """A handler closes its own connection; at once it is off the lists and takes nothing more."""
    bolt = new_bolt()
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    def said(event: Event) -> None:
        event.join("room")
        event.reply("last")
        seen.note(event.close(4001, "enough"))
        seen.note(event.close(), event.reply("late"), bolt.ws_connection_count())
        seen.note(bolt.ws_room_count("room"), event.rooms)

    @endpoint.on_disconnect
    def left(event: Event) -> None:
        seen.note(event.close_code, event.close_reason)

    async with serve(bolt).connect("/p") as client:
        assert await ask(client, "x") == "last"
        assert await closed(client) == (4001, "enough")
    assert await seen.take(4) == [
        True,
        (False, False, 0),
        (0, ("room",)),
        (4001, "enough"),
    ]


@everywhere
async def test_codes_that_may_be_sent(new_bolt: NewBolt, serve: Serve) -> None:
    """Each code that a server may send is sent; any other raises and closes nothing."""
    bolt = new_bolt()
    ends = noted(bolt)
    served = serve(bolt)
    async with served.connect("/p") as client:
        client_id = await recv(client)
        for bad in BAD_CODES:
            wrong: Any = bad
            with pytest.raises(ValueError, match="close code"):
                bolt.ws_close_client(client_id, wrong)
        for reason in ["x" * 124, "\N{SNOWMAN}" * 42]:
            with pytest.raises(ValueError, match="123"):
                bolt.ws_close_client(client_id, 1000, reason)
        with pytest.raises(ValueError, match="close code"):
            bolt.ws_close_client("nobody", 1)
        assert await ask(client, "still here") == "still here"
        await client.close()
    await ends.next()
    for code in GOOD_CODES:
        async with served.connect("/p") as client:
            assert bolt.ws_close_client(await recv(client), code)
            assert (await closed(client))[0] == code
    assert [code for code, _ in await ends.take(len(GOOD_CODES))] == GOOD_CODES


@everywhere
async def test_disconnect_is_the_last(new_bolt: NewBolt, serve: Serve) -> None:
    """What came before the close is handled first, in order; then disconnect, once."""
    bolt = new_bolt()
    gate = Gate()
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_connect
    async def came(event: Event) -> None:
        seen.note("connect")
        await gate.passed()

    @endpoint.on_message
    async def said(event: Event) -> None:
        seen.note(event.message, bolt.ws_connection_count())

    @endpoint.on_disconnect
    async def left(event: Event) -> None:
        seen.note("disconnect")

    async with serve(bolt).connect("/p") as client:
        for n in range(5):
            await client.send(f"{n}")
        assert await seen.next() == "connect"
        closing = asyncio.ensure_future(client.close())  # granian ends it when the app has
        await eventually(lambda: bolt.stats().connections_now == 0)
        gate.open()
        await closing
    assert await seen.take(6) == [*((f"{n}", 0) for n in range(5)), "disconnect"]
    await eventually(lambda: bolt.stats().waiting == bolt.stats().running == 0)
    assert seen.seen.count("disconnect") == 1


@everywhere
async def test_messages_behind_the_servers_close(new_bolt: NewBolt, serve: Serve) -> None:
    """What was waiting when the server closed is handled; what came afterwards is not."""
    bolt = new_bolt()
    gate = Gate()
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_message
    async def said(event: Event) -> None:
        seen.note(event.message)
        await gate.passed()

    @endpoint.on_disconnect
    def left(event: Event) -> None:
        seen.note("disconnect")

    async with serve(bolt).connect("/p") as client:
        await client.send("running")
        assert await seen.next() == "running"
        await client.send("waiting")
        await eventually(lambda: bolt.stats().waiting == 1)
        (client_id,) = bolt.ws_client_list()
        assert bolt.ws_close_client(client_id, 4000)
        gate.open()
        assert await closed(client) == (4000, "")
    assert await seen.take(2) == ["waiting", "disconnect"]
    assert bolt.stats().closed == {4000: 1}
