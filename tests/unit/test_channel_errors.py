"""Callbacks that raise: an error is that of its callback, and of nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from boltws import Bolt, ConfigurationError, Event, NotAborting

from .conftest import Errors
from .flow import Flow, Journal, Start, turns

ENDS = [ValueError, SystemExit, KeyboardInterrupt, asyncio.CancelledError]
STYLES = ["def", "async def", "blocking"]

styles = pytest.mark.parametrize("style", STYLES)


def raiser(
    style: str, error: type[BaseException] = ValueError, unless: str = "fine"
) -> Callable[..., Any]:
    """A callback that raises: at once, after an await, or (on a blocking endpoint) in a thread."""

    def fail(event: Event) -> None:
        if event.message != unless:
            raise error("secret")

    async def fail_async(event: Event) -> None:
        await asyncio.sleep(0)
        fail(event)

    return fail_async if style == "async def" else fail


def on_error(bolt: Bolt) -> list[Any]:
    """What on_error is called with."""
    seen: list[Any] = []

    @bolt.on_error
    def report(event: Event, error: BaseException) -> None:
        seen.append((event.type, event.message, bolt.ws_client_id() == event.client_id, error))

    return seen


@styles
@pytest.mark.parametrize("error", ENDS)
async def test_a_message_handler(
    start: Start, logged: Errors, style: str, error: type[BaseException]
) -> None:
    """It is counted, logged with client and endpoint, and given to on_error; the connection and
    what waits behind live on. SystemExit and its like are errors as well."""
    bolt = Bolt(blocking=style == "blocking")
    errors = on_error(bolt)
    bolt.ws("/p/{x}", None, raiser(style, error))
    client = start(bolt).connect("/p/1")
    client.says("bad", "fine", "worse", "fine")
    await client.quiet()
    stats = bolt.stats()
    assert (stats.failed, stats.handled, stats.errors, stats.running) == (2, 2, 2, 0)
    assert client.closes == []
    assert client.frames == []
    assert [(kind, text, ambient) for kind, text, ambient, _ in errors] == [
        ("message", "bad", True),
        ("message", "worse", True),
    ]
    assert all(type(given) is error and given.args == ("secret",) for *_, given in errors)
    assert len(logged.records) == 2
    for text in logged.texts():
        assert client.id in text
        assert "/p/{x}" in text
        assert "secret" in text
    client.leaves()
    await client.over.wait()


@styles
async def test_generator_exit(start: Start, logged: Errors, style: str) -> None:
    """It ends a coroutine in silence, and is an error here like any other, whether its message was
    handled at once or waited: the client goes on, and its `disconnect` runs."""
    seen: list[str] = []
    fail = raiser(style, GeneratorExit)

    def said(event: Event) -> Any:
        seen.append(event.message)
        return asyncio.sleep(0) if event.message == "fine" else fail(event)

    bolt = Bolt(blocking=style == "blocking")
    chat = bolt.ws("/p", None, said)
    chat.on_disconnect(lambda event: seen.append(event.type))
    client = start(bolt).connect()
    client.says("bad", "fine", "bad", "fine")
    await client.quiet()
    client.leaves()
    await client.over.wait()
    assert seen == ["bad", "fine", "bad", "fine", "disconnect"]
    assert (bolt.stats().failed, bolt.stats().handled, bolt.stats().errors) == (2, 2, 2)


@styles
@pytest.mark.parametrize("error", ENDS)
async def test_on_connect(
    start: Start, logged: Errors, style: str, error: type[BaseException]
) -> None:
    """Who could not be connected is closed with 1011, and no text of the exception goes out; what
    had come is handled, and `disconnect` runs."""
    seen: list[Any] = []
    bolt = Bolt(blocking=style == "blocking")
    errors = on_error(bolt)
    bolt.ws("/p", raiser(style, error), lambda event: seen.append(event.message))
    bolt._runtime.endpoints[0].on_disconnect(lambda event: seen.append(event.close_code))
    client = start(bolt).connect()
    client.says("x")
    await client.over.wait()
    assert client.closes == [(1011, "handler error")]
    assert (seen[-1], seen.count(1011)) == (1011, 1)
    assert [kind for kind, *_ in errors] == ["connect"]
    stats = bolt.stats()
    assert (stats.errors, stats.failed, stats.closed) == (1, 0, {1011: 1})


@styles
@pytest.mark.parametrize("error", ENDS)
async def test_on_disconnect(
    start: Start, logged: Errors, style: str, error: type[BaseException]
) -> None:
    """It is logged and counted; the client is over, and its `disconnect` does not run again."""
    bolt = Bolt(blocking=style == "blocking")
    errors = on_error(bolt)
    bolt.ws("/p", None, None, raiser(style, error))
    client = start(bolt).connect()
    client.leaves()
    await client.over.wait()
    await turns()
    assert [kind for kind, *_ in errors] == ["disconnect"]
    stats = bolt.stats()
    assert (stats.errors, stats.failed, stats.closed) == (1, 0, {1000: 1})


@styles
@pytest.mark.parametrize("where", ["before", "bolt's before", "after", "bolt's after"])
async def test_middleware(start: Start, logged: Errors, style: str, where: str) -> None:
    """A raising before skips the handler: what could not be checked is not handled. After the
    handler the message has failed all the same."""
    seen: list[str] = []
    bolt = Bolt(blocking=style == "blocking")
    chat = bolt.ws("/p", None, lambda event: seen.append(event.message))
    place = bolt if where.startswith("bolt's") else chat
    getattr(place, "before" if where.endswith("before") else "after")(
        lambda event: raiser(style)(event) if event.type == "message" else None
    )
    client = start(bolt).connect()
    client.says("bad", "fine")
    await client.quiet()
    assert seen == (["fine"] if "before" in where else ["bad", "fine"])
    stats = bolt.stats()
    assert (stats.failed, stats.handled, stats.aborted) == (1, 1, 0)


@styles
async def test_error_policy_close(start: Start, logged: Errors, style: str) -> None:
    """After a raising message callback the connection ends with 1011; what waits is handled."""
    seen: list[str] = []
    bolt = Bolt(error_policy="close", blocking=style == "blocking")
    chat = bolt.ws("/p", None, raiser(style))
    chat.after(lambda event: seen.append(event.message or event.type))
    client = start(bolt).connect()
    client.says("bad", "fine")
    await client.over.wait()
    assert client.closes == [(1011, "handler error")]
    if style == "def":  # it was over before the second one came
        assert seen == ["connect", "disconnect"]
        assert bolt.stats().dropped_in == {"closed": 1}
    else:
        assert seen == ["connect", "fine", "disconnect"]


async def test_a_raising_disconnect_under_error_policy_close(start: Start, logged: Errors) -> None:
    """There is nothing left to close."""
    bolt = Bolt(error_policy="close")
    bolt.ws("/p", None, None, raiser("def"))
    client = start(bolt).connect()
    client.leaves()
    await client.over.wait()
    assert client.closes == []
    assert bolt.stats().closed == {1000: 1}


async def test_an_error_of_one_client_alone(start: Start, logged: Errors) -> None:
    """Others are handled as if nothing had happened."""
    bolt = Bolt()
    bolt.ws("/p", None, raiser("async def"))
    flow = start(bolt)
    one, other = flow.connect(), flow.connect()
    one.says("bad", "bad")
    other.says("fine", "fine")
    await one.quiet()
    await other.quiet()
    assert (bolt.stats().failed, bolt.stats().handled) == (2, 2)


# Cancellation.


async def test_a_task_that_the_handler_awaits_is_cancelled(start: Start, logged: Errors) -> None:
    """The cancellation comes out of the handler as an error of it."""
    bolt = Bolt()

    async def said() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(3600))
        asyncio.get_running_loop().call_soon(inner.cancel)
        await inner

    bolt.ws("/p", None, said)
    client = start(bolt).connect()
    client.says("x", "y")
    await client.quiet()
    assert bolt.stats().failed == 2


async def test_a_handler_that_is_cancelled(start: Start, logged: Errors) -> None:
    """Whoever cancels its task ends that one event, and not those behind it."""
    seen: list[str] = []
    bolt = Bolt()

    async def said(event: Event) -> None:
        if event.message == "hang":
            await asyncio.sleep(3600)
        await asyncio.sleep(0)
        seen.append(event.message)

    bolt.ws("/p", None, said, lambda: seen.append("left"))
    flow = start(bolt)
    client = flow.connect()
    client.says("hang", "a", "hang", "b")
    for _ in range(2):
        await turns()
        for task in flow.hub.running:
            task.cancel()
    await client.quiet()
    assert seen == ["a", "b"]
    stats = bolt.stats()
    assert (stats.failed, stats.handled, stats.timed_out) == (2, 2, 0)
    client.leaves()
    await client.over.wait()


async def test_a_handler_that_is_cancelled_before_it_began(start: Start, logged: Errors) -> None:
    """Its event has failed, once, and those behind it are handled."""
    seen: list[str] = []
    bolt = Bolt()

    def said(event: Event) -> Any:
        if event.message == "wait":
            return asyncio.get_running_loop().create_future()
        return seen.append(event.message)

    bolt.ws("/p", None, said)
    flow = start(bolt)
    client = flow.connect()
    client.says("wait", "a", "b")
    for task in flow.hub.running:
        task.cancel()
    await client.quiet()
    assert seen == ["a", "b"]
    assert (bolt.stats().failed, bolt.stats().handled) == (1, 2)


@pytest.mark.parametrize("behind", [[], ["fine"]])
async def test_a_handler_that_cancels_its_own_task(
    start: Start, logged: Errors, behind: list[str]
) -> None:
    """And returns before that takes effect: each event is counted once, and those behind it are
    handled as if nothing had been."""
    seen: list[str] = []
    bolt = Bolt()

    async def said(event: Event) -> None:
        await asyncio.sleep(0)
        if event.message == "cancel":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        seen.append(event.message)

    bolt.ws("/p", None, said)
    client = start(bolt).connect()
    client.says("cancel", *behind)
    await client.quiet()
    await turns()
    stats = bolt.stats()
    assert seen == ["cancel", *behind]
    assert stats.running == 0
    assert stats.handled + stats.failed == stats.received == 1 + len(behind)


# on_error.


async def test_an_after_of_connect(start: Start, logged: Errors) -> None:
    """Only `on_connect` itself ends the connection, or what `error_policy` says."""
    for policy, closes in (("keep", []), ("close", [1011])):
        bolt = Bolt(error_policy=policy)
        bolt.ws("/p", lambda event: None, None).after(raiser("def"))
        client = start(bolt).connect()
        assert [close.code for close in client.closes] == closes
    assert len(logged.records) == 2 + 1  # the closed one's disconnect has the after as well


async def test_a_callback_that_cancels_itself_and_raises(start: Start, logged: Errors) -> None:
    """It has failed, once, and the next event starts behind it."""
    bolt = Bolt()
    running: list[str] = []
    most: list[int] = []

    async def said(event: Event) -> None:
        running.append(event.message)
        most.append(len(running))
        try:
            await asyncio.sleep(0)
            if event.message == "1":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise ValueError("gave up")
            await asyncio.sleep(0)
        finally:
            running.remove(event.message)

    bolt.ws("/p", None, said)
    client = start(bolt).connect()
    client.says(*"1234")
    await client.quiet()
    stats = bolt.stats()
    assert most == [1, 1, 1, 1]
    assert (stats.handled, stats.failed, stats.running, stats.errors) == (3, 1, 0, 1)


def test_there_is_one_on_error() -> None:
    """A second one would take the place of the first in silence."""
    bolt = Bolt()
    bolt.on_error(lambda event, error: None)
    with pytest.raises(ConfigurationError, match="has an on_error already"):
        bolt.on_error(lambda event, error: None)


async def test_a_disconnect_that_is_cut_before_it_began(start: Start) -> None:
    """The shutdown's deadline falls between the two: it waited, so it runs still."""
    seen: list[str] = []
    bolt = Bolt()

    async def left(event: Event) -> None:
        await asyncio.sleep(0)
        seen.append(event.type)

    bolt.ws("/p", None, None, left)
    flow = start(bolt)
    client = flow.connect()
    client.leaves()
    while not flow.hub.running:
        await asyncio.sleep(0)
    flow.hub.cut([client])
    await client.over.wait()
    assert seen == ["disconnect"]
    assert bolt.stats().errors == 0


async def test_a_callback_that_is_cut_and_cancels_itself(start: Start, logged: Errors) -> None:
    """The shutdown's deadline has passed: its message is counted once all the same (before Python
    3.13 a cancellation that was undone still comes), and `disconnect` runs."""
    began = asyncio.Event()
    bolt = Bolt()

    async def said(event: Event) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise ValueError("secret")

    bolt.ws("/p", None, said)
    flow = start(bolt)
    client = flow.connect()
    client.says("x")
    await began.wait()
    flow.hub.cut([client])
    await client.quiet()
    await turns()
    assert (bolt.stats().timed_out, bolt.stats().errors, bolt.stats().running) == (1, 1, 0)
    client.leaves()
    await client.over.wait()


async def test_on_error_may_raise(start: Start, logged: Errors) -> None:
    """That is logged as well, and does no more harm, whatever it raises."""
    bolt = Bolt()
    raised = iter(ENDS)

    @bolt.on_error
    def report(event: Event, error: BaseException) -> None:
        raise next(raised)("worse")

    bolt.ws("/p", None, raiser("def"))
    client = start(bolt).connect()
    for _ in ENDS:
        client.says("bad")
    client.says("fine")
    assert (bolt.stats().failed, bolt.stats().handled) == (len(ENDS), 1)
    assert sum("worse" in text for text in logged.texts()) == len(ENDS)
    assert bolt.stats().errors == len(ENDS)


async def test_on_error_may_be_async(start: Start, logged: Errors) -> None:
    """It is awaited, in the event it is about; the next event does not wait for it."""
    gate = asyncio.Event()
    journal = Journal()
    bolt = Bolt()

    @bolt.on_error
    async def report(event: Event, error: BaseException) -> None:
        await gate.wait()
        journal.note(str(error), bolt.ws_event_message(), event.message)

    bolt.ws("/p", None, raiser("def"))
    client = start(bolt).connect()
    client.says("bad", "fine", "worse")
    assert bolt.stats().handled == 1
    gate.set()
    await journal.reaches(2)
    assert journal == [("secret", "bad", "bad"), ("secret", "worse", "worse")]


async def test_an_async_on_error_may_raise(start: Start, logged: Errors) -> None:
    """That is logged too."""
    bolt = Bolt()

    @bolt.on_error
    async def report(event: Event, error: BaseException) -> None:
        raise RuntimeError("worse")

    bolt.ws("/p", None, raiser("def"))
    client = start(bolt).connect()
    client.says("bad")
    await turns()
    assert sum("worse" in text for text in logged.texts()) == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_async_on_error_does_not_end_the_server(
    logged: Errors, error: type[BaseException]
) -> None:
    """SystemExit out of this callback ends the loop as little as out of any other."""

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        bolt = Bolt()

        @bolt.on_error
        async def report(event: Event, error_: BaseException) -> None:
            raise error("worse")

        bolt.ws("/p", None, raiser("def"))
        flow = Flow(bolt)
        client = flow.connect()
        client.says("bad")
        await turns()
        await flow.end()
        survived.append(True)

    survived: list[bool] = []
    try:
        asyncio.run(main())
    except (SystemExit, KeyboardInterrupt):
        pass
    assert survived


@styles
async def test_on_error_sees_what_no_before_aborts(
    start: Start, logged: Errors, style: str
) -> None:
    """on_error is no before: an abort raises there, though it was a before that failed."""
    seen: list[BaseException] = []
    bolt = Bolt(blocking=style == "blocking")

    @bolt.on_error
    def report(event: Event, error: BaseException) -> None:
        with pytest.raises(NotAborting):
            bolt.ws_event_abort()
        seen.append(error)

    bolt.ws("/p").before(raiser(style))
    client = start(bolt).connect()
    client.says("bad")
    await client.quiet()
    assert [type(error) for error in seen] == [ValueError]
