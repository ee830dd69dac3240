"""Bolt as an ASGI app: lifespan, HTTP beside it, and the handshake of a WebSocket.

Sources: the ASGI specification (https://asgi.readthedocs.io), its WebSocket message format and
its WebSocket Denial Response extension.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import unquote

from .asgi_client import AsgiClient
from .client import Client
from .endpoint import Endpoint
from .errors import BoltError
from .event import ConnectEvent, Refusal, check_headers, reset_current, set_current
from .origin import Peer
from .pipeline import is_awaitable
from .request import pack, raw_path
from .runtime import Runtime

logger = logging.getLogger("boltws")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EXTENSION = "boltws.attach"
_HANDED = "boltws.handed"  # in a scope: the runtime that may hand it to the app beside it


class Attachment(Protocol):
    """What our own server puts in ``scope["extensions"]["boltws.attach"]``."""

    loopback: bool
    """Whether the server is bound to loopback."""
    server: object
    """What the server is known by."""

    def register(self, runtime: Runtime, endpoint: Endpoint) -> None:
        """Serve under the options of `endpoint`, and have the server's shutdown part with the
        clients of `runtime` and wait for it."""

    def abort(self) -> None:
        """End the connection at once."""

    def client(self, runtime: Runtime, endpoint: Endpoint) -> Client:
        """A client of the endpoint, not on the wire yet."""

    def attach(self, client: Client, event: ConnectEvent) -> None:
        """Hand the connection over to `client`; the handshake has been answered."""


async def serve(
    runtime: Runtime, http: App | None, scope: Scope, receive: Receive, send: Send
) -> None:
    """One ASGI call."""
    kind = scope["type"]
    if scope.get(_HANDED) is runtime:
        http = None  # the app beside us mounts us: what it has no answer for, we have not either
    elif http is not None:
        scope[_HANDED] = runtime
    if kind == "lifespan":
        await _lifespan(runtime, http, scope, receive, send)
        return
    if kind not in ("http", "websocket"):
        raise BoltError(f"an ASGI server sent a scope of unknown type {kind!r}")
    attachment = (scope.get("extensions") or {}).get(EXTENSION)
    try:
        # Done already, but in a mount, where no lifespan reaches.
        runtime.start(server=attachment.server if attachment is not None else None)
    except BoltError as error:
        logger.error("boltws cannot start: %s", error)
        await _fail(kind, scope, receive, send)
        return
    path = _path(scope)
    if runtime.options.health and kind == "http" and path in _HEALTH:
        await _tell_health(runtime, path, send)
        return
    found = runtime.router.match(path)
    if kind == "websocket" and found is not None:
        endpoint, params = found
        await Handshake(runtime, endpoint, params, scope, receive, send).run()
    elif http is not None and not (kind == "http" and found is not None):
        if runtime.options.trusted_proxies:
            _believe(runtime, scope)
        await http(scope, receive, send)
    elif kind == "websocket":
        await receive()
        runtime.hub.ledger.refused["no_endpoint"] += 1
        _tell_of_mount(runtime, raw_path(scope), path)
        await refuse(scope, send, Refusal(404, "no such endpoint", ()))
    elif found is not None:
        await answer(send, 426, "this is a WebSocket endpoint", [(b"upgrade", b"websocket")])
    else:
        await answer(send, 404, "Not Found", [])


def _believe(runtime: Runtime, scope: Scope) -> None:
    """The app beside us sees the peer that a trusted proxy speaks for."""
    peer = Peer(scope, runtime.options.trusted_proxies, False)
    if peer.proxied:
        scope["client"] = peer.address
        scope["scheme"] = peer.scheme if scope["type"] == "websocket" else _OF_HTTP[peer.scheme]


_OF_HTTP = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


def _tell_of_mount(runtime: Runtime, whole: str, path: str) -> None:
    """Who mounts Bolt and registers the whole path gets a 404 for it: say so."""
    if whole == path or (found := runtime.router.match(whole)) is None:
        return
    mount, registered = whole.removesuffix(path), found[0].path
    logger.warning(
        "refused a handshake for %s: under the mount %s the endpoint %s is at %s%s; register it "
        "without the mount's path",
        whole,
        mount,
        registered,
        mount,
        registered,
    )


_HEALTH = ("/healthz", "/readyz")


async def _tell_health(runtime: Runtime, path: str, send: Send) -> None:
    """``/healthz``: this process is alive. ``/readyz``: traffic should be sent here."""
    why = runtime.not_ready() if path == "/readyz" else ""
    no_cache = [(b"cache-control", b"no-store")]
    await answer(send, 503 if why else 200, (why or "ok") + "\n", no_cache)


async def _fail(kind: str, scope: Scope, receive: Receive, send: Send) -> None:
    if kind == "websocket":
        await receive()
        await refuse(scope, send, _FAILED)
    else:
        await answer(send, 500, _FAILED.reason, [])


def _path(scope: Scope) -> str:
    """The path below the mount, percent-encoded."""
    raw = raw_path(scope)
    root = scope.get("root_path", "").rstrip("/")
    if not root or not scope["path"].startswith(root):
        return raw
    end = 0
    while end >= 0:
        end = raw.find("/", end + 1)
        above = unquote(raw[:end] if end > 0 else raw)
        if above == root:
            return raw[end:] if end > 0 else "/"
        if len(above) > len(root):  # or a long path would be decoded once for each of its slashes
            break
    return raw


async def answer(
    send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]], kind: str = "http"
) -> None:
    """One plain-text answer, to a request or (`kind`) to a handshake."""
    body = text.encode()
    head = [(b"content-length", str(len(body)).encode())]
    headers = [header for header in headers if header[0] != b"content-length"]
    if all(name != b"content-type" for name, _ in headers):
        head.append((b"content-type", b"text/plain; charset=utf-8"))
    await send({"type": f"{kind}.response.start", "status": status, "headers": [*head, *headers]})
    await send({"type": f"{kind}.response.body", "body": body})


async def refuse(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Refuse a handshake with a status; servers that cannot send one answer 403."""
    if "websocket.http.response" in (scope.get("extensions") or ()):
        await answer(send, refusal.status, refusal.reason, refusal.headers, "websocket.http")
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": ""})


class Handshake:
    """One WebSocket handshake, from the request to the client on the wire."""

    def __init__(
        self,
        runtime: Runtime,
        endpoint: Endpoint,
        params: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.runtime = runtime
        self.endpoint = endpoint
        self.params = params
        self.scope = scope
        self.receive = receive
        self.send = send
        extensions = scope.get("extensions") or {}
        self.socket: Attachment | None = extensions.get(EXTENSION)
        if self.socket is not None:
            self.socket.register(runtime, endpoint)
        offered = scope.get("subprotocols") or ()
        ours = endpoint.options.subprotocols
        self.subprotocol = next((name for name in ours if name in offered), None)
        # Where clients are attached: None means over ASGI's `receive` and `send`.
        self.wire = self.socket if runtime.options.attach else None

    async def run(self) -> None:
        """Answer the handshake; on other servers than ours, then serve the client to its end."""
        runtime = self.runtime
        runtime.warn_if_not_enforced()
        task = asyncio.current_task()
        assert task is not None
        socket = self.socket
        peer = Peer(
            self.scope,
            runtime.options.trusted_proxies,
            socket.loopback if socket is not None else None,
        )
        with runtime.handshake(task, peer.address):
            accepted = await self._answer(peer)
        if accepted is None:
            return
        client, event = accepted
        if self.wire is not None:
            self.wire.attach(client, event)
        else:
            assert isinstance(client, AsgiClient)
            aborted = await client.run(event, self.receive)
            if aborted and self.socket is not None:
                self.socket.abort()

    async def _answer(self, peer: Peer) -> tuple[Client, ConnectEvent] | None:
        """Accept or refuse; the refused is counted by its cause. None where it was refused."""
        message = await self.receive()
        if message["type"] != "websocket.connect":
            self._count("gone")
            return None
        if refusal := self._unwelcome(peer):
            await refuse(self.scope, self.send, refusal)
            return None
        event = self._event(peer)
        try:
            refusal = await self._befores(event)
            headers = check_headers(event.response_headers) if refusal is None else []
        except BaseException as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                self._count("gone" if self.runtime.accepting else "shutdown")
                raise
            refusal = self._failed(event, error)
        if refusal is None and not self.runtime.accepting:
            self._count("shutdown")
            refusal = _BUSY
        if refusal is not None:
            await refuse(self.scope, self.send, refusal)
            return None
        subprotocol = self.subprotocol
        try:
            await self.send(
                {"type": "websocket.accept", "subprotocol": subprotocol, "headers": headers}
            )
        except OSError:  # the peer left meanwhile (ASGI, "Disconnected client - send exception")
            self._count("gone")
            return None
        except BaseException:
            self._count("error")
            raise
        return event.client, event

    def _unwelcome(self, peer: Peer) -> Refusal | None:
        """The refusal of a handshake that does not even get to the befores."""
        runtime = self.runtime
        if not runtime.accepting:
            self._count("shutdown")
            return _BUSY
        if runtime.is_full(peer.address):
            self._count("limit")
            return _BUSY
        if why := peer.refusal(self.endpoint.options):
            cause, line = why
            self._count(cause)
            logger.warning("refused a handshake for %s: %s", self.endpoint.path, line)
            return Refusal(403, f"{cause} not allowed", ())
        return None

    def _event(self, peer: Peer) -> ConnectEvent:
        endpoint = self.endpoint
        if self.wire is not None:
            client = self.wire.client(self.runtime, endpoint)
        else:
            client = AsgiClient(self.runtime.hub, endpoint.channel, self.send)
        client.request = pack(self.scope, peer.address, self.subprotocol, peer.scheme)
        if self.params:
            client.params = self.params
        return ConnectEvent(client)

    async def _befores(self, event: ConnectEvent) -> Refusal | None:
        token = set_current(event)
        try:
            result = self.endpoint.before_connect(event)
            if result is not None and is_awaitable(result):
                timeout = self.endpoint.options.handler_timeout
                async with asyncio.timeout(timeout):
                    await result
        finally:
            reset_current(token)
        if event.aborted is not None:
            self._count("abort")
        return event.aborted

    def _failed(self, event: ConnectEvent, error: BaseException) -> Refusal:
        """A before raised: fail closed, and tell the peer nothing."""
        self._count("error")
        event.client.channel.report(event, error)
        return _FAILED

    def _count(self, cause: str) -> None:
        self.runtime.hub.ledger.refused[cause] += 1


_FAILED = Refusal(500, "internal server error", ())
_BUSY = Refusal(503, "service unavailable", [("retry-after", "1")])


async def _lifespan(
    runtime: Runtime, http: App | None, scope: Scope, receive: Receive, send: Send
) -> None:
    """Start and stop with the server, and with the app beside us."""
    await receive()
    try:
        runtime.start(by_lifespan=True)
        await runtime.connected()
    except BoltError as error:
        runtime.stop()
        await send({"type": "lifespan.startup.failed", "message": f"boltws: {error}"})
        return
    except Exception:  # raised on, a server might take it for an app that has no lifespan
        message = f"boltws cannot start:\n{traceback.format_exc()}"
        await send({"type": "lifespan.startup.failed", "message": message})
        return
    runtime.warn_if_not_enforced()
    inner = InnerLifespan(http, scope) if http is not None else None
    failure = await inner.start() if inner is not None else None
    if failure is not None:
        runtime.stop()
        await send({"type": "lifespan.startup.failed", "message": failure})
        return
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await runtime.drain()
    runtime.stop()
    failure = await inner.stop() if inner is not None else None
    if failure is None:
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "lifespan.shutdown.failed", "message": failure})


class InnerLifespan:
    """The lifespan of the app beside Bolt, which need not have one."""

    def __init__(self, app: App, scope: Scope) -> None:
        self._events: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._answers: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self._app = app
        self._scope = scope
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str | None:
        """Start it. None when it runs or has no lifespan, else what its failure says."""
        self._task = asyncio.create_task(self._run())
        # Frameworks raise what they have reported already.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await self._tell("startup")

    async def stop(self) -> str | None:
        """Stop it. None when all is well, else what its failure says."""
        return await self._tell("shutdown")

    async def _run(self) -> None:
        # Without an answer to startup an exception means "no lifespan here" (ASGI, Lifespan).
        await self._app(self._scope, self._events.get, self._answers.put)

    async def _tell(self, phase: str) -> str | None:
        assert self._task is not None
        if self._task.done():
            return None
        await self._events.put({"type": f"lifespan.{phase}"})
        answer = asyncio.ensure_future(self._answers.get())
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            error = None if self._task.cancelled() else self._task.exception()
            if error is not None and phase == "shutdown":
                logger.error("the http app's lifespan raised", exc_info=error)
            return None
        message = answer.result()
        if message["type"].endswith(".failed"):
            return str(message.get("message") or f"the http app's {phase} failed")
        return None
