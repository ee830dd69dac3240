"""The opening handshake: whatever a connection begins with, over uvicorn's parser and our checks.

The first byte of an input says how the rest is cut into reads, how small the limits are, and
whether it comes through a trusted proxy.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from uvicorn.config import Config
from uvicorn.server import ServerState

from boltws import Bolt, Event
from boltws.server.http import protocol_class
from boltws.server.wires import wires_of

from ..unit.fakes import FakeTransport, in_virtual_time, passing
from ..unit.server.helpers import read_frames
from .reader import cut

PROXY = "127.0.0.1"  # nobody comes to loopback from elsewhere
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
KEY = re.compile(rb"(?im)^sec-websocket-key:[ \t]*([^\r\n]*?)[ \t]*\r?$")
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n")
CLEAN = re.compile(rb"GET [!-~]+ HTTP/1\.1\r\n(?:[-\w]+:[ -~]*\r\n)*\r\n")


class Transport(FakeTransport):
    """From the proxy's address."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer's address, and nothing else."""
        return (PROXY, 4711) if name == "peername" else default


class Outcome(NamedTuple):
    """What a connection's first bytes came to."""

    first: int  # the first answer's status, 0 where there is none
    frames: list[Any]  # the server's, behind a 101


def check(data: bytes) -> None:
    """One answer at most opens a WebSocket, whatever way the bytes come, and only a right one."""
    logging.disable()
    if not data:
        return
    how, stream = data[0], data[1:]
    pieces = cut(stream, how >> 2)
    options: dict[str, Any] = {"trusted_proxies": [PROXY] if how & 2 else []}
    if how & 1:  # where exactly the limit is met depends on the reads
        _play(pieces, max_header_size=256, **options)
        return
    whole = _play([stream] if stream else [], **options)
    split = _play(pieces, **options)
    # Of requests in a row uvicorn answers those that came in one read otherwise than those that
    # came in several. A WebSocket is opened in both or in none.
    assert (whole.first == 101) == (split.first == 101), (whole, split)
    if whole.first == 101:
        assert whole.frames == split.frames
        _assert_allowed(stream, proxied=bool(how & 2))


def measure(event: Event) -> None:
    """An answer too small to be compressed, and made with all that a request can tell."""
    request = event.request
    told = (request.path, request.query, request.cookies, request.client, request.subprotocols)
    assert all(part is not None for part in told)
    event.reply(str(len(event.binary or event.message)))


def _play(reads: list[bytes], **options: Any) -> Outcome:
    outcome: list[Outcome] = []
    _serve(reads, options, outcome)
    return outcome[0]


@in_virtual_time
async def _serve(reads: list[bytes], options: dict[str, Any], outcome: list[Outcome]) -> None:
    bolt = Bolt(
        subprotocols=["chat"],
        compression=True,
        max_message_size=1000,
        ping_interval=None,
        **options,
    )
    bolt.ws("/", None, measure)
    bolt.ws("/room/{name}", lambda event: event.join(event.params["name"]), measure)
    config = Config(bolt, ws="none", lifespan="off", log_config=None, proxy_headers=False)
    config.load()
    loop = asyncio.get_running_loop()
    runtime = bolt._runtime
    state = ServerState()
    transport = Transport(loop)
    ours = protocol_class(runtime.options, loopback=True, ledger=runtime.hub.ledger)
    protocol = ours(config, state, {}, loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    for piece in reads:
        transport.receive(piece)
        await passing(0.01)
    await passing(1)
    outcome.append(_outcome(bytes(transport.sent), b"".join(reads)))
    assert bolt.stats().connections_opened <= 1
    assert bolt.stats().errors == 0
    transport.lose()
    await passing(60)
    stats = bolt.stats()
    assert stats.imbalance() == "" and stats.connections_now == stats.closing == 0, stats
    wires = wires_of(state)
    assert wires.pending == {} and wires.attached == 0
    assert len(state.connections) == wires.drainers, state.connections
    assert not state.tasks and not runtime.handshakes
    if runtime.started:
        runtime.stop()


def _outcome(sent: bytes, stream: bytes) -> Outcome:
    """Reads the answers, each of which must be whole and well-formed."""
    first = 0
    while sent:
        answer = ANSWER.match(sent)
        assert answer is not None, f"not an answer: {sent!r}"
        status = int(answer[1])
        first = first or status
        sent = sent[answer.end() :]
        if status == 101:
            keys = {_accept(key) for key in KEY.findall(stream)}
            assert any(b"sec-websocket-accept: " + key in answer[0] for key in keys), answer[0]
            return Outcome(first, read_frames(sent))
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)\r\n", answer[0])
        sent = sent[int(length[1]) if length else 0 :]
    return Outcome(first, [])


def _accept(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


def _assert_allowed(stream: bytes, proxied: bool) -> None:
    """Who was let in names a loopback host, and comes from no page but of that host. Judged only
    where the request is written so plainly that it can be read in one way."""
    request = CLEAN.match(stream)
    if request is None:
        return
    lines = [line.partition(b":") for line in request[0].split(b"\r\n")[1:-2]]
    fields = [(name.lower(), value.strip().decode()) for name, _, value in lines]
    (host,) = (value for name, value in fields if name == b"host")
    name = urlsplit("//" + host).hostname
    assert name is not None
    loopback = re.fullmatch(r"localhost|.+\.localhost|127(\.\d+){3}|::1", name) is not None
    assert loopback or proxied, host
    for origin in [value for field, value in fields if field == b"origin"][:1]:
        assert urlsplit(origin.lower()).hostname == name, (origin, host)
