"""Bolt: what people call."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, Unpack

from .cluster import Cluster
from .endpoint import Endpoint, Reference, caller_namespace
from .errors import Close, ConfigurationError, StartError, check_close
from .event import Event, Headers, current_event
from .frames import binary_frame, text_frame
from .hub import check_id, check_room
from .ledger import Stats
from .loading import is_asgi_app, serves
from .options import BoltOptions, EndpointOptions, Options
from .pipeline import Callback, takes_error
from .remote import Backplane
from .runtime import Runtime

F = TypeVar("F", bound=Callback)
E = TypeVar("E", bound=Callable[[Event, BaseException], Any])
Binary = str | bytes | bytearray | memoryview
Exclude = str | Iterable[str]


class Bolt:
    """Event-driven WebSocket endpoints: an ASGI app, with a server of its own.

    ::

        bolt = Bolt()
        chat = bolt.ws("/chat")

        @chat.on_message
        def said(event):
            event.reply(event.message)

        bolt.run(port=3000)

    Args:
        http: an ASGI app for all that is no endpoint of Bolt's, its lifespan included.
        **options: for all endpoints; see :class:`boltws.options.Options` for names and defaults.

    Raises:
        ConfigurationError: an unknown option, or a value out of its range.
    """

    def __init__(self, *, http: Any = None, **options: Unpack[BoltOptions]) -> None:
        if http is not None and not is_asgi_app(http):
            raise ConfigurationError(
                "Bolt(...): http must be an ASGI app, which takes scope, receive and send, "
                f"not {http!r}"
            )
        self.http = http
        self._runtime = Runtime(options, _backplane)
        self._hub = self._runtime.hub
        self.cluster = Cluster(self._hub)

    # Registering: before the start.

    def ws(
        self,
        path: str,
        on_connect: Reference | None = None,
        on_message: Reference | None = None,
        on_disconnect: Reference | None = None,
        **options: Unpack[EndpointOptions],
    ) -> Endpoint:
        """Register an endpoint.

        Args:
            path: ``/chat``, ``/chat/:room``, ``/chat/{room}``, ``/user/{id:int}``,
                ``/files/{rest:path}``.
            on_connect, on_message, on_disconnect: a callable that takes the event or nothing, or
                its name (``"joined"`` in the calling module, ``"package.module:joined"``); None
                or ``""`` for none.
            **options: for this endpoint; see :class:`boltws.options.EndpointOptions`.

        Raises:
            ConfigurationError: a bad path, option or callback, or a path that is taken.
            AlreadyStarted: it is too late.
        """
        namespace = caller_namespace()
        endpoint = self._runtime.add_endpoint(path, options)
        try:
            endpoint.set_callback("on_connect", on_connect, namespace)
            endpoint.set_callback("on_message", on_message, namespace)
            endpoint.set_callback("on_disconnect", on_disconnect, namespace)
        except BaseException:
            self._runtime.endpoints.remove(endpoint)
            raise
        return endpoint

    def before(self, callback: Reference) -> Bolt:
        """Run `callback` before the handlers of all endpoints, for every event. Chainable."""
        self._runtime.middleware.add_before(callback, caller_namespace())
        return self

    def after(self, callback: Reference) -> Bolt:
        """Run `callback` after the handlers of all endpoints, for every event. Chainable."""
        self._runtime.middleware.add_after(callback, caller_namespace())
        return self

    def on_before(self, callback: F) -> F:
        """Decorator: :meth:`before`."""
        self._runtime.middleware.add_before(callback, caller_namespace())
        return callback

    def on_after(self, callback: F) -> F:
        """Decorator: :meth:`after`."""
        self._runtime.middleware.add_after(callback, caller_namespace())
        return callback

    def on_error(self, callback: E) -> E:
        """Decorator: call `callback` with the event and the exception when a callback raised."""
        self._runtime.middleware.check_open()
        takes_error(callback)
        if self._runtime.error_handler is not None:
            raise ConfigurationError("this Bolt has an on_error already")
        self._runtime.error_handler = callback
        return callback

    # The event that is being handled here. Each raises NoEvent where none is.

    def ws_client_id(self) -> str:
        """The id of the event's client, a UUID."""
        return current_event().client_id

    def ws_event_type(self) -> str:
        """``"connect"``, ``"message"`` or ``"disconnect"``."""
        return current_event().type

    def ws_event_message(self) -> str:
        """The text of the message; ``""`` where there is none."""
        return current_event().message

    def ws_event_is_binary(self) -> bool:
        """Whether the message is a binary one."""
        return current_event().is_binary

    def ws_event_binary(self) -> str:
        """The bytes of a binary message in base64; ``event.binary`` gives the bytes."""
        return current_event().base64

    def ws_event_path(self) -> str:
        """The endpoint's path, as registered."""
        return current_event().path

    def ws_param(self, name: str) -> str:
        """The path's parameter `name` as text; ``""`` where there is none."""
        return current_event().client.params.get(name, "")

    def ws_event_abort(self, status: int = 403, reason: str = "", headers: Headers = ()) -> None:
        """In a before: skip handler and afters; in ``connect`` refuse the handshake so.

        See :meth:`Event.abort`.
        """
        current_event().abort(status, reason, headers)

    # Operations on clients, from any thread. Each raises NotRunning before the start and after
    # the stop. With a backplane those that write reach the clients of all nodes; what they return
    # is about this process, and so is what those that read answer.

    def ws_send_to(self, client_id: str, message: str) -> bool:
        """Send a text to one client. Whether it was taken; for a client of another node, whether
        it was published."""
        check_id(client_id)
        return self._hub.send(client_id, text_frame(message))

    def ws_send_binary_to(self, client_id: str, data: Binary) -> bool:
        """Send bytes to one client; a ``str`` is base64. Whether they were taken."""
        check_id(client_id)
        return self._hub.send(client_id, binary_frame(data))

    def ws_close_client(self, client_id: str, code: int = 1000, reason: str = "") -> bool:
        """Close one client's connection. False where there is no such client."""
        check_id(client_id)
        check_close(code, reason)
        return self._hub.close(client_id, Close(int(code), reason))

    def ws_client_list(self) -> list[str]:
        """The ids of all clients of this process; ``bolt.cluster.client_list`` asks all."""
        return self._hub.client_ids()

    def ws_connection_count(self) -> int:
        """How many clients this process has; ``bolt.cluster.connection_count`` asks all."""
        return self._hub.count(None)

    def ws_room_join(self, room: str, client_id: str) -> bool:
        """Put a client into a room, a name of 1 to 1,024 UTF-8 bytes. False for an unknown
        client."""
        check_id(client_id)
        return self._hub.join(room, client_id)

    def ws_room_leave(self, room: str, client_id: str) -> bool:
        """Take a client out of a room. False when it was not in it."""
        check_id(client_id)
        return self._hub.leave(room, client_id)

    def ws_room_members(self, room: str) -> list[str]:
        """The ids of a room's members in this process; ``bolt.cluster.room_members`` asks all."""
        return self._hub.members(room)

    def ws_room_count(self, room: str) -> int:
        """How many members a room has in this process; ``bolt.cluster.room_count`` asks all."""
        check_room(room)
        return self._hub.count(room)

    def ws_room_broadcast(self, room: str, message: str, exclude: Exclude = ()) -> int:
        """Send a text to a room's members, but for the id or ids in `exclude`. How many in this
        process took it."""
        check_room(room)
        return self._hub.broadcast(room, text_frame(message), _ids(exclude))

    def ws_room_broadcast_binary(self, room: str, data: Binary, exclude: Exclude = ()) -> int:
        """Send bytes (a ``str`` is base64) to a room's members. How many in this process took
        them."""
        check_room(room)
        return self._hub.broadcast(room, binary_frame(data), _ids(exclude))

    def ws_broadcast(self, message: str) -> int:
        """Send a text to all clients of all endpoints. How many in this process took it."""
        return self._hub.broadcast(None, text_frame(message))

    def ws_broadcast_binary(self, data: Binary) -> int:
        """Send bytes (a ``str`` is base64) to all clients of all endpoints. How many in this
        process took them."""
        return self._hub.broadcast(None, binary_frame(data))

    async def ws_drain(self, client_id: str) -> bool:
        """Wait until a client is no longer slow. False when it is gone. On the loop only."""
        check_id(client_id)
        return await self._hub.drain(client_id)

    def ws_dropped_count(self) -> int:
        """How many messages were dropped because an event channel was full, since the start."""
        return self._hub.dropped()

    def stats(self) -> Stats:
        """A frozen snapshot of the ledger, at any time, from any thread."""
        return self._hub.stats()

    # Serving.

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Bolt is an ASGI app."""
        from .asgi import serve

        await serve(self._runtime, self.http, scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """For an app that mounts Bolt: ``FastAPI(lifespan=bolt.lifespan)``. Starts Bolt with the
        app, so that a mistake stops the start, and parts with the clients at its end."""
        self._runtime.start(by_lifespan=True)
        try:
            await self._runtime.connected()
            yield
        finally:
            await self._runtime.drain()
            self._runtime.stop()

    def run(
        self,
        host: str = "127.0.0.1",
        port: int = 3000,
        *,
        uds: str | None = None,
        ssl_certfile: str | None = None,
        ssl_keyfile: str | None = None,
        log_level: str = "info",
        access_log: bool = True,
        **unknown: Any,
    ) -> None:
        """Serve until SIGINT or SIGTERM, then part with the clients and return.

        Args:
            host, port: where to listen; port 0 takes a free one.
            uds: the path of a Unix socket to listen on instead.
            ssl_certfile, ssl_keyfile: PEM files, to serve ``wss``.
            log_level: critical, error, warning, info, debug or trace.
            access_log: log each request and handshake.

        Raises:
            SystemExit: it cannot start; one line on standard error says why.
            StartError: `boltws run` is importing the module that calls this.
            TypeError: an argument that there is not.
        """
        if serves.get():
            # It would serve here and now, with other settings, and the command wait for its end.
            module = caller_namespace().get("__name__")
            raise StartError(
                f"module {module!r} calls bolt.run() while it is imported: put it under "
                "if __name__ == '__main__':"
            )
        from .server.run import serve

        for name in unknown:
            if name in ("reload", "workers"):
                raise TypeError(
                    f"bolt.run() has no {name!r}: it needs processes of their own, so it belongs "
                    "to the command `boltws run`"
                )
            raise TypeError(f"bolt.run() got an unexpected keyword argument {name!r}")
        try:
            self._runtime.seal()  # a mistake is told before anything is opened
            serve(
                self,
                host=host,
                port=port,
                uds=uds,
                ssl_certfile=ssl_certfile,
                ssl_keyfile=ssl_keyfile,
                log_level=log_level,
                access_log=access_log,
            )
        except (ConfigurationError, StartError) as error:
            self._runtime.unseal()  # who works by hand may mend it and try again
            sys.stdout.flush()
            raise SystemExit(f"boltws: {error}") from None


def _ids(exclude: Exclude) -> tuple[str, ...]:
    """The ids to leave out, read once."""
    if not exclude:
        return ()
    if isinstance(exclude, str):
        return (exclude,)
    given: object = exclude
    if not isinstance(given, Iterable):
        raise TypeError(f"exclude is a client id or ids, not {type(given).__name__}")
    ids = tuple(exclude)
    for client_id in ids:
        if client_id is not None:  # who is not known yet is left out as well
            check_id(client_id)
    return ids


def _backplane(options: Options) -> Backplane | None:
    """The option's, or the environment's; nothing of NATS is loaded where there is neither."""
    chosen = options.backplane or os.environ.get("BOLTWS_BACKPLANE")
    if not chosen:
        return None
    if not isinstance(chosen, str):
        if options.prefix != Options().prefix:
            raise ConfigurationError(
                "Bolt(...): prefix is for a backplane that is a URL; this one has its own: "
                "NatsBackplane(url, prefix=...)"
            )
        return chosen
    from .backplane.nats import NatsBackplane

    try:
        return NatsBackplane(chosen, prefix=options.prefix)
    except ConfigurationError as error:
        source = "Bolt(backplane=...)" if options.backplane else "BOLTWS_BACKPLANE"
        raise ConfigurationError(f"{source}: {error}") from None
