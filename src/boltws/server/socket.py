"""A WebSocket as an ASGI app sees it, on our own protocol.

Any ASGI app can be served: it gets ``receive`` and ``send`` (ASGI specification, WebSocket). A
Bolt attaches its client to the wire instead, and the call ends with the handshake.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from ..channel import Channel, size_of
from ..client import CLOSED, FULL, OPEN, Client
from ..errors import GOING_AWAY, NO_CODE, Close, check_close
from ..event import ConnectEvent
from ..frames import binary_frame, text_frame
from ..options import Options
from .deflate import negotiate
from .upgrade import accept, denial
from .wire import Wire
from .wires import Wires

if TYPE_CHECKING:
    from ..endpoint import Endpoint
    from ..runtime import Runtime

logger = logging.getLogger("uvicorn.error")

Message = MutableMapping[str, Any]

_QUEUED = 32  # messages that wait for `receive` before reading pauses
_FOREIGN = Options(max_message_size=16 * 2**20)  # as uvicorn's default is


class Gone(OSError):
    """The peer has disconnected (ASGI, "Disconnected client - send exception")."""


class Lost(asyncio.Transport):
    """Stands for a transport that has closed: uvloop's raise when they are used then."""

    def is_closing(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def _ignore(self, *given: Any, **named: Any) -> None:
        pass

    write = set_protocol = set_write_buffer_limits = _ignore
    pause_reading = resume_reading = close = abort = _ignore


class Inbox:
    """Stands where a Bolt's channel does, and keeps messages until `receive` asks for them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._messages: deque[Message] = deque()
        self._arrived = asyncio.Event()

    def put(self, client: Client, message: str | bytes) -> bool:
        """Take a message; pause reading when many wait."""
        if client.state != OPEN:
            return False
        kind = "text" if isinstance(message, str) else "bytes"
        self._add({"type": "websocket.receive", kind: message})
        client.waiting_bytes += size_of(message)
        if len(self._messages) >= _QUEUED or client.waiting_bytes > self.options.channel_bytes:
            client.hold(FULL)
            return True
        return False

    def disconnected(self, client: Client) -> None:
        """The connection has ended."""
        client.hub.finished(client)
        assert client.ended is not None
        code, reason = client.ended
        self._add({"type": "websocket.disconnect", "code": code, "reason": reason})

    def _add(self, message: Message) -> None:
        self._messages.append(message)
        self._arrived.set()

    async def get(self, client: Client) -> Message:
        """The next message; behind the last one always the disconnect."""
        while not self._messages:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._messages[0]
        if message["type"] == "websocket.receive":
            self._messages.popleft()
            client.waiting_bytes -= size_of(message.get("text") or message.get("bytes") or "")
        if len(self._messages) <= _QUEUED // 2:
            client.release(FULL)
        return message


class Socket:
    """One upgrade, from its request to its end or to the attachment of a client."""

    def __init__(
        self,
        transport: asyncio.Transport,
        wires: Wires,
        key: bytes,
        headers: list[tuple[bytes, bytes]],
        loopback: bool,
        log: Callable[[str], None] | None,
        release: Callable[[], tuple[bytes, bool]],
        part: Callable[[], None],
    ) -> None:
        self.loopback = loopback
        self.server = wires
        self._transport = transport
        self._wires = wires
        self._key = key
        self._headers = headers  # the server's own, for the answer
        self._log = log
        # Lets go of HTTP; gives what came behind the request, and whether the peer is slow.
        self._release = release
        self._part = part  # ends the connection behind an answer
        self._begun = False  # `receive` gave the connect
        self._answered = False
        self._denial: tuple[int, list[tuple[bytes, bytes]], bytes] | None = None
        self._expected: Wire | None = None  # a Bolt's client, to be attached
        self._wire: Wire | None = None  # our own client, for an app that is no Bolt
        self._offers: list[str] = []  # extensions
        self._gone = asyncio.Event()
        self._options = _FOREIGN
        self._registered = False  # with a Bolt, which parts with its clients in its own way

    # The extension `boltws.attach`.

    def register(self, runtime: Runtime, endpoint: Endpoint) -> None:
        """Serve under the options of `endpoint`, and have the server's shutdown part with the
        clients of `runtime` and wait for it."""
        self._registered = True
        self._options = endpoint.options
        self._wires.register(runtime)

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def client(self, runtime: Runtime, endpoint: Endpoint) -> Client:
        """A client of the endpoint, not on the wire yet."""
        timeout = runtime.options.close_timeout
        self._expected = Wire(runtime.hub, endpoint.channel, self._wires, timeout)
        return self._expected

    def attach(self, client: Client, event: ConnectEvent) -> None:
        """Hand the connection over to `client`; the handshake has been answered."""
        assert client is self._expected
        wire, self._expected = self._expected, None
        behind = self._put_on_wire(wire)
        wire.channel.connected(wire, event)
        self._catch_up(wire, behind)

    def _put_on_wire(self, wire: Wire) -> bytes:
        """Let go of HTTP. What came behind the request."""
        wire.limit(self._transport)  # while it is HTTP that is told: a client is not open yet
        behind, slow = self._release()
        wire.take(self._transport)
        wire.hub.add(wire)
        if slow:
            wire.pause_writing()
        return behind

    def _catch_up(self, wire: Wire, behind: bytes) -> None:
        if behind:
            wire.data_received(behind)
        if self._gone.is_set():
            asyncio.get_running_loop().call_soon(wire.connection_lost, None)
        elif not wire.held:
            self._transport.resume_reading()

    # ASGI.

    async def run(self, app: Callable[..., Awaitable[None]], scope: Message) -> None:
        """Call the app, and see to it that the peer gets an answer."""
        self._offers = [
            value.decode("latin-1")
            for name, value in scope["headers"]
            if name == b"sec-websocket-extensions"
        ]
        try:
            await app(scope, self.receive, self.send)
        except Gone:
            pass
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                logger.error("Exception in ASGI application\n", exc_info=error)
                self._give_up(500, 1011)
            else:  # the server stops
                self._give_up(503, 1012)
        else:
            if not self._answered and not self._gone.is_set():
                logger.error("ASGI callable returned without completing handshake.")
            self._give_up(500, 1000)

    def _give_up(self, status: int, code: int) -> None:
        if not self._answered:
            self._deny(status, [], HTTPStatus(status).phrase.encode())
        elif self._wire is not None:
            self._wire.close(Close(code))
        elif self._expected is not None:  # accepted, and never attached
            self._transport.close()

    async def receive(self) -> Message:
        """ASGI's ``receive``."""
        if not self._begun:
            self._begun = True
            return {"type": "websocket.connect"}
        if self._wire is not None:
            return await cast(Inbox, self._wire.channel).get(self._wire)
        await self._gone.wait()
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    async def send(self, message: Message) -> None:
        """ASGI's ``send``."""
        kind = message["type"]
        if self._wire is not None:
            await self._send(self._wire, kind, message)
        elif self._gone.is_set():
            raise Gone("the peer has disconnected")
        elif self._answered:
            raise RuntimeError(f"{kind!r} was sent after the handshake was refused")
        elif self._denial is not None:
            self._continue_denial(kind, message)
        elif kind == "websocket.accept":
            self._accept(message.get("subprotocol"), list(message.get("headers") or ()))
        elif kind == "websocket.close":
            self._deny(403, [], b"")
        elif kind == "websocket.http.response.start":
            self._denial = (message["status"], list(message.get("headers") or ()), b"")
        else:
            raise RuntimeError(f"a handshake is answered first, with an accept, not {kind!r}")

    def _accept(self, subprotocol: str | None, headers: list[tuple[bytes, bytes]]) -> None:
        agreed = negotiate(self._offers) if self._options.compression else None
        if agreed is not None:
            headers.append((b"sec-websocket-extensions", agreed[1].encode()))
        answer = accept(self._key, subprotocol, [*self._headers, *headers])
        self._answered = True
        self._transport.write(answer)
        if self._log is not None:
            self._log("[accepted]")
        wire = self._expected or self._own_wire()
        if agreed is not None:
            wire.inflater = agreed[0]
            wire.deflate = agreed[0].deflate
        if self._expected is None:
            self._catch_up(wire, self._put_on_wire(wire))

    def _own_wire(self) -> Wire:
        """For an app that is no Bolt, or a Bolt that does not attach its clients."""
        inbox = cast(Channel, Inbox(self._options))  # a channel as far as a wire uses one
        wire = _SocketWire(self._wires.foreign, inbox, self._wires, self._options.close_timeout)
        wire.lost = self._wires.keep(self)
        self._wire = wire
        return wire

    def _continue_denial(self, kind: str, message: Message) -> None:
        if kind != "websocket.http.response.body":
            raise RuntimeError(f"the refusal's body is awaited, not {kind!r}")
        assert self._denial is not None
        status, headers, body = self._denial
        body += message.get("body", b"")
        self._denial = (status, headers, body)
        if not message.get("more_body"):
            self._deny(status, headers, body)

    def _deny(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        answer = denial(status, [*self._headers, *headers], body)
        self._answered = True
        self._expected = None
        if self._transport.is_closing():
            return  # nobody is there to be told, and nothing was
        self._transport.write(answer)
        self._part()
        if self._log is not None:
            self._log(str(status))

    async def _send(self, wire: Wire, kind: str, message: Message) -> None:
        if wire.state == CLOSED or (wire.state != OPEN and kind == "websocket.send"):
            raise Gone("the connection has ended")
        if kind == "websocket.send":
            data = message.get("bytes")
            frame = text_frame(message["text"]) if data is None else binary_frame(data)
            while wire.slow:  # others that waited may have sent before us
                if not await wire.hub.drain(wire.id):
                    raise Gone("the connection has ended")
            wire.hub.send(wire.id, frame)
        elif kind == "websocket.close":
            code, reason = message.get("code") or 1000, message.get("reason") or ""
            if code == NO_CODE:  # as a disconnect has it, and an app may pass it on
                code = 1000
            check_close(code, reason)
            wire.close(Close(code, reason))
        else:
            raise RuntimeError(f"a WebSocket is open: {kind!r} cannot be sent")

    # The transport.

    def lost(self) -> None:
        """The peer left during the handshake."""
        self._gone.set()
        self._transport = Lost()

    def shutdown(self) -> None:
        """uvicorn shuts down."""
        if self._wire is not None and not self._registered:
            self._wire.close(GOING_AWAY)


class _SocketWire(Wire):
    """Tells when its transport has closed, as uvicorn waits for that."""

    __slots__ = ("lost",)

    lost: Callable[[], None]

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.lost()
        del self.lost  # it holds the socket, and that us
