"""How callbacks are given, and the shapes they may have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from boltws import AlreadyStarted, Bolt, BoltError, ConfigurationError, Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, recv
from .servers import everywhere

# Callbacks that are registered by name: a test gives the journal, then starts a server.
journal = Journal()


@pytest.fixture(autouse=True)
def fresh_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "journal", Journal())


def on_connect(event: Event) -> None:
    event.reply("connected")


def on_message(event: Event) -> None:
    event.reply(f"named {event.message}")


def on_disconnect(event: Event) -> None:
    journal.note("disconnected")


def guard(event: Event) -> None:
    if event.message == "bad":
        event.abort()


@everywhere
async def test_positional_callables(new_bolt: NewBolt, serve: Serve) -> None:
    """`ws(path, on_connect, on_message, on_disconnect)` takes callables."""
    bolt = new_bolt()
    bolt.ws("/p", on_connect, on_message, on_disconnect)
    async with serve(bolt).connect("/p") as client:
        assert await recv(client) == "connected"
        assert await ask(client, "x") == "named x"
    assert await journal.next() == "disconnected"


async def test_lambdas(new_bolt: NewBolt, serve: Serve) -> None:
    """Lambdas are callables like any other, whatever they return."""
    bolt = new_bolt()
    seen = Journal()
    bolt.ws(
        "/p",
        lambda event: event.reply("connected"),
        lambda event: event.reply(event.message.upper()),
        lambda: seen.note("gone"),
    )
    async with serve(bolt).connect("/p") as client:
        assert await recv(client) == "connected"
        assert await ask(client, "x") == "X"
    assert await seen.next() == "gone"


@everywhere
async def test_names_in_the_registering_module(new_bolt: NewBolt, serve: Serve) -> None:
    """A plain name is looked up in the module that called `ws`, befores too."""
    bolt = new_bolt()
    bolt.ws("/p", "on_connect", "on_message", "on_disconnect").before("guard")
    async with serve(bolt).connect("/p") as client:
        assert await recv(client) == "connected"
        await client.send("bad")
        assert await ask(client, "x") == "named x"
    assert await journal.next() == "disconnected"


async def test_a_name_may_be_defined_after_it_was_registered(
    new_bolt: NewBolt, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are looked up at the start, so the function may stand below the registration."""
    bolt = new_bolt()
    bolt.ws("/p", None, "defined_later")
    monkeypatch.setitem(globals(), "defined_later", lambda event: event.reply("later"))
    async with serve(bolt).connect("/p") as client:
        assert await ask(client, "x") == "later"


async def test_names_with_a_module(new_bolt: NewBolt, serve: Serve) -> None:
    """ "pkg.mod:func" is imported, for callbacks and for what stands before and after."""
    bolt = new_bolt()
    bolt.before(f"{__name__}:guard")
    bolt.ws("/p", "", f"{__name__}:on_message")
    async with serve(bolt).connect("/p") as client:
        await client.send("bad")
        assert await ask(client, "x") == "named x"


@everywhere
@pytest.mark.parametrize("nothing", ["", None])
async def test_no_callback_is_needed(new_bolt: NewBolt, serve: Serve, nothing: str | None) -> None:
    """ "" and None stand where no callback is needed; the messages are handled all the same."""
    bolt = new_bolt()
    bolt.ws("/silent", nothing, nothing, nothing)
    bolt.ws("/p", nothing, on_message, nothing)
    served = serve(bolt)
    async with served.connect("/silent") as silent, served.connect("/p") as client:
        await silent.send("into the void")
        assert await ask(client, "x") == "named x"
    stats = bolt.stats()
    assert stats.errors == 0


@everywhere
async def test_decorators(new_bolt: NewBolt, serve: Serve) -> None:
    """Each callback has a decorator, which gives the function back."""
    bolt = new_bolt()
    seen = Journal()
    endpoint = bolt.ws("/p")

    @endpoint.on_connect
    def came(event: Event) -> None:
        event.reply("connected")

    @endpoint.on_message
    def said(event: Event) -> None:
        event.reply(event.message)

    @endpoint.on_disconnect
    def left(event: Event) -> None:
        seen.note("gone")

    assert callable(came)
    assert callable(said)
    assert callable(left)
    async with serve(bolt).connect("/p") as client:
        assert await recv(client) == "connected"
        assert await ask(client, "x") == "x"
    assert await seen.next() == "gone"


def no_argument(bolt: Bolt) -> Callable[..., object]:
    def said() -> None:
        bolt.ws_send_to(bolt.ws_client_id(), bolt.ws_event_message())

    return said


def no_argument_async(bolt: Bolt) -> Callable[..., object]:
    async def said() -> None:
        await asyncio.sleep(0)
        bolt.ws_send_to(bolt.ws_client_id(), bolt.ws_event_message())

    return said


def one_argument(bolt: Bolt) -> Callable[..., object]:
    def said(event: Event) -> None:
        event.reply(event.message)

    return said


def one_argument_async(bolt: Bolt) -> Callable[..., object]:
    async def said(event: Event) -> None:
        await asyncio.sleep(0)
        event.reply(event.message)

    return said


def gives_an_awaitable(bolt: Bolt) -> Callable[..., object]:
    async def later(event: Event) -> None:
        await asyncio.sleep(0)
        event.reply(event.message)

    def said(event: Event) -> Awaitable[None]:
        return later(event)

    return said


def gives_a_future(bolt: Bolt) -> Callable[..., object]:
    def said(event: Event) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            event.reply(event.message)
            future.set_result(None)

        loop.call_soon(done)
        return future

    return said


def a_method(bolt: Bolt) -> Callable[..., object]:
    class Room:
        def said(self, event: Event) -> None:
            event.reply(event.message)

    return Room().said


def a_callable_object(bolt: Bolt) -> Callable[..., object]:
    class Said:
        async def __call__(self, event: Event) -> None:
            event.reply(event.message)

    return Said()


SHAPES = [
    no_argument,
    no_argument_async,
    one_argument,
    one_argument_async,
    gives_an_awaitable,
    gives_a_future,
    a_method,
    a_callable_object,
]


@everywhere
@pytest.mark.parametrize("blocking", [False, True])
async def test_shapes_of_callbacks(new_bolt: NewBolt, serve: Serve, blocking: bool) -> None:
    """A callback takes the event or nothing, is `def` or `async def`, or returns an awaitable;
    with blocking=True the same ones work, those for the loop's own futures excepted."""
    bolt = new_bolt()
    shapes = [shape for shape in SHAPES if not (blocking and shape is gives_a_future)]
    for shape in shapes:
        bolt.ws(f"/{shape.__name__}", None, shape(bolt), blocking=blocking)
    served = serve(bolt)
    for shape in shapes:
        async with served.connect(f"/{shape.__name__}") as client:
            for n in range(3):
                assert await ask(client, f"{shape.__name__} {n}") == f"{shape.__name__} {n}"


async def startup(bolt: Bolt) -> dict[str, Any]:
    """What a server hears when it asks Bolt to start."""
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    await bolt({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return answers[0]


@pytest.mark.parametrize(
    "name", ["no_such_function", "no.such.module:func", f"{__name__}:nobody", "json:"]
)
async def test_a_name_that_is_not_found_stops_the_start(new_bolt: NewBolt, name: str) -> None:
    """The server is told so before it takes a connection, and the name is in the message."""
    bolt = new_bolt()
    bolt.ws("/p", name)
    answer = await startup(bolt)
    assert answer["type"] == "lifespan.startup.failed"
    assert name in answer["message"]


@pytest.mark.parametrize("callback", [5, lambda a, b: None, object()])
async def test_an_unusable_callback(new_bolt: NewBolt, callback: Any) -> None:
    """What is not callable, or wants more than the event, is refused when it is registered."""
    bolt = new_bolt()
    with pytest.raises(ConfigurationError):
        bolt.ws("/p", None, callback)


async def test_the_same_path_twice(new_bolt: NewBolt) -> None:
    """Two endpoints of one path are a mistake, in whichever style the path is written. It is told
    at once, or at the start where `where` might still tell them apart."""
    bolt = new_bolt()
    bolt.ws("/chat/:room")
    with pytest.raises(ConfigurationError, match="/chat/"):
        bolt.ws("/chat/{name}")
    bolt.ws("/talk/:room").where("room", "[a-z]+")
    bolt.ws("/talk/{name}").where("name", "[a-z]+")
    with pytest.raises(ConfigurationError, match="'/talk/:room' comes first"):
        bolt._runtime.seal()


async def test_nothing_is_added_after_the_start(new_bolt: NewBolt, serve: Serve) -> None:
    """Endpoints are sealed at the start: adding to them later raises, and says so at once."""
    bolt = new_bolt()
    endpoint = bolt.ws("/p", None, on_message)
    serve(bolt)
    for late in (
        lambda: bolt.ws("/late"),
        lambda: bolt.before(guard),
        lambda: bolt.after(guard),
        lambda: endpoint.before(guard),
        lambda: endpoint.after(guard),
        lambda: endpoint.on_connect(on_connect),
    ):
        with pytest.raises(AlreadyStarted):
            late()


async def test_a_wrong_option_names_itself() -> None:
    """A wrong option, or a value out of range, raises at construction and says what fits."""
    with pytest.raises(ConfigurationError, match="channel_capacty.*channel_capacity"):
        Bolt(channel_capacty=5)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="overflow.*drop_oldest"):
        Bolt(overflow="sometimes")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="channel_capacity"):
        Bolt(channel_capacity=0)
    with pytest.raises(ConfigurationError, match="ping_interval"):
        Bolt().ws("/p", ping_interval=5)  # type: ignore[call-arg]
    assert issubclass(ConfigurationError, (BoltError, ValueError))
