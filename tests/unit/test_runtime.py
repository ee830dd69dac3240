"""The life of a Bolt: started on a loop, stopped, started again; operations from threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from typing import Any
from uuid import UUID

import pytest

from boltws import AlreadyStarted, Bolt, Event, NotRunning

from .conftest import Errors
from .flow import Flow, Gate, Journal, Start, turns, turns_until


def operations(bolt: Bolt, client_id: str = "nobody") -> dict[str, Callable[[], Any]]:
    """Every operation on clients, and what it gives for one client in room "a"."""
    return {
        "ws_send_to": lambda: bolt.ws_send_to(client_id, "x"),
        "ws_send_binary_to": lambda: bolt.ws_send_binary_to(client_id, b"x"),
        "ws_client_list": lambda: bolt.ws_client_list(),
        "ws_connection_count": lambda: bolt.ws_connection_count(),
        "ws_room_join": lambda: bolt.ws_room_join("a", client_id),
        "ws_room_members": lambda: bolt.ws_room_members("a"),
        "ws_room_count": lambda: bolt.ws_room_count("a"),
        "ws_room_broadcast": lambda: bolt.ws_room_broadcast("a", "x"),
        "ws_room_broadcast_binary": lambda: bolt.ws_room_broadcast_binary("a", b"x", ["z"]),
        "ws_broadcast": lambda: bolt.ws_broadcast("x"),
        "ws_broadcast_binary": lambda: bolt.ws_broadcast_binary(b"x"),
        "ws_dropped_count": lambda: bolt.ws_dropped_count(),
        "ws_room_leave": lambda: bolt.ws_room_leave("a", client_id),
        "ws_close_client": lambda: bolt.ws_close_client(client_id),
    }


OPERATIONS = list(operations(Bolt()))


def plain(**options: Any) -> Bolt:
    bolt = Bolt(**options)
    bolt.ws("/p", None, lambda event: event.reply(event.message))
    return bolt


# Before and after.


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_operations_need_a_running_server(start: Start, operation: str) -> None:
    """Before the start and after the stop each raises, on the loop and in a thread; no call
    waits for a server that is not there."""
    bolt = plain()
    call = operations(bolt)[operation]
    with pytest.raises(NotRunning, match="between the start of the server and its stop") as raised:
        call()
    assert "an app that mounts Bolt starts it with lifespan=bolt.lifespan" in str(raised.value)
    with pytest.raises(NotRunning):
        await asyncio.to_thread(call)
    await start(bolt).end()
    with pytest.raises(NotRunning):
        call()
    with pytest.raises(NotRunning):
        await asyncio.to_thread(call)


async def test_stats_are_there_at_any_time(start: Start) -> None:
    """Before, meanwhile and after, from any thread; a snapshot stays as it was."""
    bolt = plain()
    before = bolt.stats()
    flow = start(bolt)
    flow.connect().says("x")
    meanwhile = await asyncio.to_thread(bolt.stats)
    assert meanwhile == bolt.stats()
    await flow.end()
    after = bolt.stats()
    assert await asyncio.to_thread(bolt.stats) == after
    assert [stats.received for stats in (before, meanwhile, after)] == [0, 1, 1]
    assert (meanwhile.connections_now, after.connections_now) == (1, 0)
    assert {stats.imbalance() for stats in (before, meanwhile, after)} == {""}
    with pytest.raises(AttributeError):
        after.received = 2  # type: ignore[misc]


async def test_an_imbalance_is_told() -> None:
    """Each of the three equations, with the figures."""
    bolt = plain()
    for name in ("received", "sends", "connections_opened"):
        setattr(bolt._hub.ledger, name, 1)
        assert bolt.stats().imbalance().startswith(name.replace("_", " ") + " 1, accounted for 0")
        setattr(bolt._hub.ledger, name, 0)
    assert bolt.stats().imbalance() == ""


async def test_starting_twice(start: Start) -> None:
    """On the same loop it is nothing: a mount starts with each request."""
    bolt = plain()
    flow = start(bolt)
    client = flow.connect()
    bolt._runtime.start()
    assert bolt.ws_client_list() == [client.id]


async def test_one_loop_at_a_time(start: Start) -> None:
    """While it runs, another loop cannot have it."""
    bolt = plain()
    start(bolt)

    async def other() -> None:
        bolt._runtime.start()

    with pytest.raises(AlreadyStarted, match="another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(other()))


def test_it_starts_again_on_another_loop() -> None:
    """After a stop, with what was added meanwhile; ids name a new node, the books go on."""
    bolt = plain()
    nodes: list[bytes] = []

    async def main(path: str) -> None:
        flow = Flow(bolt)
        client = flow.connect(path)
        client.says("x")
        assert client.got == ["x"]
        nodes.append(UUID(client.id).bytes[:5])
        assert await asyncio.to_thread(bolt.ws_client_list) == [client.id]
        await flow.end()

    asyncio.run(main("/p"))
    bolt.ws("/q", None, lambda event: event.reply(event.message))
    asyncio.run(main("/q"))
    assert nodes[0] != nodes[1]
    assert bolt.stats().received == bolt.stats().sends == 2


@pytest.mark.parametrize("at_once", [True, False])
def test_a_loop_that_ended_without_a_word(at_once: bool) -> None:
    """A test client's, say: the next loop has the Bolt for itself, without clients of the first."""
    bolt = plain()
    flows: list[Flow] = []

    async def first() -> None:
        flows.append(Flow(bolt))
        client = flows[0].connect()
        bolt.ws_room_join("a", client.id)

    async def second() -> None:
        flow = Flow(bolt)
        assert bolt.ws_client_list() == []
        assert bolt.ws_room_members("a") == []
        client = flow.connect()
        assert bolt.ws_broadcast("x") == 1
        assert client.got == ["x"]
        assert bolt.stats().imbalance() == ""
        await flow.end()

    with closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(first())
        if at_once:
            loop.close()
        asyncio.run(second())
    assert bolt.stats().connections_now == 0


def test_a_loop_that_cancels_all_its_tasks(logged: Errors) -> None:
    """As `asyncio.run` does at its end: a handler that was awaiting has failed, and what waits
    behind it does not keep the loop from ending."""
    bolt = Bolt()
    seen: list[str] = []

    async def said(event: Event) -> None:
        seen.append(event.message)
        if event.message == "one":
            await asyncio.Event().wait()

    bolt.ws("/p", None, said)

    async def main() -> None:
        Flow(bolt).connect().says("one", "two", "three")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen[0] == "one"
    stats = bolt.stats()
    assert (stats.received, stats.failed, stats.imbalance()) == (3, 1, "")

    async def again() -> None:
        await Flow(bolt).end()

    asyncio.run(again())
    assert (bolt.stats().running, bolt.stats().connections_now) == (0, 0)


async def test_blocking_threads_end_with_the_stop(start: Start) -> None:
    """None is left behind."""
    before = set(threading.enumerate())
    bolt = Bolt(blocking=True)
    bolt.ws("/p", None, lambda: None)
    flow = start(bolt)
    client = flow.connect()
    client.says("x")
    await client.quiet()
    threads = set(threading.enumerate()) - before
    assert {t.name for t in threads} == {"boltws-watchdog", "boltws-1"}
    await flow.end()
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


# Options that a foreign server does not enforce.


@pytest.mark.parametrize(
    ("options", "endpoint", "names"),
    [
        ({}, {}, ""),
        ({"channel_capacity": 3, "shutdown_timeout": 3}, {}, ""),
        ({"ping_interval": 3, "close_timeout": 3}, {}, "close_timeout, ping_interval"),
        ({}, {"max_fragments": 3}, "max_fragments"),
        ({"ping_interval": 20}, {"message_timeout": None}, "message_timeout, ping_interval"),
    ],
)
async def test_the_warning(
    start: Start,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    endpoint: dict[str, Any],
    names: str,
) -> None:
    """Once, naming those that were set, the default's value too; none on our own server."""
    bolt = Bolt(**options)
    bolt.ws("/p", **endpoint)
    runtime = start(bolt).runtime
    with caplog.at_level(logging.WARNING, "boltws"):
        runtime.own_server = True
        runtime.warn_if_not_enforced()
        assert caplog.messages == []
        runtime.own_server = False
        runtime.warn_if_not_enforced()
        runtime.warn_if_not_enforced()
    assert len(caplog.messages) == bool(names)
    assert all(f"not enforced on this server: {names}. " in text for text in caplog.messages)


# A Bolt without endpoints.


async def test_a_bolt_without_endpoints(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """It serves a 404 to everyone: endpoints in a module that nobody imports, for one."""
    start(plain())
    assert caplog.messages == []
    start(Bolt())
    (said,) = caplog.messages
    assert said.startswith("this Bolt has no endpoint, so every WebSocket gets a 404: import ")


# Threads.


async def test_operations_in_a_thread(start: Start) -> None:
    """Each runs on the loop and gives what it gives there."""
    bolt = plain()
    flow = start(bolt)
    results = {}
    for name in OPERATIONS:
        client = flow.connect()
        bolt.ws_room_join("a", client.id)
        call = operations(bolt, client.id)[name]
        in_thread = await asyncio.to_thread(call)
        if name not in ("ws_room_leave", "ws_close_client"):
            assert call() == in_thread
        results[name] = in_thread
        client.leaves()
    assert results["ws_send_to"] is True
    assert results["ws_send_binary_to"] is True
    assert len(results["ws_client_list"]) == 1
    assert results["ws_room_members"] == results["ws_room_members"]
    for name in ("ws_connection_count", "ws_room_count", "ws_broadcast", "ws_broadcast_binary"):
        assert results[name] == 1
    assert results["ws_room_broadcast"] == results["ws_room_broadcast_binary"] == 1
    assert results["ws_room_join"] is results["ws_room_leave"] is True
    assert results["ws_close_client"] is True
    assert results["ws_dropped_count"] == 0


async def test_an_error_in_a_thread(start: Start) -> None:
    """What the operation raises, its caller gets, and not the loop."""
    bolt = plain()
    start(bolt)
    with pytest.raises(ValueError, match="a room's name"):
        await asyncio.to_thread(bolt.ws_room_join, "", "nobody")
    with pytest.raises(TypeError):
        await asyncio.to_thread(bolt.ws_room_members, None)  # type: ignore[arg-type]


async def test_many_threads(start: Start) -> None:
    """Their operations do not mix: what each sends arrives in its order, and all is counted."""
    bolt = plain()
    client = start(bolt).connect()

    def send(name: str) -> None:
        for number in range(50):
            assert bolt.ws_send_to(client.id, f"{name}{number}")

    await asyncio.gather(*[asyncio.to_thread(send, name) for name in "abc"])
    for name in "abc":
        mine = [text for text in client.got if str(text).startswith(name)]
        assert mine == [f"{name}{number}" for number in range(50)]
    assert bolt.stats().handed == 150


async def test_operations_in_a_blocking_handler(start: Start) -> None:
    """A handler in a thread uses them as one on the loop does, the event's own among them."""
    journal = Journal()
    bolt = Bolt(blocking=True)

    def said(event: Event) -> None:
        journal.note(event.join("a"), event.reply("hi"), event.rooms)
        journal.note(bolt.ws_room_members("a") == [bolt.ws_client_id()])
        journal.note(event.close())
        journal.note(event.reply("late"))

    bolt.ws("/p", None, said)
    client = start(bolt).connect()
    client.says("x")
    await client.over.wait()
    assert journal == [(True, True, ("a",)), True, True, False]
    assert client.got == ["hi"]


async def test_calls_that_wait_when_it_stops(start: Start) -> None:
    """They raise: a thread never waits for a loop that has moved on."""
    bolt = plain()
    flow = start(bolt)
    caught: list[BaseException] = []

    def call() -> None:
        try:
            bolt.ws_client_list()
        except BaseException as error:
            caught.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    pause = threading.Event()
    while len(flow.hub._calls._waiting) < 3:  # the loop is kept from running them
        pause.wait(0.001)
    flow.runtime.stop()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert [type(error) for error in caught] == [NotRunning] * 3


def test_a_call_to_a_loop_that_has_closed() -> None:
    """It raises too, where nobody said that the server had stopped."""
    bolt = plain()

    async def main() -> None:
        bolt._runtime.start()

    asyncio.run(main())
    caught: list[BaseException] = []

    def call() -> None:
        try:
            bolt.ws_client_list()
        except NotRunning as error:
            caught.append(error)
        assert bolt.stats().connections_now == 0

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(10)
    assert len(caught) == 1
    bolt._runtime.stop()


async def test_a_stop_while_a_thread_is_about_to_call(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that comes just behind the stop raises as well."""
    bolt = plain()
    flow = start(bolt)
    journal = Journal()
    gate = Gate()

    class Held(Future[Any]):
        def __init__(self) -> None:
            journal.note("has read the loop")
            gate.wait()
            super().__init__()

    monkeypatch.setattr("boltws.calls.Future", Held)
    call = asyncio.ensure_future(asyncio.to_thread(bolt.ws_client_list))
    await journal.reaches(1)
    flow.runtime.stop()
    gate.open()
    with pytest.raises(NotRunning):
        await call
    await turns()
    assert flow.hub._calls._waiting == set()


async def test_tasks_of_the_runtime_are_kept(start: Start) -> None:
    """Until they are done: a task that nobody holds may vanish."""
    bolt = plain()
    runtime = start(bolt).runtime
    gate = asyncio.Event()
    task = runtime.spawn(gate.wait())
    assert task in runtime._tasks
    gate.set()
    await turns_until(lambda: not runtime._tasks)
    assert task.done()
