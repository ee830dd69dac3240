"""No WebSocket server at all: a loop over epoll that answers what the load generator waits for.

It parses nothing and keeps nothing. What it costs is mostly the kernel's, and no server gets
below it: a target that is near to floor / aiohttp says more about the machine than about boltws.
"""

import select
import socket
import sys
from base64 import b64encode
from hashlib import sha1

from ..client import MASK, close_frame, masked, unmasked
from . import HOST, TEXTS, burst

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
ANSWERS = b"".join(map(unmasked, TEXTS))
ASKED, ANSWERED = len(masked(TEXTS[0])), len(unmasked(TEXTS[0]))
CLOSE = close_frame()

clients: dict[int, socket.socket] = {}
paths: dict[int, bytes] = {}
room: list[socket.socket] = []


def greet(client: socket.socket, request: bytes) -> None:
    path = request.split(b" ", 2)[1]
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accept = b64encode(sha1(key + MAGIC).digest())
    client.send(ACCEPTED + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    paths[client.fileno()] = path
    if path == b"/room":
        room.append(client)


def go(frame: bytes) -> None:
    command = bytes(byte ^ MASK[i % 4] for i, byte in enumerate(frame[6:])).decode()
    data = ANSWERS[: len(burst(command)) * ANSWERED]
    for member in room:
        member.send(data)


def close(fd: int) -> None:
    paths.pop(fd, None)
    clients.pop(fd).close()


def main() -> None:
    listener = socket.create_server((HOST, int(sys.argv[1])), backlog=1024)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                client, _ = listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            client = clients[fd]
            try:
                data = client.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if data == CLOSE:
                client.send(b"\x88\x02\x03\xe8")
                close(fd)
            elif not data:
                close(fd)
            elif fd not in paths:
                greet(client, data)
            elif paths[fd] == b"/echo":
                client.send(ANSWERS[: len(data) // ASKED * ANSWERED])
            else:
                go(data)


if __name__ == "__main__":
    main()
