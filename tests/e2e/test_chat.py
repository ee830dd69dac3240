"""The chat of the reference page, as docs and README show it."""

from __future__ import annotations

from boltws import Bolt, Event

from .conftest import NewBolt, Serve
from .helpers import Journal, recv
from .servers import everywhere


def page_chat(bolt: Bolt) -> Journal:
    """The page's chat, word for word, but for the journal that tells the test who is who."""
    ids = Journal()
    chat = bolt.ws("/chat")

    @chat.on_connect
    def joined(event: Event) -> None:
        ids.note(event.client_id)
        bolt.ws_room_join("chat", event.client_id)
        bolt.ws_send_to(event.client_id, "Welcome!")

    @chat.on_message
    def said(event: Event) -> None:
        bolt.ws_room_broadcast("chat", f"[{event.client_id}] {event.message}")

    @chat.on_disconnect
    def left(event: Event) -> None:
        bolt.ws_broadcast(f"User left: {event.client_id}")

    return ids


@everywhere
async def test_the_pages_chat(new_bolt: NewBolt, serve: Serve) -> None:
    """Who comes is welcomed, what one says all hear, who leaves is named to those who stay."""
    bolt = new_bolt()
    ids = page_chat(bolt)
    served = serve(bolt)
    async with served.connect("/chat") as ann:
        assert await recv(ann) == "Welcome!"
        ann_id = await ids.next()
        async with served.connect("/chat") as ben:
            assert await recv(ben) == "Welcome!"
            ben_id = await ids.next()
            await ann.send("hello")
            assert await recv(ann) == await recv(ben) == f"[{ann_id}] hello"
            await ben.send("hi")
            assert await recv(ann) == await recv(ben) == f"[{ben_id}] hi"
        assert await recv(ann) == f"User left: {ben_id}"


@everywhere
async def test_the_pages_middleware(new_bolt: NewBolt, serve: Serve) -> None:
    """A before that reads the ambient event aborts "unauthorized" and lets all else through."""
    bolt = new_bolt()
    ids = page_chat(bolt)

    def ws_auth_check() -> None:
        if bolt.ws_event_message() == "unauthorized":
            bolt.ws_event_abort()

    bolt.before(ws_auth_check)
    async with serve(bolt).connect("/chat") as ann:
        assert await recv(ann) == "Welcome!"
        ann_id = await ids.next()
        await ann.send("unauthorized")
        await ann.send("hello")
        assert await recv(ann) == f"[{ann_id}] hello"
    assert bolt.stats().aborted == 1
