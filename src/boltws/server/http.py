"""Our protocol for uvicorn: its HTTP, our WebSocket.

This is the one file that touches uvicorn's internals. uvicorn's httptools protocol has parsed the
request already; it is subclassed, its scope is taken, and nothing is parsed twice. What is used
of it is checked at start by :func:`contract_broken`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ..asgi import EXTENSION, answer
from ..ledger import Ledger
from ..options import Options
from ..runtime import most_connections, most_told
from .contract import missing
from .logs import handshake_log
from .socket import Socket
from .upgrade import BadUpgrade, asked_for, check_upgrade, denial, split_target, subprotocols
from .wires import wires_of

logger = logging.getLogger("uvicorn.error")

_EXTENSIONS = 12  # of the keep-alive time, for the rest of a body that has been answered
_MOVING = 2**14  # bytes of it that have to come in each; what trickles is not waited for
_INVALID = "Invalid HTTP request received."
_HELD_BACK = 2**16  # bytes that may come behind a request before its handshake is answered


def contract_broken() -> str:
    """What we use of uvicorn's protocol and it does not have; ``""`` when all is there."""
    return missing(HttpToolsProtocol, RequestResponseCycle, FlowControl)


def protocol_class(options: Options, loopback: bool, ledger: Ledger) -> type[HttpToolsProtocol]:
    """uvicorn's HTTP protocol with our WebSocket, under the server's options. What it refuses by
    itself is counted in `ledger`."""
    attributes = {
        "options": options,
        "most": most_connections(options),
        "most_told": most_told(options),
        "loopback": loopback,
        "ledger": ledger,
    }
    return type("BoltProtocol", (_Protocol,), attributes)


class _Protocol(HttpToolsProtocol):
    options: Options
    most: int
    most_told: int
    loopback: bool
    ledger: Ledger

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._wires = wires_of(server_state)
        self._wires.options = self.options
        self._socket: Socket | None = None  # the handshake that is under way
        self._behind = b""  # what came behind the request meanwhile
        self._answering: RequestResponseCycle | None = None  # others may be behind it
        self._asks_for: bytes | None = None  # what the request that is being read upgrades to
        self._head_came = 0  # bytes of its head, while that is not complete
        self._began = False  # in this read
        self._in_body = False  # from the end of a request's head to the end of the request
        self._moved = 0  # bytes that came since the keep-alive timer was set anew
        self._extensions = 0  # how often it was, for one body
        self._chunks = 0  # how many have begun
        self._trailing = 0  # the chunk whose data has not come: it may be the last, before trailers
        self._trailer_size = 0  # bytes of them
        self._refused = False  # an answer was given that ends the connection
        self._parting = False  # from then on, while the peer may still send
        self._ending: asyncio.TimerHandle | None = None  # aborts
        self._full = False  # there are too many connections: its request is refused
        # The server makes its protocols when it accepts, so the time of a TLS handshake counts in.
        self._await_request()
        self._wires.unmade += 1

    # HTTP: its limits.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        wires = self._wires
        if self in wires.pending:
            wires.unmade -= 1
        else:  # it was given up in the moment when its TLS handshake was done
            self._await_request()
        there = wires.attached + len(wires.pending) - wires.unmade
        if wires.stopping or there + wires.parting > self.most_told:
            self.ledger.refused["shutdown" if wires.stopping else "limit"] += 1
            wires.pending.pop(self, None)
            self._refused = True
            transport.abort()
        elif there > self.most:
            # It is told when it asks: an answer to no request is none (RFC 9112, section 9.2).
            # Silent connections would take what others need, so it has to be quick.
            self._full = True
            wires.pending[self] = (self.loop.time(), min(1.0, self.options.handshake_timeout))

    def connection_lost(self, exc: Exception | None) -> None:
        self._wires.pending.pop(self, None)
        if self._ending is not None:
            self._ending.cancel()
        self._wires.parting -= self._parting
        super().connection_lost(exc)
        answering, self._answering = self._answering, None
        if answering is not None and not answering.response_complete:  # uvicorn tells the last one
            self._disconnect(answering)
        if self._socket is not None:
            self._socket.lost()
            self._socket = None  # it holds us

    def _await_request(self) -> None:
        self._head_came = 0
        self._wires.start()
        self._wires.pending[self] = (self.loop.time(), self.options.handshake_timeout)

    def give_up(self) -> None:
        """The request was not complete in time."""
        self._wires.pending.pop(self, None)
        made: asyncio.Transport | None = self.transport
        if made is None:  # the TLS handshake failed, or its own limit ends it
            self._wires.unmade -= 1
            self.ledger.refused["tls"] += 1
            return
        if self._response_in_flight():
            # The rest of the head may wait until we read on, and ending now would cut the response.
            self._wires.pending[self] = (self.loop.time(), self.options.handshake_timeout)
            return
        self.ledger.refused["limit" if self._full else "timeout"] += 1
        logger.info("a request's head was not complete in time")
        self._close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._refused:
            return
        # Not for any bytes, as uvicorn does: blank lines, or a body that nobody waits for, would
        # keep a connection for ever.
        self._unset_keepalive_if_required()
        self._began, self._in_body, self._asks_for = True, False, None
        if self not in self._wires.pending:
            self._await_request()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:
            super().on_header(name, value)
        elif not self._refused:  # a trailer, which no app is given
            self._trailer_size += len(name) + len(value) + 4
            if self._trailer_size > self.options.max_header_size:
                self._refuse_trailers()

    def _head_size(self) -> int:
        """Bytes of the head's lines, as far as they came."""
        lengths = map(len, chain.from_iterable(self.headers))
        return len(self.url) + sum(lengths) + 4 * len(self.headers)

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        # Again: the response before this one may have come to its end since the head began.
        self._unset_keepalive_if_required()
        self._extensions = self._moved = 0
        self._in_body, self._trailing, self._trailer_size = True, 0, 0
        self._wires.pending.pop(self, None)
        if self._head_size() > self.options.max_header_size:
            self._refuse("head_too_large", 431, "Request Header Fields Too Large")
            return
        limit = self.config.limit_concurrency
        if limit is not None:
            # uvicorn counts its own connections; those attached to a wire are connections too.
            wires = self._wires
            self.limit_concurrency = max(0, limit - wires.attached + wires.drainers)
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_chunk_header(self) -> None:
        self._chunks += 1
        self._trailing = self._chunks

    def on_body(self, body: bytes) -> None:
        self._trailing = 0
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body, self._trailing = False, 0
        if not self._refused:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._full:
            self._refuse("limit", 503, "Service Unavailable", [(b"retry-after", b"1")])
            return
        if self._socket is not None:
            self._behind += data
            if len(self._behind) > _HELD_BACK:
                self.transport.pause_reading()
            return
        self._moved += len(data)
        trailing = self._trailing
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._upgrade(data[upgrade.args[0] :])
            else:
                self._unsupported_upgrade_warning()
        except httptools.HttpParserError:
            if not self._refused:
                logger.warning("Invalid HTTP request received.")
                self._drop_body()
                self._refuse("bad_request", 400, _INVALID)
        else:
            # A head that is not complete may not grow without bound. Its last line is in the
            # parser, so reads are counted; of the one that it began in, its lines where another
            # request stands before it.
            if self in self._wires.pending:
                alone = not self._began or self.cycle is None
                self._head_came += len(data) if alone else self._head_size()
                if self._head_came > self.options.max_header_size:
                    self._refuse("head_too_large", 431, "Request Header Fields Too Large")
            elif trailing and trailing == self._trailing and not self._refused:
                # Nor may one trailer, which is in the parser too.
                self._trailer_size += len(data)
                if self._trailer_size > self.options.max_header_size:
                    self._refuse_trailers()
            self._began = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._wires.stopping and self.transport.is_closing():  # it was the last
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came behind the last response; or its request's body is still coming, when the
        answer was an early one. Closing then resets the connection, and the answer is lost with
        peers that read it behind their upload: while that goes on they have some time."""
        if not self._in_body or self.transport.is_closing():
            super().timeout_keep_alive_handler()
        elif self._moved >= _MOVING and self._extensions < _EXTENSIONS:
            self._moved = 0
            self._extensions += 1
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            self._part()

    def _refuse(self, cause: str, status: int, text: str, headers: Any = ()) -> None:
        self._refused = True
        self._wires.pending.pop(self, None)
        self.ledger.refused[cause] += 1
        if self._end_behind_response() or self.transport.is_closing():
            return
        given = [*self.server_state.default_headers, *headers]
        self.transport.write(denial(status, given, text.encode()))
        self._part()

    def _refuse_trailers(self) -> None:
        if self._drop_body():
            self._refuse("head_too_large", 431, "Request Header Fields Too Large")
            return
        self._refused = True
        self.ledger.refused["head_too_large"] += 1
        self.transport.abort()  # an answer has no place any more

    def _drop_body(self) -> bool:
        """The end of the body will not come, and an app would wait for it for ever: one that has
        not begun does not begin, to another the peer has gone. Whether there is a place for an
        answer of ours."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.scope is not self.scope:  # another request's
            return True
        if not self._in_body or cycle.response_complete:
            return False
        if self.pipeline:
            self.pipeline[0] = (cycle, _bad_request)
            return False
        cycle.waiting_for_100_continue = False
        self._disconnect(cycle)
        if cycle.response_started:
            self._part()
            return False
        self.cycle = None  # type: ignore[assignment]
        return True

    @staticmethod
    def _disconnect(cycle: RequestResponseCycle) -> None:
        """To the app that answers it, the peer has gone."""
        cycle.disconnected = True
        cycle.message_event.set()

    def _part(self) -> None:
        """End the connection behind an answer. What the peer still sends is read and thrown away:
        closing with bytes unread would reset the connection, and the answer might be lost."""
        self._refused = True
        self._unset_keepalive_if_required()
        self._behind = b""
        self._wires.parting += 1
        self._parting = True
        if not self.transport.can_write_eof():
            self._close()
            return
        self._end_within(self.options.close_timeout)
        self.transport.resume_reading()
        self.transport.write_eof()

    def _close(self) -> None:
        """Close. Over TLS the peer has to answer that, and is not waited for as long as asyncio
        does; elsewhere what is unsent may take its time."""
        if not self.transport.is_closing():  # a second time would cut it off from its TLS
            self.transport.close()
        if not self.transport.can_write_eof():
            self._end_within(self.options.close_timeout)

    def _end_within(self, seconds: float) -> None:
        if self._ending is None:
            self._ending = self.loop.call_later(seconds, self.transport.abort)

    def _end_behind_response(self) -> bool:
        """Where a response is in flight, close behind it: an answer now would stand before it.
        Whether there is one."""
        if not self._response_in_flight():
            return False
        last = self.pipeline[0][0] if self.pipeline else self.cycle
        last.keep_alive = False
        return True

    def _response_in_flight(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation leaves out None
        return cycle is not None and not (cycle.response_complete and not self.pipeline)

    # WebSocket.

    def _get_upgrade(self) -> bytes:
        if self._asks_for is None:  # the parser's callbacks want to know three times
            self._asks_for = asked_for(self.headers) or b""
        return self._asks_for

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def _upgrade(self, behind: bytes) -> None:
        """The request asks for a WebSocket."""
        if self._refused:
            return
        if self._end_behind_response():
            logger.warning("refused an upgrade behind a request whose response is in flight")
            self.ledger.refused["bad_request"] += 1
            self._refused = True
            return
        method, version = self.scope["method"], self.scope["http_version"]
        try:
            key = check_upgrade(method, version, self.headers)
            scope = self._websocket_scope()
        except BadUpgrade as bad:
            self._refuse("bad_request", bad.status, bad.text, bad.headers)
            return
        limit = self.limit_concurrency
        if limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit):
            logger.warning("Exceeded concurrency limit.")
            self._refuse("busy", 503, "Service Unavailable", [(b"retry-after", b"1")])
            return
        self._behind = behind
        self._socket = Socket(
            self.transport,
            self._wires,
            key,
            self.server_state.default_headers,
            self.loopback,
            self._log_of(scope) if self.access_log else None,
            self._let_go,
            self._part,
        )
        scope["extensions"] = {EXTENSION: self._socket, "websocket.http.response": {}}
        # The last request's is complete.
        self.cycle = self._answering = None  # type: ignore[assignment]
        task = self.loop.create_task(self._socket.run(self.app, scope))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _log_of(self, scope: dict[str, Any]) -> Callable[[str], None]:
        peer = "{}:{}".format(*self.client) if self.client else ""
        return handshake_log(peer, quote(scope["path"]))

    def _websocket_scope(self) -> dict[str, Any]:
        raw_path, query = split_target(self.url)
        path = raw_path.decode("ascii")
        return {
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if self.scheme == "https" else "ws",
            "server": self.server,
            "client": self.client,
            "root_path": self.root_path,
            "path": self.root_path + (unquote(path) if "%" in path else path),
            "raw_path": self.root_path.encode("ascii") + raw_path,
            "query_string": query,
            "headers": self.headers,
            "subprotocols": subprotocols(self.headers),
            "state": self.app_state.copy(),
        }

    def _let_go(self) -> tuple[bytes, bool]:
        """The connection is a WebSocket from now on: nothing of HTTP stays with it. What came
        behind the request, and whether the peer has not read what it asked for before."""
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        behind, self._behind = self._behind, b""
        slow = self.flow.write_paused
        self._socket = None
        self.parser = None  # type: ignore[assignment]  # it holds our callbacks, and we it
        self.flow = None  # type: ignore[assignment]
        self.transport = None  # type: ignore[assignment]
        return behind, slow

    def shutdown(self) -> None:
        """uvicorn shuts down. A handshake comes to its end by itself: it is refused."""
        if self._socket is not None:
            return
        if not self.transport.is_closing():  # as in `_close`
            super().shutdown()
        if self.transport.is_closing():
            self._close()


async def _bad_request(_scope: Any, _receive: Any, send: Any) -> None:
    """In the place of an app whose request came to no end."""
    await answer(send, 400, _INVALID, [])
