"""The lifespan: Bolt starts and stops with its server, and so does the app beside it."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boltws import Bolt, NotRunning

from .asgi_peer import AsgiPeer, Message
from .conftest import Errors
from .flow import Flow, turns


class Inner:
    """An app with a lifespan: what it answers, and what it does then."""

    def __init__(
        self,
        startup: str = "complete",
        shutdown: str = "complete",
        raises: tuple[str, ...] = (),
    ) -> None:
        self.answers = {"startup": startup, "shutdown": shutdown}
        self.raises = raises
        self.seen: list[str] = []
        self.scope: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scope = scope
        for phase in ("startup", "shutdown"):
            message = await receive()
            assert message == {"type": f"lifespan.{phase}"}
            self.seen.append(phase)
            if f"before {phase}" in self.raises:
                raise RuntimeError("inner")
            answer = self.answers[phase]
            await send({"type": f"lifespan.{phase}.{answer}", "message": "inner's words"})
            if f"after {phase}" in self.raises:
                raise RuntimeError("inner")
            if answer == "failed":
                return


def lifespan(app: Any, **scope: Any) -> AsgiPeer:
    """A server that has begun the app's lifespan."""
    peer = AsgiPeer(app, "", "lifespan", **scope)
    peer.give("lifespan.startup")
    return peer


async def shutdown(peer: AsgiPeer) -> Message:
    """The server's stop: the app's answer."""
    peer.give("lifespan.shutdown")
    await peer.call
    return peer.sent[-1]


def chat(**options: Any) -> Bolt:
    bolt = Bolt(**options)
    bolt.ws("/p")
    return bolt


# Bolt alone.


async def test_it_starts_and_stops_with_the_server() -> None:
    """Operations work from the startup's answer to the shutdown's end; clients are parted with."""
    left: list[int] = []
    bolt = Bolt()
    bolt.ws("/p", None, None, lambda event: left.append(event.close_code))
    peer = lifespan(bolt)
    assert (await peer.answers())[0] == {"type": "lifespan.startup.complete"}
    flow = Flow(bolt)
    client = flow.connect()
    assert bolt.ws_client_list() == [client.id]
    assert await shutdown(peer) == {"type": "lifespan.shutdown.complete"}
    assert client.closes == [(1012, "service restart")]
    assert left == [1012]
    with pytest.raises(NotRunning):
        bolt.ws_client_list()


async def test_a_mistake_stops_the_start() -> None:
    """A name that is not found: the server is told, with the name, and nothing has started."""
    bolt = Bolt()
    bolt.ws("/p", "nowhere")
    peer = lifespan(bolt)
    await peer.call
    (answer,) = peer.sent
    assert answer["type"] == "lifespan.startup.failed"
    assert answer["message"].startswith("boltws: on_connect of '/p' 'nowhere' is not defined")
    assert not bolt._runtime.started


async def test_a_module_that_cannot_be_imported_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As well: an exception instead of an answer would mean "no lifespan here" to the server,
    which would then serve a Bolt that cannot."""
    (tmp_path / "broken_handlers.py").write_text("import module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    bolt = Bolt()
    bolt.ws("/p", "broken_handlers:joined")
    peer = lifespan(bolt)
    await asyncio.wait([peer.call])
    assert peer.call.exception() is None
    assert [message["type"] for message in peer.sent] == ["lifespan.startup.failed"]
    sys.modules.pop("broken_handlers", None)


async def test_a_server_may_start_it_again() -> None:
    """One lifespan after the other, on the same loop."""
    bolt = chat()
    for _ in range(2):
        peer = lifespan(bolt)
        await peer.answers()
        assert bolt.ws_client_list() == []
        assert (await shutdown(peer))["type"] == "lifespan.shutdown.complete"


# With an app beside it.


async def test_the_http_apps_lifespan_is_run() -> None:
    """It is started with Bolt, in the server's own scope (its `state` is what requests see), and
    stopped behind it."""
    inner = Inner()
    left: list[list[str]] = []
    bolt = Bolt(http=inner)
    bolt.ws("/p", None, None, lambda: left.append(list(inner.seen)))
    peer = lifespan(bolt, state={})
    assert (await peer.answers())[0] == {"type": "lifespan.startup.complete"}
    assert inner.seen == ["startup"]
    assert inner.scope["state"] is peer.scope["state"]
    Flow(bolt).connect()
    assert await shutdown(peer) == {"type": "lifespan.shutdown.complete"}
    assert inner.seen == ["startup", "shutdown"]
    assert left == [["startup"]]  # a disconnect may still use what the app has open


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    """No lifespan, and no word of it."""


async def asserts_http(scope: Any, receive: Any, send: Any) -> None:
    """No lifespan, as many apps have it."""
    assert scope["type"] == "http"


async def raises_later(scope: Any, receive: Any, send: Any) -> None:
    """No lifespan, though it listened to it."""
    await receive()
    await asyncio.sleep(0)
    raise RuntimeError("I know of no lifespan")


@pytest.mark.parametrize("inner", [returns_at_once, asserts_http, raises_later])
async def test_an_http_app_without_a_lifespan(inner: Callable[..., Any]) -> None:
    """Whichever way it shows, that is no error, and nothing is told to it later."""
    stray = strays()
    bolt = chat(http=inner)
    peer = lifespan(bolt)
    assert (await peer.answers())[0] == {"type": "lifespan.startup.complete"}
    assert bolt.ws_client_list() == []
    assert await shutdown(peer) == {"type": "lifespan.shutdown.complete"}
    assert stray() == []


@pytest.mark.parametrize("raises", [(), ("after startup",)])
async def test_an_http_app_that_cannot_start(raises: tuple[str, ...]) -> None:
    """Its words go to the server, and Bolt does not stay behind. Starlette raises behind its
    answer: that error has been told, and is not "never retrieved"."""
    stray = strays()
    bolt = chat(http=Inner(startup="failed", raises=raises))
    peer = lifespan(bolt)
    await peer.call
    assert peer.sent == [{"type": "lifespan.startup.failed", "message": "inner's words"}]
    assert not bolt._runtime.started
    del peer
    assert stray() == []


@pytest.mark.parametrize("raises", [(), ("after shutdown",)])
async def test_an_http_app_that_cannot_stop(raises: tuple[str, ...]) -> None:
    """Its words go to the server; Bolt has stopped."""
    stray = strays()
    bolt = chat(http=Inner(shutdown="failed", raises=raises))
    peer = lifespan(bolt)
    await peer.answers()
    assert await shutdown(peer) == {
        "type": "lifespan.shutdown.failed",
        "message": "inner's words",
    }
    assert not bolt._runtime.started
    del peer
    assert stray() == []


async def test_an_http_app_that_raises_at_the_end(logged: Errors) -> None:
    """That is logged, and the stop goes on."""
    bolt = chat(http=Inner(raises=("before shutdown",)))
    peer = lifespan(bolt)
    await peer.answers()
    assert await shutdown(peer) == {"type": "lifespan.shutdown.complete"}
    assert ["RuntimeError: inner" in text for text in logged.texts()] == [True]


async def test_an_http_app_that_ends_too_early() -> None:
    """It said that it had started and then returned: there is nobody to tell the end to."""

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    bolt = chat(http=inner)
    peer = lifespan(bolt)
    assert (await peer.answers())[0] == {"type": "lifespan.startup.complete"}
    await turns()
    assert await shutdown(peer) == {"type": "lifespan.shutdown.complete"}


def strays() -> Callable[[], list[Any]]:
    """Errors that nobody asked for, of tasks that are gone."""
    found: list[Any] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.append(context["message"]))

    def collect() -> list[Any]:
        gc.collect()
        return found

    return collect
