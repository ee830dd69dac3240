"""The load generator: plain sockets, frames built beforehand, bytes counted instead of parsed.

What a server sends back is known to the byte, so counting is enough to know when it is complete;
every sample's warm-up also compares it byte for byte.
"""

import select
import socket
from collections.abc import Iterable, Sequence

from .peers import HOST

BATCH = 64  # connections opened at once: below the smallest backlog of the servers (aiohttp's 128)
PATIENCE = 20.0  # seconds without a byte until the run is given up
MASK = bytes.fromhex("37fa213d")
PING, PONG = b"\x89\x00", b"\x8a\x80" + MASK  # nothing else that comes has these two bytes

# What Chrome sends for `new WebSocket(...)` from a page of the server's own origin.
HANDSHAKE = """\
GET {path} HTTP/1.1\r
Host: {host}\r
Connection: Upgrade\r
Pragma: no-cache\r
Cache-Control: no-cache\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
Chrome/140.0.0.0 Safari/537.36\r
Upgrade: websocket\r
Origin: http://{host}\r
Sec-WebSocket-Version: 13\r
Accept-Encoding: gzip, deflate, br, zstd\r
Accept-Language: en-GB,en-US;q=0.9,en;q=0.8\r
Cookie: session=4f1c9a7be0d24c3f9b6a58d1e7c20f43; theme=dark; _ga=GA1.1.1204871530.1712345678; \
visits=17\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r
\r
"""
ACCEPT = b"s3pplmbitxaq9kygzzhzrbk+xoo="  # the answer to that key, in lower case


class Failed(Exception):
    """The run itself went wrong: a server that died, was mute, or sent what it should not."""


def masked(text: str) -> bytes:
    """One text frame as a client sends it."""
    data = text.encode()
    assert len(data) < 126
    body = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(data))
    return bytes((0x81, 0x80 | len(data))) + MASK + body


def unmasked(text: str) -> bytes:
    """One text frame as a server sends it."""
    data = text.encode()
    assert len(data) < 126
    return bytes((0x81, len(data))) + data


def close_frame() -> bytes:
    code = bytes((0x03 ^ MASK[0], 0xE8 ^ MASK[1]))  # 1000
    return b"\x88\x82" + MASK + code


def tcp(port: int) -> socket.socket:
    connection = socket.create_connection((HOST, port), PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def greet(connections: Sequence[socket.socket], path: str) -> None:
    """The handshakes of some connections, side by side."""
    for connection in connections:
        host = "{}:{}".format(*connection.getpeername())
        connection.sendall(HANDSHAKE.format(path=path, host=host).encode())
    for connection in connections:
        head = b""
        while b"\r\n\r\n" not in head:
            chunk = connection.recv(4096)
            if not chunk:
                raise Failed(f"{path}: closed during the handshake: {head!r}")
            head += chunk
        head, _, rest = head.lower().partition(b"\r\n\r\n")
        if not head.startswith(b"http/1.1 101 ") or ACCEPT not in head or rest:
            raise Failed(f"{path}: not the expected answer to a handshake: {head!r} {rest!r}")
        if b"permessage-deflate" in head:
            raise Failed(f"{path}: the server compresses, which the others do not")


def connect(port: int, path: str, count: int) -> list[socket.socket]:
    """`count` clients of one path."""
    clients: list[socket.socket] = []
    while len(clients) < count:
        batch = [tcp(port) for _ in range(min(BATCH, count - len(clients)))]
        greet(batch, path)
        clients += batch
    return clients


def receive_text(client: socket.socket, expected: str = "") -> str:
    """Read one text frame of less than 126 bytes, and nothing behind it."""
    got = b""
    while len(got) < 2 or len(got) < 2 + got[1]:
        chunk = client.recv(256)
        if not chunk:
            raise Failed(f"closed, after {got!r}")
        got += chunk
        while got.startswith(PING):
            client.send(PONG)
            got = got[len(PING) :]
    text = got[2:].decode()
    if got != unmasked(text) or (expected and text != expected):
        raise Failed(f"a client got {got!r} instead of {expected!r}")
    return text


class Crowd:
    """Clients that are read together. `pending` maps a descriptor to the bytes it still expects."""

    def __init__(self, clients: Iterable[socket.socket]):
        self.clients = {client.fileno(): client for client in clients}
        self.pending = dict.fromkeys(self.clients, 0)
        self.poll = select.epoll()
        for fd, client in self.clients.items():
            client.setblocking(False)
            self.poll.register(fd, select.EPOLLIN)
        self.buffer = bytearray(1 << 16)

    def wait(self) -> Iterable[int]:
        """The descriptors that can be read."""
        events = self.poll.poll(PATIENCE)
        if not events:
            missing = sum(self.pending.values())
            raise Failed(f"no byte in {PATIENCE:.0f} s; still expected: {missing}")
        return [fd for fd, _ in events]

    def read(self, fd: int) -> int:
        """Read once; how many bytes this client still expects."""
        size = self.clients[fd].recv_into(self.buffer)
        left = self.pending[fd] - size
        if pings := self.buffer.count(PING, 0, size):  # boltws asks after 20 s; its cost counts
            left += pings * len(PING)
            self.clients[fd].send(PONG * pings)
        self.pending[fd] = left
        if not size or left < 0:
            what = bytes(self.buffer[: min(size, 200)])
            raise Failed(f"a client got what it did not expect: {what!r}")
        return left

    def receive(self, size: int) -> None:
        """Every client gets exactly `size` bytes."""
        self.pending = dict.fromkeys(self.clients, size)
        unfinished = len(self.clients)
        while unfinished:
            for fd in self.wait():
                unfinished -= not self.read(fd)

    def compare(self, expected: bytes) -> None:
        """Every client gets exactly these bytes."""
        for client in self.clients.values():
            client.settimeout(PATIENCE)
            got = b""
            while len(got) < len(expected) and (chunk := client.recv(1 << 16)):
                got += chunk
            client.setblocking(False)
            if got != expected:
                raise Failed(f"a client got {got[:200]!r} instead of {expected[:200]!r}")

    def exchange(self, request: bytes, size: int, rounds: int) -> None:
        """Every client sends `request` and reads `size` bytes, again and again.

        `rounds` is the number for each. A client sends again once its answer is complete,
        whatever the others do.
        """
        self.pending = dict.fromkeys(self.clients, size)
        left = dict.fromkeys(self.clients, rounds)
        for client in self.clients.values():
            client.send(request)
        unfinished = len(self.clients)
        while unfinished:
            for fd in self.wait():
                if self.read(fd):
                    continue
                left[fd] -= 1
                if left[fd]:
                    self.pending[fd] = size
                    self.clients[fd].send(request)
                else:
                    unfinished -= 1
