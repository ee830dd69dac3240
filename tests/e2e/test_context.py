"""The ambient event: right in whatever runs for it, absent elsewhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from boltws import Bolt, Event, NoEvent

from .conftest import NewBolt, Serve
from .helpers import PATIENCE, Gate, Journal, ask, recv
from .servers import App, everywhere

Getter = Callable[[], Any]


def getters(bolt: Bolt) -> dict[str, Getter]:
    return {
        "client_id": bolt.ws_client_id,
        "type": bolt.ws_event_type,
        "message": bolt.ws_event_message,
        "is_binary": bolt.ws_event_is_binary,
        "base64": bolt.ws_event_binary,
        "path": bolt.ws_event_path,
        "who": lambda: bolt.ws_param("who"),
    }


def ambient(bolt: Bolt) -> dict[str, Any]:
    return {name: getter() for name, getter in getters(bolt).items()}


def own(event: Event) -> dict[str, Any]:
    """What the event itself says of what `ambient` says."""
    return {
        "client_id": event.client_id,
        "type": event.type,
        "message": event.message,
        "is_binary": event.is_binary,
        "base64": "",
        "path": event.path,
        "who": event.params["who"],
    }


@everywhere
async def test_fifty_handlers_interleave(new_bolt: NewBolt, serve: Serve) -> None:
    """Fifty async handlers await in turn, and each still sees its own event after every await."""
    bolt = new_bolt()
    started = 0
    everyone = asyncio.Event()
    wrong = Journal()
    endpoint = bolt.ws("/p/:who")

    @endpoint.on_message
    async def said(event: Event) -> None:
        nonlocal started
        started += 1
        if started == 50:
            everyone.set()
        await asyncio.wait_for(everyone.wait(), PATIENCE)
        for _ in range(5):
            if ambient(bolt) != own(event):
                wrong.note(ambient(bolt), own(event))
            await asyncio.sleep(0)
        bolt.ws_send_to(bolt.ws_client_id(), f"{bolt.ws_param('who')} {bolt.ws_event_message()}")

    served = serve(bolt)

    async def talk(n: int) -> None:
        async with served.connect(f"/p/{n}", compression=None) as client:
            assert await ask(client, f"I am {n}") == f"{n} I am {n}"

    async with asyncio.TaskGroup() as group:
        for n in range(50):
            group.create_task(talk(n))
    assert wrong.seen == []


@everywhere
async def test_every_kind_of_event(new_bolt: NewBolt, serve: Serve) -> None:
    """The getters tell of connect, message and disconnect alike."""
    bolt = new_bolt()
    seen = Journal()

    def note(event: Event) -> None:
        assert ambient(bolt) == own(event)
        seen.note(bolt.ws_event_type(), bolt.ws_event_message(), bolt.ws_event_path())

    bolt.ws("/p/:who", note, note, note)
    async with serve(bolt).connect("/p/x") as client:
        await client.send("hello")
        assert await seen.take(2) == [("connect", "", "/p/:who"), ("message", "hello", "/p/:who")]
    assert await seen.next() == ("disconnect", "", "/p/:who")


@everywhere
async def test_worker_threads(new_bolt: NewBolt, serve: Serve) -> None:
    """Eight blocking handlers at once, each in a thread of its own: each sees its own event."""
    bolt = new_bolt(blocking=True)
    together = threading.Barrier(8)
    wrong = Journal()
    loops = Journal()

    def said(event: Event) -> None:
        together.wait(PATIENCE)
        if ambient(bolt) != own(event):
            wrong.note(ambient(bolt))
        loops.note(threading.get_ident())
        bolt.ws_send_to(bolt.ws_client_id(), bolt.ws_event_message())

    bolt.ws("/p/:who", None, said)
    served = serve(bolt)

    async def talk(n: int) -> None:
        async with served.connect(f"/p/{n}") as client:
            assert await ask(client, f"I am {n}") == f"I am {n}"

    async with asyncio.TaskGroup() as group:
        for n in range(8):
            group.create_task(talk(n))
    assert wrong.seen == []
    assert len(set(loops.seen)) == 8
    assert served.thread.ident not in loops.seen


@everywhere
async def test_tasks_that_a_callback_starts(new_bolt: NewBolt, serve: Serve) -> None:
    """A task outlives its callback and keeps the event, also when others came since."""
    bolt = new_bolt()
    gate = Gate()
    tasks = set()

    async def later() -> None:
        await gate.passed()
        bolt.ws_send_to(bolt.ws_client_id(), f"later {bolt.ws_event_message()}")

    def said(event: Event) -> None:
        if event.message == "now":
            event.reply("now")
            return
        task = asyncio.get_running_loop().create_task(later())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    bolt.ws("/p", None, said)
    served = serve(bolt)
    async with served.connect("/p") as one, served.connect("/p") as two:
        await one.send("one")
        await two.send("two")
        assert await ask(one, "now") == "now"
        assert await ask(two, "now") == "now"
        gate.open()
        assert await recv(one) == "later one"
        assert await recv(two) == "later two"


@everywhere
async def test_nowhere_else(new_bolt: NewBolt, serve: Serve) -> None:
    """Outside of callbacks every getter raises NoEvent: in the test's thread, on the server's
    own loop, and in an HTTP app beside the endpoints."""
    raised = Journal()

    async def site(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        raised.note(no_events(bolt))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    app: App = site
    bolt = new_bolt(http=app)
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    served = serve(bolt)
    async with served.connect("/p") as client:
        assert await ask(client, "x") == "x"
        assert no_events(bolt) == len(getters(bolt))
        assert (await served.get("/page"))[0] == 204
        assert await raised.next() == len(getters(bolt))
        served.loop.call_soon_threadsafe(lambda: raised.note(no_events(bolt)))
        assert await raised.next() == len(getters(bolt))
    with pytest.raises(LookupError):
        bolt.ws_client_id()


def no_events(bolt: Bolt) -> int:
    """How many getters raise NoEvent."""
    count = 0
    for getter in getters(bolt).values():
        try:
            getter()
        except NoEvent:
            count += 1
    return count
