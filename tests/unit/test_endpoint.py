"""Registering: callbacks, names, middleware; sealed at start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from boltws import AlreadyStarted, Bolt, ConfigurationError, Endpoint, Event

from .flow import FakeClient, Start

trace: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    trace.clear()


def noting(name: str) -> Callable[[Event], None]:
    return lambda event: trace.append(name)


# What is looked up by name in this module.


def joined(event: Event) -> None:
    trace.append(("joined", event.type))


def said() -> None:
    trace.append("said")


def left(event: Event) -> None:
    trace.append(("left", event.type))


def failed(event: Event, error: BaseException) -> None:
    trace.append("failed")


class Handlers:
    @staticmethod
    def said(event: Event) -> None:
        trace.append("Handlers.said")


not_callable = 1


async def live(client: FakeClient) -> None:
    """One message and the end."""
    client.says("x")
    client.leaves()
    await client.over.wait()


# Callbacks.


async def test_positional_callbacks(start: Start) -> None:
    """on_connect, on_message, on_disconnect, in this order."""
    bolt = Bolt()
    bolt.ws("/p", joined, said, left)
    await live(start(bolt).connect())
    assert trace == [("joined", "connect"), "said", ("left", "disconnect")]


async def test_decorators(start: Start) -> None:
    """They register what they decorate, and give it back."""
    bolt = Bolt()
    chat = bolt.ws("/p")
    assert chat.on_connect(joined) is joined
    assert chat.on_message(said) is said
    assert chat.on_disconnect(left) is left
    assert chat.on_before(said) is said
    assert chat.on_after(said) is said
    assert bolt.on_before(said) is said
    assert bolt.on_after(said) is said
    assert bolt.on_error(failed) is failed
    await live(start(bolt).connect())
    assert len(trace) == 3 + 2 + 4 + 4  # connect's befores are the handshake's


@pytest.mark.parametrize("none", ["", None])
async def test_no_callback(start: Start, none: Any) -> None:
    """None and the empty name stand for none; a decorator may still follow."""
    bolt = Bolt()
    chat = bolt.ws("/p", none, said, none)
    chat.on_disconnect(left)
    await live(start(bolt).connect())
    assert trace == ["said", ("left", "disconnect")]


async def test_names(start: Start) -> None:
    """Looked up in the module that registers, with dots, or imported from another one."""
    bolt = Bolt()
    bolt.ws("/p", "joined", "Handlers.said", f"{__name__}:left")
    bolt.ws("/q", None, f"{__name__}:Handlers.said").before("said")
    flow = start(bolt)
    await live(flow.connect())
    await live(flow.connect("/q"))
    assert trace == [
        ("joined", "connect"),
        "Handlers.said",
        ("left", "disconnect"),
        *["said", "Handlers.said", "said"],
    ]


async def test_names_are_looked_up_at_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a callback may be defined below its endpoint."""
    bolt = Bolt()
    bolt.ws("/p", None, "defined_later")
    monkeypatch.setitem(globals(), "defined_later", noting("later"))
    await live(start(bolt).connect())
    assert trace == ["later"]


@pytest.mark.parametrize("place", ["ws", "before", "after", "bolt.before", "bolt.after"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", f"is not defined in module '{__name__}'"),
        ("Handlers.nowhere", "is not defined in module"),
        ("not_callable", "is int, not a callable"),
        ("nowhere:f", "there is no module 'nowhere'"),
        ("boltws.nowhere:f", "there is no module 'boltws.nowhere'"),
        (":f", ""),
        (".nowhere:f", f"write the whole name, '{__package__}.nowhere:f'"),
        ("..nowhere:f", "there is no module '..nowhere'"),
        (f"{__name__}:nowhere", "has no attribute 'nowhere'"),
        (f"{__name__}:not_callable", "is int, not a callable"),
    ],
)
async def test_a_name_that_leads_nowhere(name: str, why: str, place: str) -> None:
    """It stops the start with an error that names it and where it was registered."""
    bolt = Bolt()
    chat = bolt.ws("/p/{x}", None, name if place == "ws" else None)
    if place == "before":
        chat.before(name)
    elif place == "after":
        chat.after(name)
    elif place.startswith("bolt"):
        getattr(bolt, place.removeprefix("bolt."))(name)
    with pytest.raises(ConfigurationError) as caught:
        bolt._runtime.start()
    message = str(caught.value)
    assert repr(name) in message
    assert why in message
    assert ("Bolt" if place.startswith("bolt") else "/p/{x}") in message
    assert not bolt._runtime.started


async def test_a_module_that_fails_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises is not taken for a missing name."""
    broken = ModuleType("broken")

    def __getattr__(name: str) -> Any:  # noqa: N807  the module's own
        raise AttributeError(name)

    vars(broken)["__getattr__"] = __getattr__
    monkeypatch.setitem(sys.modules, "broken", broken)
    bolt = Bolt()
    bolt.ws("/p", "broken:f")
    with pytest.raises(ConfigurationError, match="module 'broken' has no attribute 'f'"):
        bolt._runtime.start()


async def test_a_start_that_failed_can_be_mended(start: Start) -> None:
    """Nothing is half sealed: the missing endpoint, name or before can be added, and it starts."""
    bolt = Bolt()
    bolt.ws("/p").before("mended")
    with pytest.raises(ConfigurationError):
        bolt._runtime.start()
    globals()["mended"] = noting("mended")
    try:
        bolt.ws("/q", None, "said")
        await live(start(bolt).connect("/q"))
    finally:
        del globals()["mended"]
    assert trace == ["said"]


@pytest.mark.parametrize("callback", [1, [], object(), b"said"])
def test_what_is_no_callback(callback: Any) -> None:
    """It raises where it is registered, and leaves no endpoint behind."""
    bolt = Bolt()
    for register in (
        lambda: bolt.ws("/p", callback),
        lambda: bolt.before(callback),
        lambda: bolt.after(callback),
        lambda: bolt.on_before(callback),
        lambda: bolt.ws("/x", None, callback),
        lambda: bolt.ws("/x", None, None, callback),
    ):
        with pytest.raises(ConfigurationError, match="must be a callable or a name"):
            register()
    assert isinstance(bolt.ws("/x"), Endpoint)
    assert isinstance(bolt.ws("/p"), Endpoint)


def test_an_endpoint_is_no_decorator() -> None:
    """Nor is `bolt.ws`, as other frameworks' routes are: the error says how it is written."""
    bolt = Bolt()
    with pytest.raises(ConfigurationError, match=r"ws\('/p'\) is no decorator: .*@chat.on_message"):

        @bolt.ws("/p")
        def chat(event: Event) -> None: ...

    with pytest.raises(ConfigurationError, match=r"bolt.ws is no decorator: .*@chat.on_message"):
        bolt.ws(said)  # type: ignore[arg-type]


def test_an_endpoint_is_no_callback() -> None:
    """Though it can be called, to say what it is not."""
    bolt = Bolt()
    chat = bolt.ws("/p")
    with pytest.raises(ConfigurationError, match="must be a callable or a name"):
        chat.on_message(chat)
    with pytest.raises(ConfigurationError, match="http must be an ASGI app"):
        Bolt(http=chat)


def test_a_callback_that_takes_too_much() -> None:
    """Too, with its name and signature."""
    with pytest.raises(ConfigurationError, match="must take the event or nothing"):
        Bolt().ws("/p", lambda event, more: None)


def test_one_callback_of_a_kind() -> None:
    """A second one would be lost in silence."""
    chat = Bolt().ws("/p", None, said)
    with pytest.raises(ConfigurationError, match="'/p' has an on_message already"):
        chat.on_message(left)


# Middleware.


async def test_the_order(start: Start) -> None:
    """Bolt's befores, the endpoint's, the handler, the endpoint's afters, Bolt's; each in the
    order of registration, wherever in the file."""
    bolt = Bolt()
    chat = bolt.ws("/p", None, noting("handler"))
    assert chat.after(noting("after 1")).after(noting("after 2")) is chat
    assert bolt.after(noting("bolt's after")).before(noting("bolt's before 1")) is bolt
    assert chat.before(noting("before 1")).before(noting("before 2")) is chat
    bolt.before(noting("bolt's before 2"))
    client = start(bolt).connect()
    trace.clear()
    client.says("x")
    assert trace == [
        "bolt's before 1",
        "bolt's before 2",
        "before 1",
        "before 2",
        "handler",
        "after 1",
        "after 2",
        "bolt's after",
    ]


@pytest.mark.parametrize("callbacks", [0b000, 0b001, 0b010, 0b100, 0b111])
async def test_middleware_runs_for_every_event(start: Start, callbacks: int) -> None:
    """Whether or not the endpoint has a callback for it: one without on_connect is guarded too."""
    bolt = Bolt()
    names = ["on_connect", "on_message", "on_disconnect"]
    given: Any = {name: noting(name) for bit, name in enumerate(names) if callbacks >> bit & 1}
    chat = bolt.ws("/p", **given)
    chat.before(lambda event: trace.append(("before", event.type)))
    chat.after(lambda event: trace.append(("after", event.type)))
    flow = start(bolt)
    client, event = flow.client("/p")
    client.channel.endpoint.before_connect(event)
    flow.hub.add(client)
    client.channel.connected(client, event)
    await live(client)
    wanted: list[Any] = []
    for name in names:
        kind = name.removeprefix("on_")
        wanted += [("before", kind), *([name] if name in given else []), ("after", kind)]
    assert trace == wanted


async def test_middleware_is_its_endpoints_own(start: Start) -> None:
    """Others run without it."""
    bolt = Bolt()
    bolt.ws("/p").before(noting("p's"))
    bolt.ws("/q", None, said)
    await live(start(bolt).connect("/q"))
    assert trace == ["said"]


# Sealed.


def additions(bolt: Bolt, chat: Endpoint) -> dict[str, Callable[[], Any]]:
    return {
        "ws": lambda: bolt.ws("/new"),
        "bolt.before": lambda: bolt.before(said),
        "bolt.after": lambda: bolt.after(said),
        "bolt.on_before": lambda: bolt.on_before(said),
        "bolt.on_after": lambda: bolt.on_after(said),
        "bolt.on_error": lambda: bolt.on_error(failed),
        "before": lambda: chat.before(said),
        "after": lambda: chat.after(said),
        "on_before": lambda: chat.on_before(said),
        "on_after": lambda: chat.on_after(said),
        "on_connect": lambda: chat.on_connect(said),
        "on_message": lambda: chat.on_message(said),
        "on_disconnect": lambda: chat.on_disconnect(said),
        "where": lambda: chat.where("x", "."),
    }


@pytest.mark.parametrize("addition", additions(Bolt(), Bolt().ws("/p/{x}")))
async def test_nothing_is_added_after_the_start(start: Start, addition: str) -> None:
    """It raises, where it would be ignored otherwise; after the stop it may be added again."""
    bolt = Bolt()
    add = additions(bolt, bolt.ws("/p/{x}"))[addition]
    flow = start(bolt)
    with pytest.raises(AlreadyStarted):
        add()
    await flow.end()
    add()


def test_an_endpoint_says_which_it_is() -> None:
    """In a debugger, and as `event.path` does."""
    chat = Bolt().ws("/p/{x}")
    assert repr(chat) == "<Endpoint '/p/{x}'>"
    assert chat.path == "/p/{x}"
    assert chat.where("x", "[a-z]+") is chat
