"""Callbacks that raise: they fail closed, are logged and counted, and no text of theirs leaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, closed, eventually, recv, refused
from .servers import everywhere

Expect = Callable[[str, str], Any]

ENDS = [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]


def raiser(style: str, error: type[BaseException] = ValueError) -> Callable[..., Any]:
    """A callback that raises: at once, after an await, or in a thread."""

    def fail(event: Event) -> None:
        if event.message != "fine":
            raise error("secret")

    async def fail_async(event: Event) -> None:
        await asyncio.sleep(0)
        fail(event)

    return fail_async if style == "async def" else fail


styles = pytest.mark.parametrize("style", ["def", "async def", "blocking"])


@everywhere
@styles
async def test_a_before_in_connect(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect, style: str
) -> None:
    """The handshake is refused with 500, and the answer says nothing of the exception."""
    logged = expect_error("boltws", "secret")
    bolt = new_bolt(blocking=style == "blocking")
    errors = on_error(bolt)
    seen = Journal()
    bolt.ws("/p", seen.note, seen.note, seen.note).before(raiser(style))
    answer = await refused(serve(bolt).connect("/p"))
    assert answer.status_code == 500
    assert b"secret" not in bytes(answer.body or b"")
    assert await errors.next() == ("connect", "ValueError('secret')")
    stats = bolt.stats()
    assert seen.seen == []
    assert (stats.connections_opened, stats.errors, stats.refused) == (0, 1, {"error": 1})
    assert len(logged) == 1


@everywhere
@styles
async def test_on_connect(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect, style: str
) -> None:
    """A raising on_connect closes the connection with 1011; disconnect runs all the same."""
    expect_error("boltws", "secret")
    bolt = new_bolt(blocking=style == "blocking")
    errors = on_error(bolt)
    ends = Journal()
    bolt.ws("/p", raiser(style), None, lambda event: ends.note(event.close_code))
    async with serve(bolt).connect("/p") as client:
        code, reason = await closed(client)
        assert code == 1011
        assert "secret" not in reason
    assert await errors.next() == ("connect", "ValueError('secret')")
    assert await ends.next() == 1011


@everywhere
@styles
async def test_on_message_keeps_the_connection(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect, style: str
) -> None:
    """Logged with client and endpoint, counted, given to on_error; what stands behind it is
    skipped, and the next message is handled."""
    logged = expect_error("boltws", "secret")
    bolt = new_bolt(blocking=style == "blocking")
    errors = on_error(bolt)
    endpoint = bolt.ws("/p/:x", lambda event: event.reply(event.client_id), raiser(style))
    endpoint.after(lambda event: event.message and event.reply(f"after {event.message}"))
    async with serve(bolt).connect("/p/1") as client:
        client_id = await recv(client)
        await client.send("raise")
        assert await ask(client, "fine") == "after fine"
        assert await errors.next() == ("message", "ValueError('secret')")
        await eventually(lambda: bolt.stats().handled == 1)
        stats = bolt.stats()
        assert (stats.failed, stats.errors) == (1, 1)
    (record,) = logged
    assert client_id in record.getMessage()
    assert "/p/:x" in record.getMessage()


@everywhere
async def test_a_before_on_a_message(new_bolt: NewBolt, serve: Serve, expect_error: Expect) -> None:
    """A raising before skips the handler: what could not be checked is not handled."""
    expect_error("boltws", "secret")
    bolt = new_bolt()
    endpoint = bolt.ws("/p", None, lambda event: event.reply(f"handled {event.message}"))

    @endpoint.on_before
    def check(event: Event) -> None:
        if event.message == "bad":
            raise ValueError("secret")

    async with serve(bolt).connect("/p") as client:
        await client.send("bad")
        assert await ask(client, "good") == "handled good"
        stats = bolt.stats()
        assert (stats.failed, stats.handled) == (1, 1)


@everywhere
@styles
async def test_error_policy_close(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect, style: str
) -> None:
    """error_policy="close" ends the connection with 1011 after a raising message callback."""
    expect_error("boltws", "secret")
    bolt = new_bolt()
    ends = Journal()
    bolt.ws(
        "/p",
        None,
        raiser(style),
        lambda event: ends.note(event.close_code),
        error_policy="close",
        blocking=style == "blocking",
    )
    async with serve(bolt).connect("/p") as client:
        await client.send("raise")
        code, reason = await closed(client)
        assert code == 1011
        assert "secret" not in reason
    assert await ends.next() == 1011


@everywhere
async def test_on_disconnect(new_bolt: NewBolt, serve: Serve, expect_error: Expect) -> None:
    """A raising on_disconnect is logged and counted, and it does not run twice."""
    expect_error("boltws", "secret")
    bolt = new_bolt()
    errors = on_error(bolt)
    bolt.ws("/p", None, None, raiser("def"))
    async with serve(bolt).connect("/p"):
        pass
    assert await errors.next() == ("disconnect", "ValueError('secret')")
    assert bolt.stats().errors == 1


@everywhere
@styles
@pytest.mark.parametrize("error", ENDS)
async def test_no_exception_ends_the_server(
    new_bolt: NewBolt,
    serve: Serve,
    expect_error: Expect,
    style: str,
    error: type[BaseException],
) -> None:
    """SystemExit, KeyboardInterrupt and cancellation out of a callback are errors of that
    callback: the connection, other clients and the server live on."""
    expect_error("boltws", error.__name__)
    bolt = new_bolt(blocking=style == "blocking")
    endpoint = bolt.ws("/p", None, raiser(style, error))
    endpoint.after(lambda event: event.message and event.reply(event.message))
    served = serve(bolt)
    async with served.connect("/p") as one, served.connect("/p") as other:
        await one.send("raise")
        assert await ask(one, "fine") == "fine"
        assert await ask(other, "fine") == "fine"
        await eventually(lambda: bolt.stats().handled == 2)
    assert bolt.stats().failed == 1


@everywhere
async def test_on_error_may_raise_itself(
    new_bolt: NewBolt, serve: Serve, expect_error: Expect
) -> None:
    """A raising on_error is logged, and does no more harm than that."""
    expect_error("boltws", "secret")
    expect_error("boltws", "worse")
    bolt = new_bolt()

    @bolt.on_error
    def report(event: Event, error: BaseException) -> None:
        raise RuntimeError("worse")

    endpoint = bolt.ws("/p", None, raiser("def"))
    endpoint.after(lambda event: event.message and event.reply(event.message))
    async with serve(bolt).connect("/p") as client:
        await client.send("raise")
        assert await ask(client, "fine") == "fine"


@everywhere
async def test_on_error_may_be_async(new_bolt: NewBolt, serve: Serve, expect_error: Expect) -> None:
    """An async on_error is awaited, and the event is still the ambient one."""
    expect_error("boltws", "secret")
    bolt = new_bolt()
    seen = Journal()

    @bolt.on_error
    async def report(event: Event, error: BaseException) -> None:
        await asyncio.sleep(0)
        seen.note(str(error), bolt.ws_client_id() == event.client_id)

    bolt.ws("/p", None, raiser("def"))
    async with serve(bolt).connect("/p") as client:
        await client.send("raise")
        assert await seen.next() == ("secret", True)


@everywhere
async def test_handler_timeout(new_bolt: NewBolt, serve: Serve, expect_error: Expect) -> None:
    """An async handler past its handler_timeout is cancelled and counted; the client lives on."""
    expect_error("boltws", "/p")
    bolt = new_bolt()
    seen = Journal()
    endpoint = bolt.ws("/p", handler_timeout=0.05)

    @endpoint.on_message
    async def said(event: Event) -> None:
        if event.message == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                seen.note("cancelled")
        event.reply(event.message)

    async with serve(bolt).connect("/p") as client:
        await client.send("hang")
        assert await ask(client, "fine") == "fine"
        assert await seen.next() == "cancelled"
        stats = bolt.stats()
        assert (stats.timed_out, stats.handled) == (1, 1)


def on_error(bolt: Bolt) -> Journal:
    """What on_error is called with."""
    errors = Journal()

    @bolt.on_error
    def report(event: Event, error: BaseException) -> None:
        errors.note(event.type, repr(error))

    return errors
