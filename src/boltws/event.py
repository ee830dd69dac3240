"""An event, as callbacks get it, and the event that is being handled right now."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar

from .client import OPENING
from .errors import NO_CODE, Close, NoEvent, NotAborting, check_close, is_whole
from .frames import binary_frame, text_frame
from .request import Request

if TYPE_CHECKING:
    from .client import Client

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

CONNECT, MESSAGE, DISCONNECT = "connect", "message", "disconnect"


class Refusal:
    """How a handshake is refused: an HTTP status, a text and headers."""

    __slots__ = ("headers", "reason", "status")

    def __init__(self, status: int, reason: str, headers: Headers) -> None:
        if not is_whole(status) or not 300 <= status <= 599:
            raise ValueError(f"a refusal's status is 300 to 599, not {status!r}")
        if not isinstance(reason, str):
            raise TypeError(f"a refusal's reason is a str, not {type(reason).__name__}")
        self.status = int(status)  # http.HTTPStatus is one too
        self.reason = reason
        self.headers = check_headers(headers)


def check_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """`headers` ready to go out. Raises ``ValueError`` for what would break the answer's lines."""
    if isinstance(headers, Mapping):
        headers = headers.items()
    checked = []
    for header in headers:
        given: object = header
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ValueError(f"a header is (name, value), not {given!r}")
        name, value = header
        token = isinstance(name, str) and name.isascii() and name.replace("-", "a").isidentifier()
        good = token and isinstance(value, str) and not any(c < " " and c != "\t" for c in value)
        if not good or "\x7f" in value:
            raise ValueError(f"not a header that can be sent: {name!r}: {value!r}")
        checked.append((name.lower().encode(), value.encode("latin-1")))
    return checked


class Event:
    """One event of one client.

    Callbacks get it as their argument; it is ambient as well (``bolt.ws_client_id()`` …).
    What it offers works in threads too.
    """

    __slots__ = ("abortable", "aborted", "client", "data", "thread")

    thread: asyncio.Future[Any]  # set where a blocking callback runs in one

    type: ClassVar[str]
    """``"connect"``, ``"message"`` or ``"disconnect"``."""

    # The hot path makes one of these a message: four stores and nothing else.
    def __init__(self, client: Client, data: str | bytes = "") -> None:
        self.client = client
        self.data = data
        self.aborted: Refusal | None = None
        self.abortable = False

    @property
    def client_id(self) -> str:
        """The client's id, a UUID."""
        return self.client.id

    @property
    def message(self) -> str:
        """The text of the message; ``""`` where there is none."""
        data = self.data
        return data if isinstance(data, str) else ""

    @property
    def is_binary(self) -> bool:
        """Whether the message is a binary one."""
        return not isinstance(self.data, str)

    @property
    def binary(self) -> bytes:
        """The bytes of a binary message; ``b""`` where there are none."""
        data = self.data
        return b"" if isinstance(data, str) else data

    @property
    def base64(self) -> str:
        """The bytes of a binary message in base64."""
        return base64.b64encode(self.binary).decode()

    def json(self) -> Any:
        """The message, text or binary, parsed as JSON. Raises ``ValueError`` where it is none."""
        return json.loads(self.data)

    @property
    def path(self) -> str:
        """The endpoint's path, as it was registered."""
        return self.client.channel.endpoint.path

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the path, converted as its pattern says."""
        converters = self.client.channel.endpoint.pattern.converters
        return {name: converters[name](text) for name, text in self.client.params.items()}

    @property
    def request(self) -> Request:
        """The request that opened the connection."""
        return Request(self.client.request)

    @property
    def state(self) -> State:
        """What the app keeps for this connection, from ``connect`` to ``disconnect``."""
        client = self.client
        if client.user_state is None:
            client.user_state = State()
        return client.user_state

    @property
    def rooms(self) -> tuple[str, ...]:
        """The client's rooms in the order it joined; in ``disconnect``, those that it was in."""
        return tuple(self.client.rooms or ())

    @property
    def response_headers(self) -> list[tuple[str, str]]:
        """In connect befores: a list of ``(name, value)`` that goes out with the 101."""
        raise AttributeError("response_headers exist in the befores of connect only")

    @property
    def close_code(self) -> int:
        """In ``disconnect``: the close code, 1005 where none was given, 1006 where the connection
        was lost. Until then 1005."""
        ended = self.client.ended
        return ended.code if ended else NO_CODE

    @property
    def close_reason(self) -> str:
        """In ``disconnect``: the reason given with the close code."""
        ended = self.client.ended
        return ended.reason if ended else ""

    def reply(self, message: str | bytes | bytearray | memoryview) -> bool:
        """Send to this client: ``str`` as text, bytes-like as binary. Whether it was taken."""
        try:
            frame = text_frame(message) if isinstance(message, str) else binary_frame(message)
        except TypeError:
            raise TypeError(
                f"a message is a str or bytes, not {type(message).__name__}; "
                "json.dumps makes a str of it"
            ) from None
        return self.client.hub.send(self.client.id, frame)

    def join(self, room: str) -> bool:
        """Put this client into `room`. False when it is gone."""
        return self.client.hub.join(room, self.client.id)

    def leave(self, room: str) -> bool:
        """Take this client out of `room`. False when it was not in it."""
        return self.client.hub.leave(room, self.client.id)

    def close(self, code: int = 1000, reason: str = "") -> bool:
        """Close this connection. False when it has ended already."""
        check_close(code, reason)
        return self.client.hub.close(self.client.id, Close(int(code), reason))

    def abort(self, status: int = 403, reason: str = "", headers: Headers = ()) -> None:
        """In a before: skip the rest of the befores, the handler and the afters.

        In ``connect`` the handshake is refused with `status` (300 to 599), `reason` as the
        answer's text, and `headers`. Raises :class:`NotAborting` elsewhere than in a before.
        """
        if not self.abortable:
            raise NotAborting(
                "abort works in a before only: once the handler runs, it is too late; "
                "event.close(code, reason) ends the connection"
            )
        self.aborted = Refusal(status, reason, headers)


class MessageEvent(Event):
    __slots__ = ()
    type = MESSAGE


class ConnectEvent(Event):
    __slots__ = ("_headers", "established")
    type = CONNECT

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.established = False  # `on_connect` has not raised

    @property
    def response_headers(self) -> list[tuple[str, str]]:
        if self.client.state != OPENING:  # the 101 has gone out: nothing would come of it
            return super().response_headers
        if not hasattr(self, "_headers"):
            self._headers: list[tuple[str, str]] = []
        return self._headers


class DisconnectEvent(Event):
    __slots__ = ()
    type = DISCONNECT


class State(dict[str, Any]):
    """A ``dict`` whose items are attributes too: ``event.state.user = user``."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"nothing is kept in state as {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(dict, name):  # it would be kept, and state.items still be the method
            raise AttributeError(f"{name!r} is a method of dict: keep it as state[{name!r}]")
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"nothing is kept in state as {name!r}") from None


_current: ContextVar[Event] = ContextVar("boltws.event")
set_current = _current.set
reset_current = _current.reset


def current_event() -> Event:
    """The event that is being handled here. Raises :class:`NoEvent` where none is."""
    try:
        return _current.get()
    except LookupError:
        raise NoEvent(
            "no event is being handled here: call this in a callback, a before or an after, "
            "or in a task that one of them started"
        ) from None
