"""Publish to the clients of an app from outside it: a task queue, a script, another service.

What goes out is documented in docs/scaling.md, so that a NATS client in any language can do the
same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from copy import copy
from math import inf
from types import TracebackType
from typing import Unpack

from ..errors import BackplaneError, ConfigurationError, check_close
from ..frames import binary_frame, split, text_frame
from ..hub import check_room
from ..options import make_options
from .outside import Connection
from .settings import URL_VARIABLE, Credentials, Settings
from .subjects import (
    DEFAULT_PREFIX,
    Subjects,
    encode_name,
    is_hashed,
    node_of,
    room_token,
)

ROOM, EXCLUDE, TYPE = "Boltws-Room", "Boltws-Exclude", "Boltws-Type"

CONNECT_TIMEOUT = 5.0

Data = str | bytes | bytearray | memoryview


class Publisher:
    """Publishes from outside, on asyncio. ::

        async with Publisher("nats://token@host") as publisher:
            await publisher.room_broadcast("chat", "hello")

    A call returns when the message is on its way; who heard it is not known. Messages of one
    publisher arrive in the order of the calls, at most once. ``flush()``, and the end of
    ``async with``, wait until the NATS server has them all, and raise when it may not.

    It connects in ``async with``, or at its first call. After that it reconnects by itself for as
    long as it lives, and until it has, each call raises :class:`BackplaneError`: nothing is kept
    for later. It belongs to the event loop it is first used on.

    Args:
        url: as for ``Bolt(backplane=...)``; None: the environment variable ``BOLTWS_BACKPLANE``.
        prefix: the app's.
        connect_timeout: seconds; also how long a call may wait for room on a slow connection.
        credentials: ``user`` and ``password``, ``token``, ``nkey``, ``creds``, ``tls``.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        connect_timeout: float = CONNECT_TIMEOUT,
        **credentials: Unpack[Credentials],
    ) -> None:
        if url is None:
            url = os.environ.get(URL_VARIABLE)
            if not url:
                raise ConfigurationError(f"no backplane: give a URL, or set {URL_VARIABLE}")
        if type(connect_timeout) not in (int, float) or not 0 < connect_timeout < inf:
            raise ConfigurationError(
                f"connect_timeout is a number of seconds above 0, not {connect_timeout!r}"
            )
        self._settings = Settings.of(url, **credentials)
        self._subjects = Subjects(make_options({"prefix": prefix}).prefix)
        self._connect_timeout = connect_timeout
        self._connection = Connection(self._settings, connect_timeout)
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._settings.safe}>"

    async def __aenter__(self) -> Publisher:
        await self._connection.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        else:
            with suppress(BackplaneError):  # the first error is the one to tell
                await self.close()

    # Messages.

    async def room_broadcast(
        self, room: str, message: str, exclude: str | Iterable[str] = ()
    ) -> None:
        """Send a text to all members of a room, but for the client ids in `exclude`."""
        await self._to_room(room, text_frame(message), exclude, {})

    async def room_broadcast_binary(
        self, room: str, data: Data, exclude: str | Iterable[str] = ()
    ) -> None:
        """Send bytes to all members of a room; a ``str`` is base64."""
        await self._to_room(room, binary_frame(data), exclude, _binary())

    async def broadcast(self, message: str) -> None:
        """Send a text to all clients."""
        await self._publish(self._subjects.outside_everyone, text_frame(message), {})

    async def broadcast_binary(self, data: Data) -> None:
        """Send bytes to all clients; a ``str`` is base64."""
        await self._publish(self._subjects.outside_everyone, binary_frame(data), _binary())

    async def send_to(self, client_id: str, message: str) -> None:
        """Send a text to one client. ``ValueError`` for what cannot be a client id."""
        await self._publish(self._client("to", client_id), text_frame(message), {})

    async def send_binary_to(self, client_id: str, data: Data) -> None:
        """Send bytes to one client; a ``str`` is base64."""
        await self._publish(self._client("to", client_id), binary_frame(data), _binary())

    async def close_client(self, client_id: str, code: int = 1000, reason: str = "") -> None:
        """Close one client's connection."""
        check_close(code, reason)
        payload = f"{code} {reason}".rstrip(" ") if reason else str(code)
        await self._connection.publish(self._client("close", client_id), payload.encode(), None)

    # The connection.

    async def flush(self) -> None:
        """Return when the server has taken all that was published so far.

        Raises :class:`BackplaneError` when there is no connection, when one was lost with
        messages on it, or when the server refused one.
        """
        await self._connection.flush()

    async def close(self) -> None:
        """Flush and disconnect. Raises as ``flush()`` does, but is closed all the same; closing
        again does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._connection.uncertain:
                await self._connection.flush()
        finally:
            await self._connection.close()

    def _twin(self) -> Publisher:
        """Another one, with a connection of its own. The arguments are not read again: a variable
        of the environment or a file may be gone."""
        twin = copy(self)
        twin._connection = Connection(self._settings, self._connect_timeout)
        twin._closed = False
        return twin

    async def _written(self) -> None:
        await self._connection.written()

    # Subjects.

    async def _to_room(
        self, room: str, frame: bytes, exclude: str | Iterable[str], headers: dict[str, str]
    ) -> None:
        check_room(room)
        token = room_token(room)
        if is_hashed(token):
            headers[ROOM] = encode_name(room.encode())
        ids = (exclude,) if isinstance(exclude, str) else exclude
        # What is no client id excludes nobody, here as in the app.
        if excluded := ",".join(filter(_is_id, ids)):
            headers[EXCLUDE] = excluded
        await self._publish(self._subjects.outside_room(token), frame, headers)

    def _client(self, verb: str, client_id: object) -> str:
        node = node_of(client_id) if isinstance(client_id, str) else None
        if node is None:
            raise ValueError(f"{client_id!r} is not the id of a client")
        return self._subjects.outside_client(verb, node, str(client_id))

    async def _publish(self, subject: str, frame: bytes, headers: dict[str, str]) -> None:
        if self._closed:
            raise BackplaneError("the publisher is closed")
        await self._connection.publish(subject, split(frame)[1], headers or None)


def _is_id(client_id: object) -> bool:
    return isinstance(client_id, str) and node_of(client_id) is not None


def _binary() -> dict[str, str]:
    return {TYPE: "binary"}
