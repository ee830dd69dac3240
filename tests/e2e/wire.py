"""A WebSocket client by hand: for what no well-behaved client sends."""

from __future__ import annotations

import asyncio
import struct
from typing import NamedTuple

from websockets.frames import Frame, Opcode

from .helpers import PATIENCE
from .servers import Served

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # what RFC 6455, section 1.3, says of this key


class Received(NamedTuple):
    """A frame from the server."""

    opcode: Opcode
    data: bytes
    fin: bool = True


def handshake(served: Served, path: str, **headers: str | None) -> bytes:
    """An upgrade request. A header given replaces the usual one, None leaves it out."""
    fields: dict[str, str | None] = {
        "host": f"127.0.0.1:{served.port}",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": KEY,
    }
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET {served.kind.prefix}{path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def request(served: Served, path: str) -> bytes:
    """A plain HTTP request that leaves the connection open."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode()


def frame(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    """A frame as a client sends it: masked."""
    return Frame(opcode, data, fin).serialize(mask=True)


def text(message: str) -> bytes:
    return frame(Opcode.TEXT, message.encode())


def close(code: int = 1000, reason: str = "") -> bytes:
    return frame(Opcode.CLOSE, struct.pack("!H", code) + reason.encode())


class Wire:
    """A TCP connection to a server; use it as an async context manager."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def __aenter__(self) -> Wire:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._served.port)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass  # the server was rude first: that is for the test to find

    def send(self, *parts: bytes) -> None:
        """All parts at once: in one TCP segment, as far as it is in our hands."""
        self._writer.write(b"".join(parts))

    def abort(self) -> None:
        """End the connection without a word."""
        self._writer.transport.abort()

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and headers of an HTTP answer, names in lower case."""
        async with asyncio.timeout(PATIENCE):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """An HTTP answer with its body, which must tell its length."""
        status, headers = await self.head()
        return status, headers, await self._exactly(int(headers["content-length"]))

    async def upgrade(self, path: str, *behind: bytes, **headers: str | None) -> dict[str, str]:
        """Shake hands; `behind` is sent in the same breath. Gives the answer's headers."""
        self.send(handshake(self._served, path, **headers), *behind)
        status, answer = await self.head()
        assert status == 101, (status, answer)
        return answer

    async def frame(self) -> Received:
        """The next frame, which must be one of a server: without a mask."""
        first, second = await self._exactly(2)
        assert not first & 0x70, "reserved bits are set"
        assert not second & 0x80, "a server does not mask"
        size = second
        if size == 126:
            (size,) = struct.unpack("!H", await self._exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._exactly(8))
        return Received(Opcode(first & 0x0F), await self._exactly(size), bool(first & 0x80))

    async def raw(self, size: int) -> bytes:
        """The next bytes, whatever they are."""
        return await self._exactly(size)

    async def text(self) -> str:
        """The next frame's text."""
        received = await self.frame()
        assert received.opcode is Opcode.TEXT, received
        return received.data.decode()

    async def closing(self) -> tuple[int, str]:
        """The next frame must close: its code and reason."""
        received = await self.frame()
        assert received.opcode is Opcode.CLOSE, received
        if not received.data:
            return 1005, ""
        return struct.unpack("!H", received.data[:2])[0], received.data[2:].decode()

    async def end(self) -> bytes:
        """What still comes until the server ends the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()

    async def _exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(size)
