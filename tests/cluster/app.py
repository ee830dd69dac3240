"""What the nodes of these tests serve: a chat, and an endpoint that does as it is told."""

import inspect
import json
import os
from dataclasses import fields
from operator import attrgetter
from typing import Any

from boltws import Bolt, Event

bolt = Bolt(health=True, **json.loads(os.environ.get("TEST_OPTIONS", "{}")))
chat = bolt.ws("/chat/{room}")
say = bolt.ws("/say")


@chat.on_connect
async def joined(event: Event) -> None:
    """Say its id to the client: from then on it hears whatever is said in the room."""
    await bolt.cluster.room_join(event.params["room"], event.client_id)
    event.reply(f"joined {event.client_id}")


@chat.on_message
def said(event: Event) -> None:
    room = event.params["room"]
    if event.is_binary:
        bolt.ws_room_broadcast_binary(room, event.binary)
    else:
        bolt.ws_room_broadcast(room, event.message)


@say.on_message
async def told(event: Event) -> None:
    """Call something of `bolt` by its name: ``{"number": 1, "call": "ws_send_to", "with": [...]}``.
    What it gives goes back under the number, or what it raised."""
    order = event.json()
    answer: dict[str, Any] = {"to": order["number"]}
    try:
        result = NAMED.get(order["call"]) or attrgetter(order["call"])(bolt)
        result = result(*order["with"], **order["and"])
        answer["result"] = await result if inspect.isawaitable(result) else result
    except Exception as error:
        answer["raised"] = f"{type(error).__name__}: {error}"
    event.reply(json.dumps(answer))


def stats() -> dict[str, Any]:
    snapshot = bolt.stats()
    books = {field.name: getattr(snapshot, field.name) for field in fields(snapshot)}
    return {name: value if isinstance(value, int) else dict(value) for name, value in books.items()}


NAMED = {"stats": stats, "pid": os.getpid}
