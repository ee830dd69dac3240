"""Abort: in a before it skips the rest of the pipeline; elsewhere it raises."""

from __future__ import annotations

import asyncio

import pytest

from boltws import Bolt, Event, NotAborting

from .conftest import Errors
from .flow import Start

styles = pytest.mark.parametrize("style", ["def", "async def", "blocking"])


def on_error(bolt: Bolt) -> list[type[BaseException]]:
    """The kinds of errors that on_error is called with."""
    seen: list[type[BaseException]] = []
    bolt.on_error(lambda event, error: seen.append(type(error)))
    return seen


@styles
async def test_abort_in_a_before(start: Start, style: str) -> None:
    """The rest of the pipeline is skipped and the message counted as aborted: no error."""
    seen: list[str] = []
    bolt = Bolt(blocking=style == "blocking")

    def check(event: Event) -> None:
        if event.message == "unauthorized":
            bolt.ws_event_abort()

    async def check_async(event: Event) -> None:
        await asyncio.sleep(0)
        check(event)

    chat = bolt.ws("/p", None, lambda event: seen.append(event.message))
    chat.before(check_async if style == "async def" else check)
    chat.before(lambda event: seen.append("second before"))
    chat.after(lambda event: seen.append("after " + event.type))
    client = start(bolt).connect()
    client.says("unauthorized", "fine")
    await client.quiet()
    assert seen == ["after connect", "second before", "fine", "after message"]
    stats = bolt.stats()
    assert (stats.aborted, stats.handled, stats.failed, stats.errors) == (1, 1, 0, 0)


@styles
@pytest.mark.parametrize("where", ["handler", "after"])
async def test_abort_elsewhere(start: Start, logged: Errors, style: str, where: str) -> None:
    """In a handler or an after it raises, which is an error like any other."""
    bolt = Bolt(blocking=style == "blocking")
    errors = on_error(bolt)

    def abort(event: Event) -> None:
        if event.type == "message":
            bolt.ws_event_abort()

    async def abort_async(event: Event) -> None:
        await asyncio.sleep(0)
        abort(event)

    callback = abort_async if style == "async def" else abort
    chat = bolt.ws("/p", None, callback if where == "handler" else None)
    chat.before(lambda: None)
    if where == "after":
        chat.after(callback)
    client = start(bolt).connect()
    client.says("x")
    await client.quiet()
    assert errors == [NotAborting]
    assert (bolt.stats().failed, bolt.stats().aborted) == (1, 0)


@pytest.mark.parametrize("where", ["on_connect", "on_disconnect"])
async def test_abort_in_the_other_handlers(start: Start, logged: Errors, where: str) -> None:
    """They are no befores either."""
    bolt = Bolt()
    errors = on_error(bolt)
    getattr(bolt.ws("/p"), where)(lambda event: event.abort())
    client = start(bolt).connect()
    client.leaves()
    await client.over.wait()
    assert errors == [NotAborting]


async def test_abort_of_a_disconnect(start: Start) -> None:
    """A before may skip `on_disconnect`; the client is over all the same."""
    seen: list[str] = []
    bolt = Bolt()
    chat = bolt.ws("/p", None, None, lambda: seen.append("left")).before(
        lambda event: event.abort()
    )
    chat.after(lambda event: seen.append(event.type))
    client = start(bolt).connect()
    client.leaves()
    await client.over.wait()
    assert seen == ["connect"]
    assert bolt.stats().aborted == 0  # those are messages
