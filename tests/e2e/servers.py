"""The kinds of servers the suite runs on, each in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import pytest
import uvicorn
import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server as Granian
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.asyncio import client as websockets_client

from boltws.server.run import build_server

from .helpers import PATIENCE, until

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """A server, and what its side of ASGI cannot tell or do: Bolt can be no better than that."""

    host: str
    """The server: "boltws", "uvicorn", "hypercorn" or "granian"."""
    attach: bool = True
    """Whether a Bolt for it is made with attach=True, the default."""
    mounted: bool = False
    """Whether Bolt lies at /live of a Starlette app that forwards no lifespan."""
    tells_code: bool = True
    """Whether the app gets to know a peer's close code."""
    tells_reason: bool = True
    accept_headers: bool = True
    """Whether headers that the app gives for the 101 go out."""

    @property
    def prefix(self) -> str:
        return "/live" if self.mounted else ""

    @property
    def ours(self) -> bool:
        """Whether the WebSocket protocol is boltws' own."""
        return self.host == "boltws"


KINDS = {
    "boltws": Kind("boltws"),
    "boltws-attach-off": Kind("boltws", attach=False),
    "mount": Kind("boltws", mounted=True),
    "mount-uvicorn": Kind("uvicorn", mounted=True),
    "uvicorn": Kind("uvicorn"),
    # hypercorn reports every close by the peer as 1006.
    "hypercorn": Kind("hypercorn", tells_code=False, tells_reason=False),
    # granian passes the code on, no reason, and none of the headers that go with an accept.
    "granian": Kind("granian", tells_reason=False, accept_headers=False),
}

everywhere = pytest.mark.parametrize("server", list(KINDS), indirect=True)
"""For what holds on any ASGI server."""

ours = pytest.mark.parametrize(
    "server", [name for name, kind in KINDS.items() if kind.ours], indirect=True
)
"""For what holds wherever the protocol is boltws' own: attached, not attached, and mounted."""

attached = pytest.mark.parametrize("server", ["boltws", "mount"], indirect=True)
"""For what only a client on the wire does: over ASGI there are turns of the loop in between."""

with_lifespan = pytest.mark.parametrize(
    "server", [name for name, kind in KINDS.items() if not kind.mounted], indirect=True
)
"""For what needs the server to tell Bolt of its start and stop."""


def mounted(app: App) -> App:
    """`app` at /live of a Starlette app that forwards no lifespan, behind a middleware that signs
    every answer it lets out, a handshake's too."""
    site = Starlette(routes=[Mount("/live", app=app)])

    async def signed(scope: Message, receive: Receive, send: Send) -> None:
        async def sign(message: Message) -> None:
            if message["type"] in (
                "websocket.accept",
                "websocket.http.response.start",
                "http.response.start",
            ):
                message = {
                    **message,
                    "headers": [*message.get("headers", ()), (b"x-signed", b"yes")],
                }
            await send(message)

        await site(scope, receive, sign)

    return signed


class Served:
    """One server in a thread: where it is, what its loop could not handle, and its way down."""

    def __init__(self, app: App, kind: Kind, name: str, tune: Callable[[Any], None]) -> None:
        self.kind = kind
        self.port = 0
        self.loop_errors: list[dict[str, Any]] = []
        self._app = mounted(app) if kind.mounted else app
        self._tune = tune
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._leave: Callable[[], object] = lambda: None
        self.loop: asyncio.AbstractEventLoop
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> Served:
        self.thread.start()
        assert self._ready.wait(PATIENCE), f"{self.kind.host} did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.port}{self.kind.prefix}{path}"

    @property
    def origin(self) -> str:
        """What a page of this server's own sends as its Origin."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self, path: str, **options: Any) -> websockets_client.connect:
        """A client of the `websockets` library, as an async context manager."""
        options.setdefault("max_size", None)
        url = self.url(path)
        return websockets_client.connect(url, proxy=None, ping_interval=None, **options)

    def deaf(self, path: str, **options: Any) -> websockets_client.connect:
        """A client that takes in little, until it is asked for messages."""
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        raw.settimeout(PATIENCE)
        raw.connect(("127.0.0.1", self.port))
        raw.setblocking(False)
        return self.connect(path, sock=raw, max_queue=1, compression=None, **options)

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """A plain HTTP request: status, headers (names in lower case), body."""
        return await asyncio.to_thread(self._get, path, headers)

    def _get(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", self.kind.prefix + path, headers=headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def ask_to_stop(self) -> None:
        """Begin the graceful end; it goes on in the server's own thread."""
        if self.thread.is_alive():
            self._leave()

    def stop(self) -> None:
        """End the server and wait until it has."""
        self.ask_to_stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), f"{self.kind.host} did not stop"
        if self._failure is not None:
            raise self._failure

    @asynccontextmanager
    async def stopping(self) -> AsyncIterator[None]:
        """The server's end goes on inside the block, and behind it has come."""
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(self.stop))
            yield

    def unhandled(self) -> list[dict[str, Any]]:
        """What reached the loop's exception handler, but for what is the server's own mess."""
        if self.kind.host != "hypercorn":
            return self.loop_errors
        # It cancels the tasks of open connections when it stops, and asyncio's streams complain.
        return [e for e in self.loop_errors if "StreamReaderProtocol" not in e["message"]]

    def has_ended_well(self) -> bool:
        return not (self.thread.is_alive() or self._failure or self.unhandled())

    def _run(self) -> None:
        new_loop = asyncio.new_event_loop if self.kind.host == "granian" else uvloop.new_event_loop
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                self.loop = runner.get_loop()
                self.loop.set_exception_handler(self._unhandled)
                runner.run(getattr(self, f"_run_{self.kind.host}")())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.loop_errors.append(context)

    async def _run_boltws(self) -> None:
        server = build_server(self._app, host="127.0.0.1", port=0, access_log=False)
        await self._run_uvicorn_server(server)

    async def _run_uvicorn(self) -> None:
        config = uvicorn.Config(self._app, host="127.0.0.1", port=0, log_config=None)
        await self._run_uvicorn_server(uvicorn.Server(config))

    async def _run_uvicorn_server(self, server: uvicorn.Server) -> None:
        self._tune(server)
        self._leave = lambda: setattr(server, "should_exit", True)
        serving = asyncio.ensure_future(server.serve())
        while not (server.started or serving.done()):
            await asyncio.sleep(0)
        if server.started:
            self.port = server.servers[0].sockets[0].getsockname()[1]
            self._ready.set()
        await serving

    async def _run_hypercorn(self) -> None:
        stop = asyncio.Event()
        self._leave = lambda: self.loop.call_soon_threadsafe(stop.set)
        config = hypercorn.config.Config()
        config.loglevel = "ERROR"
        config.graceful_timeout = 0.5  # it waits for WebSockets without telling them anything
        # Its own handler would print; the records are for whoever watches the logs.
        config.errorlog = logging.getLogger("hypercorn.error")
        self._tune(config)

        async def running() -> None:
            self._ready.set()
            await stop.wait()

        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config.bind = [f"fd://{listener.detach()}"]  # hypercorn's own from now on
        app: Any = self._app
        await hypercorn.asyncio.serve(app, config, shutdown_trigger=running, mode="asgi")

    async def _run_granian(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        server = Granian(
            self._app,
            address="127.0.0.1",
            port=self.port,
            interface=Interfaces.ASGI,
            log_enabled=False,
        )
        self._tune(server)

        def leave() -> None:
            server.interrupt_signal = True
            server.main_loop_interrupt.set()

        self._leave = lambda: self.loop.call_soon_threadsafe(leave)
        serving = asyncio.ensure_future(server.serve())
        # It says nothing when it listens, so the port is asked, from a thread: granian takes
        # the loop's own turn to answer.
        listening = asyncio.ensure_future(asyncio.to_thread(until, self._listens, "listening"))
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        self._ready.set()
        await serving

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
