"""The server that is soaked: rooms with talk in them, floods on demand, and an HTTP route that
tells how the process is."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
from pathlib import Path
from typing import Any

from boltws import Bolt, Event

BLOCK = "x" * 16_000
FLOOD = 80  # blocks: above what may be unsent in one turn


async def gauges(scope: Any, receive: Any, send: Any) -> None:
    """Any HTTP request is answered with the figures, as JSON."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
    if scope["type"] != "http":
        return
    stats = bolt.stats()
    body = {
        "rss_kb": memory(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "imbalance": stats.imbalance(),
        "opened": stats.connections_opened,
        "now": stats.connections_now,
        "closing": stats.closing,
        "received": stats.received,
        "sends": stats.sends,
        "running": stats.running,
        "waiting": stats.waiting,
        "rooms": stats.rooms,
        "errors": stats.errors,
        "dropped_in": sum(stats.dropped_in.values()),
        "dropped_out": sum(stats.dropped_out.values()),
        "closed": {str(code): count for code, count in sorted(stats.closed.items())},
        "refused": dict(stats.refused),
    }
    head = {"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]}
    await send(head)
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def memory() -> int:
    """What the process needs in memory, in KB: garbage and what the heap has free are given back
    first, for they come and go by megabytes and would hide a leak."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # a C library that has no such call
        ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0])


bolt = Bolt(http=gauges, close_timeout=2, send_buffer_limit=128 * 1024)
talk = bolt.ws("/talk/{room}", overflow="pause", channel_capacity=16)


@talk.on_connect
def joined(event: Event) -> None:
    event.state.said = 0
    event.join(event.params["room"])


@talk.on_message
def said(event: Event) -> Any:
    event.state.said += 1
    if event.message == "flood":
        for _ in range(FLOOD):
            event.reply(BLOCK)
        return None
    if event.message == "later":
        return answer_later(event)
    if event.message == "close":
        event.close(4000, "as you wish")
        return None
    bolt.ws_room_broadcast(event.params["room"], event.message, exclude=event.client_id)
    event.reply(event.message)
    return None


async def answer_later(event: Event) -> None:
    await asyncio.sleep(0.05)
    event.reply("later")


@talk.on_disconnect
async def left(event: Event) -> None:
    await asyncio.sleep(0)
    for room in event.rooms:
        bolt.ws_room_broadcast(room, "somebody left")
