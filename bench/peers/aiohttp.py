"""aiohttp. Tried and slower: `send_str` for each (1.03), `gather`, a task a member (1.7 to 2).

A frame is sent with `send_frame`, which takes bytes: the text is encoded once for all members.
None of these awaits suspends while the client keeps up, so a burst leaves in one turn.
"""

import sys

import uvloop
from aiohttp import WSMsgType, web

from . import HOST, burst

members: set[web.WebSocketResponse] = set()


async def accept(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    return ws


async def echo(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    async for message in ws:
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
    return ws


async def room(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    members.add(ws)
    try:
        async for _ in ws:
            pass
    finally:
        members.discard(ws)
    return ws


async def control(request: web.Request) -> web.WebSocketResponse:
    ws = await accept(request)
    async for message in ws:
        for text in burst(message.data):
            data = text.encode()
            for member in members:
                await member.send_frame(data, WSMsgType.TEXT)
    return ws


if __name__ == "__main__":
    app = web.Application()
    app.add_routes([web.get(f"/{view.__name__}", view) for view in (echo, room, control)])
    loop = uvloop.new_event_loop()
    web.run_app(app, host=HOST, port=int(sys.argv[1]), access_log=None, print=None, loop=loop)
