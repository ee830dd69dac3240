"""Who somebody is: the Origin, the address behind proxies, the subprotocol; and what is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from boltws import Event

from ..e2e.conftest import NewBolt, Serve
from ..e2e.helpers import Journal, eventually
from ..e2e.servers import Served
from ..e2e.wire import Wire, handshake, request
from .helpers import bystander, echoing

ORIGINS = [
    "",
    "null",
    "NULL",
    "http://",
    "file://",
    "https://evil.example",
    "http://evil.example:{port}",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/p",
    "http://127.0.0.1:{port}.evil.example",
    "http://127.0.0.1:{port}@evil.example",
    "http://evil.example@127.0.0.1:{port}",
    "http://127.0.0.1:{port}, https://evil.example",
    "http://127.0.0.1:{port} https://evil.example",
    "http://127.0.0.1:{port}0000",
    "http://127.0.0.1:-1",
    "http://[::1",
    "http://127.1:{port}",
    "http://2130706433:{port}",
    "ws://127.0.0.1:{port}",
    "chrome-extension://127.0.0.1:{port}",
    "//127.0.0.1:{port}",
    "127.0.0.1:{port}",
]


@pytest.mark.parametrize("claim", ["", "proxy"])
async def test_foreign_origins(new_bolt: NewBolt, serve: Serve, claim: str) -> None:
    """Whatever is not the request's own origin is refused before any callback, also when other
    headers claim that it was sent elsewhere."""
    bolt = new_bolt()
    seen = Journal()
    echoing(bolt)
    bolt.ws("/x").on_before(lambda event: seen.note(event.type))
    served = serve(bolt)
    claims = {
        "x_forwarded_host": "evil.example",
        "x_forwarded_for": "127.0.0.1",
        "x_forwarded_proto": "https",
        "x_original_host": "evil.example",
        "forwarded": "host=evil.example;proto=https",
    }
    async with bystander(served):
        for origin in ORIGINS:
            given = {"origin": origin.format(port=served.port)} | (claims if claim else {})
            async with Wire(served) as wire:
                wire.send(handshake(served, "/x", **given))
                assert (await wire.answer())[0] == 403, origin
    assert seen.seen == []
    assert bolt.stats().refused == {"origin": len(ORIGINS)}


# (X-Forwarded-For lines, the address that counts where 127.0.0.1 and 10.0.0.0/8 are trusted)
CHAINS: list[tuple[list[str], str]] = [
    ([], "127.0.0.1"),
    ([""], "127.0.0.1"),
    (["198.51.100.7"], "198.51.100.7"),
    (["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
    (["203.0.113.1, 198.51.100.7, 10.0.0.2, 10.9.9.9"], "198.51.100.7"),
    (["203.0.113.1", "198.51.100.7"], "198.51.100.7"),
    (["203.0.113.1", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
    (["10.0.0.2"], "10.0.0.2"),
    (["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
    (["  198.51.100.7\t,10.0.0.2 "], "198.51.100.7"),
    (["2001:db8::7, 10.0.0.2"], "2001:db8::7"),
    (["[2001:db8::7]"], "2001:db8::7"),
    # What is no address ends the chain: nothing beyond it is vouched for.
    (["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
    (["198.51.100.7, <script>"], "127.0.0.1"),
    (["198.51.100.7,"], "127.0.0.1"),
    (["198.51.100.7, 10.0.0.2, 999.1.1.1"], "127.0.0.1"),
]


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "spoofed"])
async def test_the_address_behind_proxies(new_bolt: NewBolt, serve: Serve, trusted: bool) -> None:
    """The client is the last address of the chain that is no trusted proxy; a peer that is none
    says what it likes and stays who it is."""
    bolt = new_bolt(trusted_proxies=["10.0.0.0/8", *(["127.0.0.1"] if trusted else [])])
    echoing(bolt)
    seen = Journal()

    def who(event: Event) -> None:
        client = event.request.client
        seen.note(client and client.host)

    bolt.ws("/who", who)
    served = serve(bolt)
    async with bystander(served):
        for lines, address in CHAINS:
            async with Wire(served) as wire:
                raw = handshake(served, "/who")[:-2]
                raw += "".join(f"X-Forwarded-For: {line}\r\n" for line in lines).encode()
                wire.send(raw + b"\r\n")
                assert (await wire.head())[0] == 101
                expected = address if trusted else "127.0.0.1"
                assert await seen.next() == expected, lines


# (Sec-WebSocket-Protocol lines, what is agreed on where "v2" and "v1" are spoken)
OFFERS: list[tuple[list[str], str | None]] = [
    (["v1"], "v1"),
    (["v1, v2"], "v2"),
    (["v1", "v2"], "v2"),
    (["v3", "v1"], "v1"),
    (["V1, V2"], None),
    (["v1 v2"], None),
    (["v1;v2"], None),
    ([",,, ,v1,,"], "v1"),
    ([", ".join(f"x{n}" for n in range(1500))], None),
    (["v2v1", "v", "*"], None),
]


async def test_subprotocols_that_are_offered(new_bolt: NewBolt, serve: Serve) -> None:
    """One that both speak is agreed on or none is; nothing that the peer made up comes back."""
    bolt = new_bolt(subprotocols=["v2", "v1"])
    echoing(bolt)
    served = serve(bolt)
    async with bystander(served):
        for lines, agreed in OFFERS:
            async with Wire(served) as wire:
                raw = handshake(served, "/p")[:-2]
                raw += "".join(f"Sec-WebSocket-Protocol: {line}\r\n" for line in lines).encode()
                wire.send(raw + b"\r\n")
                status, headers = await wire.head()
                assert (status, headers.get("sec-websocket-protocol")) == (101, agreed), lines


class Lines(logging.Handler):
    """All that would be written to a log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


LOGGERS = ("uvicorn.error", "uvicorn.access", "boltws")


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(lines)


def all_logged(lines: Lines) -> Any:
    """Turns a server's access log on and has `lines` see all that is logged."""

    def tune(server: Any) -> None:
        server.config.access_log = True
        for name in LOGGERS:
            logging.getLogger(name).addHandler(lines)

    return tune


ODD = "a%0D%0A[31m%1B%5B31m%00%7F%C2%85%E2%80%A8%F0%9F%92%A9%22end"


async def test_log_lines(new_bolt: NewBolt, serve: Serve, lines: Lines) -> None:
    """What peers send is escaped in the log: no line break and no control character of theirs;
    and no query string of a handshake, where tokens are."""
    bolt = new_bolt()
    echoing(bolt)
    bolt.ws("/room/:room")
    bolt.ws("/no").on_before(lambda event: event.abort(403))
    served = serve(bolt, tune=all_logged(lines))
    attempts: list[tuple[str, dict[str, str | None]]] = [
        (f"/room/{ODD}?token=secret", {}),
        (f"/nowhere/{ODD}?token=secret", {}),
        ("/no?token=secret", {}),
        ("/p?token=secret", {"origin": "http://evil\x85\xad\t\\n.example/?token=hidden"}),
        ("/p?token=secret", {"host": "evil\x9b31m.example"}),
        ("/p?token=secret", {"sec_websocket_key": "short"}),
        ("/p?token=secret", {"sec_websocket_version": "12"}),
        ("/p?token=secret" + "x" * 17_000, {}),
        ("/p?token=secret", {"transfer_encoding": "chunked"}),
    ]
    async with bystander(served):
        for path, headers in attempts:
            async with Wire(served) as wire:
                wire.send(handshake(served, path, **headers))
                await wire.head()
    await eventually(lambda: any("/room/" in line for line in lines.lines), "a handshake's line")
    assert any("evil" in line for line in lines.lines)
    for line in lines.lines:
        assert "secret" not in line, line
        assert line.isprintable(), repr(line)


async def test_the_paths_of_requests_are_escaped(
    new_bolt: NewBolt, serve: Serve, lines: Lines
) -> None:
    """So it is with plain requests."""
    bolt = new_bolt()
    echoing(bolt)
    served: Served = serve(bolt, tune=all_logged(lines))
    async with bystander(served), Wire(served) as wire:
        wire.send(request(served, f"/{ODD}"))
        assert (await wire.answer())[0] == 404
    await eventually(lambda: any("404" in line for line in lines.lines), "an access line")
    assert all(line.isprintable() for line in lines.lines), lines.lines
