"""Starlette on a stock uvicorn, with the WebSocket protocol that uvicorn chooses.

Compression and keepalive are off: aiohttp's server has neither.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from . import HOST, burst

members: set[WebSocket] = set()


async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(text)


async def room(ws: WebSocket) -> None:
    await ws.accept()
    members.add(ws)
    try:
        async for _ in ws.iter_text():
            pass
    finally:
        members.discard(ws)


async def control(ws: WebSocket) -> None:
    await ws.accept()
    async for command in ws.iter_text():
        for text in burst(command):
            for member in members:
                await member.send_text(text)


app = Starlette(
    routes=[WebSocketRoute(f"/{view.__name__}", view) for view in (echo, room, control)]
)

if __name__ == "__main__":
    uvicorn.run(
        app,
        host=HOST,
        port=int(sys.argv[1]),
        loop="uvloop",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
    )
