"""The event channel: each client's events in order, clients independent of each other, fair."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from boltws import Bolt, Event
from boltws.channel import TURN

from .flow import FakeClient, Gate, Journal, Start, turns

STYLES = ["def", "async def", "blocking", "mixed"]


def endpoint(bolt: Bolt, journal: Journal, style: str) -> None:
    """An endpoint that notes its events: def, async, in threads, or now so and now so."""

    def note(event: Event) -> None:
        journal.note(event.type, event.message)

    async def slowly(event: Event) -> None:
        for _ in range(len(event.message) % 3):
            await asyncio.sleep(0)
        note(event)

    def mixed(event: Event) -> Any:
        return slowly(event) if len(event.message) % 2 else note(event)

    callback = {"async def": slowly, "mixed": mixed}.get(style, note)
    bolt.ws("/p", callback, callback, callback, blocking=style == "blocking")


@pytest.mark.parametrize("style", STYLES)
async def test_one_connect_then_messages_then_one_disconnect(start: Start, style: str) -> None:
    """In the order they came, `disconnect` the last, though it had come while others waited."""
    journal = Journal()
    bolt = Bolt()
    endpoint(bolt, journal, style)
    client = start(bolt).connect()
    messages = ["x" * size for size in (3, 1, 2, 5, 4, 0, 7)]
    client.says(*messages)
    client.leaves()
    await client.over.wait()
    assert journal == [
        ("connect", ""),
        *[("message", message) for message in messages],
        ("disconnect", ""),
    ]


@pytest.mark.parametrize("style", STYLES)
async def test_events_of_one_client_do_not_overlap(start: Start, style: str) -> None:
    """The next one starts when the last one's pipeline is done, afters included."""
    journal = Journal()
    bolt = Bolt()
    endpoint(bolt, journal, style)

    async def before(event: Event) -> None:
        journal.note("began")
        await asyncio.sleep(0)

    async def after(event: Event) -> None:
        await asyncio.sleep(0)
        journal.note("ended")

    bolt.before(before).after(after)
    client = start(bolt).connect()
    client.says("a", "bb", "ccc", "dddd")
    client.leaves()
    await client.over.wait()
    kinds = [entry if isinstance(entry, str) else "ran" for entry in journal]
    assert kinds == ["ran", "ended"] + ["began", "ran", "ended"] * 5


async def test_a_def_runs_on_the_spot(start: Start) -> None:
    """A message of an idle client is handled in the call that brought it: no task, no turn."""
    seen = []
    bolt = Bolt()
    bolt.ws("/p", None, lambda event: seen.append(event.message))
    flow = start(bolt)
    client = flow.connect()
    client.says("a", "b")
    assert seen == ["a", "b"]
    assert (flow.hub.running, client.waiting) == ({}, None)
    assert client.busy is False


async def test_messages_wait_for_connect(start: Start) -> None:
    """What comes while `on_connect` is awaited is handled behind it."""
    gate = asyncio.Event()
    seen: list[str] = []
    bolt = Bolt()
    chat = bolt.ws("/p", None, lambda event: seen.append(event.message))

    @chat.on_connect
    async def joined(event: Event) -> None:
        await gate.wait()
        seen.append("joined")

    flow = start(bolt)
    client = flow.connect()
    client.says("a", "b")
    await turns()
    assert seen == []
    assert bolt.stats().waiting == 2
    gate.set()
    await client.quiet()
    assert seen == ["joined", "a", "b"]


@pytest.mark.parametrize("style", ["async def", "blocking"])
async def test_clients_do_not_wait_for_each_other(start: Start, style: str) -> None:
    """One whose handler hangs holds up neither other clients nor other endpoints."""
    gate, loop_gate = Gate(), asyncio.Event()
    journal = Journal()
    bolt = Bolt()

    def hang(event: Event) -> None:
        if event.message == "hang":
            gate.wait()
        journal.note(event.message)

    async def hang_async(event: Event) -> None:
        if event.message == "hang":
            await loop_gate.wait()
        journal.note(event.message)

    bolt.ws("/p", None, hang if style == "blocking" else hang_async, blocking=style == "blocking")
    bolt.ws("/q", None, lambda event: journal.note(event.message))
    flow = start(bolt)
    one, other, third = flow.connect(), flow.connect(), flow.connect("/q")
    one.says("hang", "behind")
    other.says("other")
    third.says("third")
    await journal.reaches(2)
    assert set(journal) == {"other", "third"}
    await other.quiet()
    stats = bolt.stats()
    assert (stats.running, stats.waiting) == (1, 1)
    gate.open()
    loop_gate.set()
    await one.quiet()
    assert journal[2:] == ["hang", "behind"]


# Fairness.


@pytest.mark.parametrize("waits_behind", ["connect", "message"])
async def test_64_events_a_turn(start: Start, waits_behind: str) -> None:
    """A client with much that waits lets others have their turn after 64 events."""
    gate = asyncio.Event()
    seen: list[str] = []
    bolt = Bolt()

    def said(event: Event) -> Any:
        if event.message == "wait":
            return gate.wait()
        seen.append(event.message)
        return None

    chat = bolt.ws("/p", None, said, channel_capacity=1000)
    if waits_behind == "connect":
        chat.on_connect(lambda: gate.wait())
    client = start(bolt).connect()
    if waits_behind == "message":
        client.says("wait")
    client.says(*map(str, range(3 * TURN)))
    gate.set()
    counts = await counted(seen, client)
    assert seen == list(map(str, range(3 * TURN)))
    assert max(counts) <= TURN
    assert sum(count > 0 for count in counts) >= 3


async def counted(seen: list[Any], client: FakeClient) -> list[int]:
    """How many events each turn of the loop handled, until the client is idle."""
    counts = []
    while not client.idle:
        before = len(seen)
        await asyncio.sleep(0)
        counts.append(len(seen) - before)
    return counts


async def test_a_disconnect_behind_a_flood_is_fair_too(start: Start) -> None:
    """What a client left behind is handled in turns of 64, its `disconnect` the last."""
    gate = asyncio.Event()
    seen: list[Any] = []
    bolt = Bolt()
    chat = bolt.ws("/p", lambda: gate.wait(), None, lambda: seen.append("left"))
    chat.on_message(lambda event: seen.append(event.message))
    chat.before(lambda: None)
    client = start(bolt).connect()
    client.says(*map(str, range(TURN + 10)))
    client.leaves()
    gate.set()
    assert max(await counted(seen, client)) <= TURN
    assert seen == [*map(str, range(TURN + 10)), "left"]


async def test_what_came_at_once_is_handled_in_turns(start: Start) -> None:
    """A wire that lost its connection puts all that it had read behind a busy mark: def callbacks
    take it in turns of 64 as well, `disconnect` the last."""
    seen: list[Any] = []
    bolt = Bolt()
    bolt.ws("/p", None, lambda event: seen.append(event.message), lambda: seen.append("left"))
    client = start(bolt).connect()
    client.busy = True
    client.says(*map(str, range(3 * TURN)))
    client.busy = False
    client.channel.resume(client)
    client.leaves()
    assert seen == []
    assert max(await counted(seen, client)) == TURN
    assert seen == [*map(str, range(3 * TURN)), "left"]


# Where callbacks run.


@pytest.mark.parametrize(("style", "inline"), [("def", True), ("blocking", False)])
async def test_which_thread_runs_it(start: Start, style: str, inline: bool) -> None:
    """A blocking endpoint's def callbacks, befores and afters are off the loop's thread; its
    async ones are not, and the befores of a Bolt that is not blocking neither."""
    journal = Journal()
    bolt = Bolt()

    def noting(name: str) -> Callable[[Event], None]:
        return lambda event: journal.note(name, threading.get_ident() == here)

    async def on_disconnect(event: Event) -> None:
        journal.note("disconnect", threading.get_ident() == here)

    here = threading.get_ident()
    chat = bolt.ws("/p", noting("connect"), noting("message"), blocking=style == "blocking")
    chat.on_disconnect(on_disconnect)
    chat.before(noting("before")).after(noting("after"))
    bolt.before(noting("bolt's before"))
    client = start(bolt).connect()
    client.says("x")
    client.leaves()
    await client.over.wait()
    assert set(journal) == {
        ("connect", inline),
        ("message", inline),
        ("disconnect", True),
        ("before", inline),
        ("after", inline),
        ("bolt's before", True),
    }


async def test_bolts_own_befores_block_where_bolt_does(start: Start) -> None:
    """Bolt(blocking=True) is for all endpoints, and for what stands around them."""
    journal = Journal()
    here = threading.get_ident()
    bolt = Bolt(blocking=True)
    bolt.before(lambda: journal.note(threading.get_ident() == here))
    bolt.ws("/p", None, lambda: journal.note(threading.get_ident() == here))
    client = start(bolt).connect()
    client.says("x")
    await client.quiet()
    assert journal == [False, False]


async def test_as_many_threads_as_blocking_threads(start: Start) -> None:
    """Beyond that clients wait for a thread, and lose nothing."""
    gate = Gate()
    journal = Journal()
    bolt = Bolt(blocking=True, blocking_threads=2)

    def said(event: Event) -> None:
        journal.note("began")
        gate.wait()

    bolt.ws("/p", None, said)
    flow = start(bolt)
    clients = [flow.connect() for _ in range(3)]
    for client in clients:
        client.says("x")
    await journal.reaches(2)
    assert bolt.stats().running == 3
    assert len(journal) == 2
    gate.open()
    for client in clients:
        await client.quiet()
    assert bolt.stats().handled == 3


# The ambient event.


@pytest.mark.parametrize("style", ["def", "async def", "blocking"])
async def test_the_ambient_event(start: Start, style: str) -> None:
    """In befores, handlers and afters, of each kind of event, wherever they run; and outside
    there is none, before and after."""
    journal = Journal()
    bolt = Bolt()

    def note(event: Event) -> None:
        journal.note(
            bolt.ws_client_id() == event.client_id,
            bolt.ws_event_type(),
            bolt.ws_event_message(),
            bolt.ws_param("room"),
        )

    async def note_async(event: Event) -> None:
        await asyncio.sleep(0)
        note(event)

    callback = note_async if style == "async def" else note
    chat = bolt.ws("/{room}", callback, callback, callback, blocking=style == "blocking")
    chat.before(callback).after(callback)
    flow = start(bolt)
    one, other = flow.connect("/a"), flow.connect("/b")
    for client in (one, other):
        client.says("1", "2")
        client.leaves()
    await one.over.wait()
    await other.over.wait()
    for room in "ab":
        mine = [(kind, text) for same, kind, text, name in journal if same and name == room]
        assert mine == [
            *[("connect", "")] * 2,
            *[("message", "1")] * 3,
            *[("message", "2")] * 3,
            *[("disconnect", "")] * 3,
        ]
    assert len(journal) == 22
    with pytest.raises(LookupError):
        bolt.ws_client_id()


async def test_a_task_keeps_the_event_it_was_started_in(start: Start) -> None:
    """Though the callback has returned, and others' events have been handled meanwhile."""
    gate = asyncio.Event()
    seen: list[Any] = []
    tasks: list[asyncio.Task[None]] = []
    bolt = Bolt()

    async def later() -> None:
        await gate.wait()
        seen.append((bolt.ws_client_id(), bolt.ws_event_message()))

    bolt.ws("/p", None, lambda: tasks.append(asyncio.ensure_future(later())))
    flow = start(bolt)
    one, other = flow.connect(), flow.connect()
    one.says("a", "b")
    other.says("c")
    gate.set()
    await asyncio.gather(*tasks)
    assert sorted(seen) == sorted([(one.id, "a"), (one.id, "b"), (other.id, "c")])


async def test_a_close_from_anothers_handler(start: Start) -> None:
    """The `disconnect` of a client that another one's def handler closes is not run in the middle
    of that handler, and the handler's own event is ambient to its end."""
    trace: list[Any] = []
    bolt = Bolt()

    def said(event: Event) -> None:
        trace.append("begin")
        assert bolt.ws_close_client(event.message)
        trace.append(("end", bolt.ws_client_id()))

    bolt.ws("/p", None, said, lambda event: trace.append(("left", bolt.ws_client_id())))
    flow = start(bolt)
    one, other = flow.connect(), flow.connect()
    one.says(other.id)
    assert trace == ["begin", ("end", one.id)]
    await other.over.wait()
    assert trace[2:] == [("left", other.id)]


async def test_a_client_that_closes_itself(start: Start) -> None:
    """In its own handler: what waits is handled, then `disconnect`, once."""
    trace: list[Any] = []
    bolt = Bolt()

    def said(event: Event) -> None:
        trace.append((event.message, event.close()))

    bolt.ws("/p", None, said, lambda event: trace.append(("left", event.close_code)))
    client = start(bolt).connect()
    client.says("a")
    assert trace == [("a", True), ("left", 1000)]
    client.says("b")
    client.leaves()
    await turns()
    assert trace == [("a", True), ("left", 1000)]
    assert bolt.stats().dropped_in == {"closed": 1}
