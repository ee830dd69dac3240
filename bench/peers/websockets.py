"""websockets, without compression and keepalive (aiohttp's server has neither either)."""

import logging
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from . import HOST, burst

members: set[ServerConnection] = set()


async def handler(ws: ServerConnection) -> None:
    assert ws.request is not None
    if ws.request.path == "/echo":
        async for message in ws:
            await ws.send(message)
    elif ws.request.path == "/room":
        members.add(ws)
        try:
            await ws.wait_closed()
        finally:
            members.discard(ws)
    else:
        async for command in ws:
            assert isinstance(command, str)
            for text in burst(command):
                broadcast(members, text)


async def main() -> None:
    port = int(sys.argv[1])
    async with serve(handler, HOST, port, compression=None, ping_interval=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    logging.disable()  # of clients that go without a close frame, as they do when a sample ends
    uvloop.run(main())
