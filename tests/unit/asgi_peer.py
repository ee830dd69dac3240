"""The server's side of one ASGI call, written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from boltws.asgi import EXTENSION
from boltws.client import Client
from boltws.endpoint import Endpoint
from boltws.event import ConnectEvent
from boltws.runtime import Runtime

from .flow import FakeClient

Message = dict[str, Any]
DENIAL = "websocket.http.response"


class AsgiPeer:
    """One call of an app: what it was sent, and what it is given to receive."""

    def __init__(
        self,
        app: Any,
        path: str = "/p",
        kind: str = "websocket",
        *,
        headers: Iterable[tuple[bytes, bytes]] = (),
        extensions: Iterable[str] = (DENIAL,),
        **scope: Any,
    ) -> None:
        self.scope = {
            "type": kind,
            "path": path,
            "headers": [(b"host", b"example.com"), *headers],
            "extensions": {name: {} for name in extensions},
            "client": ("203.0.113.7", 4711),
            "server": ("10.0.0.1", 80),
            "scheme": "ws",
            "query_string": b"",
            "root_path": "",
            "subprotocols": [],
            **scope,
        }
        self.sent: list[Message] = []
        self.flows = asyncio.Event()  # while it is not set, `send` waits
        self.flows.set()
        self.failure: BaseException | None = None  # what `send` raises
        self.asked = 0  # how often `receive` was called
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        self.call = asyncio.ensure_future(app(self.scope, self.receive, self.send))

    async def receive(self) -> Message:
        self.asked += 1
        return await self._inbox.get()

    async def send(self, message: Message) -> None:
        await self.flows.wait()
        if self.failure is not None:
            raise self.failure
        self.sent.append(message)
        self._changed.set()

    def give(self, kind: str, **message: Any) -> None:
        """Let the app receive a message."""
        self._inbox.put_nowait({"type": kind, **message})

    async def answers(self, count: int = 1) -> list[Message]:
        """Wait until the app has sent so many messages."""
        while len(self.sent) < count:
            self._changed.clear()
            await self._changed.wait()
        return self.sent

    # A handshake.

    async def connect(self) -> Message:
        """The handshake, up to the first message that answers it."""
        self.give("websocket.connect")
        return (await self.answers())[0]

    async def refused(self) -> tuple[int, dict[bytes, bytes], bytes]:
        """A handshake that is refused: the status, headers and body."""
        await self.connect()
        await self.call
        start, body = self.sent
        assert (start["type"], body["type"]) == (f"{DENIAL}.start", f"{DENIAL}.body")
        return start["status"], dict(start["headers"]), body["body"]

    # A WebSocket.

    def says(self, *messages: str | bytes) -> None:
        for message in messages:
            kind = "text" if isinstance(message, str) else "bytes"
            self.give("websocket.receive", **{kind: message})

    async def leaves(self, code: int = 1000, reason: str = "") -> None:
        """The peer closes; wait until the app is done with it."""
        self.give("websocket.disconnect", code=code, reason=reason)
        await self.call

    @property
    def got(self) -> list[str | bytes]:
        """The messages that went out."""
        sends = [message for message in self.sent if message["type"] == "websocket.send"]
        return [message["text"] if "text" in message else message["bytes"] for message in sends]

    @property
    def closes(self) -> list[tuple[int, str]]:
        closes = [message for message in self.sent if message["type"] == "websocket.close"]
        return [(message["code"], message["reason"]) for message in closes]


class FakeSocket:
    """The extension `boltws.attach`, whose wire is a :class:`FakeClient`."""

    def __init__(self, loopback: bool = False) -> None:
        self.loopback = loopback
        self.server = self
        self.registered: list[Endpoint] = []
        self.attached: list[FakeClient] = []
        self.aborted = 0

    def offer(self) -> dict[str, Any]:
        """What a scope says of it."""
        return {EXTENSION: self, DENIAL: {}}

    def register(self, runtime: Runtime, endpoint: Endpoint) -> None:
        self.registered.append(endpoint)

    def abort(self) -> None:
        self.aborted += 1

    def client(self, runtime: Runtime, endpoint: Endpoint) -> Client:
        return FakeClient(runtime.hub, endpoint)

    def attach(self, client: Client, event: ConnectEvent) -> None:
        assert isinstance(client, FakeClient)
        self.attached.append(client)
        client.hub.add(client)
        client.channel.connected(client, event)
