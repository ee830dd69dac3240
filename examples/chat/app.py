"""A chat: rooms by name, nicknames, and who is there. Page and WebSocket share one port.

Run it, then open http://localhost:3000 in two tabs::

    boltws run examples.chat.app:bolt

Every message is a JSON object with a ``type``. A person is ``{"id", "name"}``.

From the browser::

    {"type": "join", "room", "name"}     enter a room, and leave the one before
    {"type": "say", "text"}

From the server::

    {"type": "welcome", "room", "you", "people"}     the answer to a join
    {"type": "came", "person"}
    {"type": "left", "person"}
    {"type": "said", "person", "text", "at"}         at: milliseconds since 1970
    {"type": "error", "code", "message"}             for this client alone; it stays connected
"""

import json
import time
from pathlib import Path
from typing import Any

from boltws import Bolt, Event

LONGEST_ROOM = LONGEST_NAME = 32
LONGEST_TEXT = 2000

PAGE = Path(__file__).parent / "page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/chat.css": ("chat.css", "text/css; charset=utf-8"),
    "/chat.js": ("chat.js", "text/javascript; charset=utf-8"),
}
HEADERS = [
    (b"cache-control", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


async def page(scope: Any, receive: Any, send: Any) -> None:
    """The page's three files, as an ASGI app. A path is looked up, never opened: no traversal."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})
        return
    if scope["type"] != "http":
        raise RuntimeError(f"nothing here for {scope['type']!r}")  # ASGI's way to say: unsupported
    headers = list(HEADERS)
    if scope["path"] not in FILES:
        status, kind, body = 404, "text/plain; charset=utf-8", b"Not found\n"
    elif scope["method"] not in ("GET", "HEAD"):
        status, kind, body = 405, "text/plain; charset=utf-8", b"Only GET and HEAD\n"
        headers.append((b"allow", b"GET, HEAD"))
    else:
        name, kind = FILES[scope["path"]]
        status, body = 200, (PAGE / name).read_bytes()
    headers += [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


bolt = Bolt(http=page)
chat = bolt.ws("/chat", max_message_size=64 * 1024, rate_limit=(20, 5))

# Who has which name, by client id. The callbacks are plain functions: they run one at a time on
# the event loop, so this needs no lock.
names: dict[str, str] = {}


class Refused(Exception):
    """What the client asked for cannot be had; it is told why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = {"type": "error", "code": code, "message": message}


@chat.on_message
def received(event: Event) -> None:
    try:
        message = parse(event)
        if message.get("type") == "join":
            join(event, message)
        elif message.get("type") == "say":
            say(event, message)
        else:
            raise Refused("type", 'The type must be "join" or "say".')
    except Refused as refused:
        event.reply(json.dumps(refused.answer))


@chat.on_disconnect
def leave(event: Event) -> None:
    """Out of the room, on a join to another or at the end of the connection.

    At the end the client is off the room already, and event.rooms says which it was.
    """
    gone = person(event.client_id)
    names.pop(event.client_id, None)
    for room in event.rooms:
        event.leave(room)
        tell(room, type="left", person=gone)


def join(event: Event, message: dict[str, Any]) -> None:
    room = field(message, "room", LONGEST_ROOM).lower()
    name = field(message, "name", LONGEST_NAME)
    leave(event)
    name = unused(name, bolt.ws_room_members(room))
    # False: the connection ended while this message waited. Nobody came, so nobody is told.
    if not event.join(room):
        return
    names[event.client_id] = name
    me = person(event.client_id)
    people = [person(member) for member in bolt.ws_room_members(room)]
    event.reply(json.dumps({"type": "welcome", "room": room, "you": me, "people": people}))
    tell(room, exclude=event.client_id, type="came", person=me)


def say(event: Event, message: dict[str, Any]) -> None:
    text = field(message, "text", LONGEST_TEXT, lines=True)
    if not event.rooms:
        raise Refused("room", "Join a room first.")
    me = person(event.client_id)
    for room in event.rooms:
        tell(room, type="said", person=me, text=text, at=round(time.time() * 1000))


def parse(event: Event) -> dict[str, Any]:
    try:
        message = event.json()
    except (ValueError, RecursionError):  # RecursionError: a thousand brackets, one in the other
        raise Refused("json", "That is not JSON.") from None
    if not isinstance(message, dict):
        raise Refused("json", "Send a JSON object.")
    return message


def field(message: dict[str, Any], key: str, longest: int, lines: bool = False) -> str:
    """The text under `key`, trimmed, or a Refused that says what is wrong with it."""
    value = message.get(key)
    if not isinstance(value, str) or not seen(value := value.strip()).strip():
        raise Refused(key, f"The {key} is missing.")
    if len(value) > longest:
        raise Refused(key, f"The {key} is too long: at most {longest} characters.")
    if not lines and not seen(value).isprintable():
        raise Refused(key, f"The {key} has characters that cannot be shown.")
    return value


def seen(text: str) -> str:
    """`text` without its joiners: Persian, Hindi and emoji need them, and nobody sees them."""
    return text.translate({0x200C: None, 0x200D: None})


def unused(name: str, members: list[str]) -> str:
    """`name`, or `name (2)` where somebody in the room has it: nobody can pass for another."""
    taken = {seen(names[member]).casefold() for member in members}
    number, free = 1, name
    while seen(free).casefold() in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def person(client_id: str) -> dict[str, str]:
    return {"id": client_id, "name": names.get(client_id, "")}


def tell(room: str, exclude: str | tuple[str, ...] = (), **message: Any) -> None:
    bolt.ws_room_broadcast(room, json.dumps(message), exclude)


if __name__ == "__main__":
    bolt.run(port=3000)
