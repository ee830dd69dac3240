"""Which pages may connect: the Origin policy, and the Host check on loopback."""

from __future__ import annotations

from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from .conftest import NewBolt, Serve
from .helpers import eventually, recv
from .servers import Served, everywhere
from .wire import Wire, handshake


async def allowed(served: Served, origin: Any, path: str = "/p") -> bool:
    """Whether a page of `origin` may connect; a refusal must be a 403."""
    if origin == "own":
        origin = served.origin
    try:
        async with served.connect(path, origin=origin) as client:
            return bool(await recv(client) == "hello")
    except InvalidStatus as refusal:
        assert refusal.response.status_code == 403
        return False


@everywhere
async def test_the_default(new_bolt: NewBolt, serve: Serve) -> None:
    """The request's own host and port, or no Origin at all (no browser); no other, whatever it
    looks like."""
    bolt = new_bolt()
    bolt.ws("/p", lambda event: event.reply("hello"))
    served = serve(bolt)
    assert await allowed(served, None)
    assert await allowed(served, "own")
    foreign = [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        f"http://127.0.0.1:{served.port}.evil.example",
        f"http://127.0.0.1.evil.example:{served.port}",
        f"http://localhost:{served.port}",
        f"http://evil.example@127.0.0.1:{served.port}",
    ]
    for origin in foreign:
        assert not await allowed(served, origin), origin
    stats = bolt.stats()
    assert stats.refused == {"origin": len(foreign)}
    assert stats.connections_opened == 2


@everywhere
async def test_listed_origins(new_bolt: NewBolt, serve: Serve) -> None:
    """`origins` names more pages that may connect; the server's own still may."""
    bolt = new_bolt(origins=["https://ok.example", "http://other.example:8080"])
    bolt.ws("/p", lambda event: event.reply("hello"))
    served = serve(bolt)
    assert await allowed(served, "https://ok.example")
    assert await allowed(served, "http://other.example:8080")
    assert await allowed(served, "own")
    assert await allowed(served, None)
    for origin in (
        "http://ok.example",
        "https://ok.example:444",
        "https://ok.example.evil.example",
        "http://other.example",
        "null",
    ):
        assert not await allowed(served, origin), origin


@everywhere
async def test_any_origin(new_bolt: NewBolt, serve: Serve) -> None:
    """ "*" lets everybody in, "null" too; it is each endpoint's own."""
    bolt = new_bolt()
    bolt.ws("/p", lambda event: event.reply("hello"), origins="*")
    bolt.ws("/q", lambda event: event.reply("hello"))
    served = serve(bolt)
    for origin in ("https://evil.example", "null", "own", None):
        assert await allowed(served, origin)
    assert not await allowed(served, "https://evil.example", "/q")


@everywhere
async def test_a_refused_origin_is_logged_with_the_remedy(
    new_bolt: NewBolt, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the line that would allow it."""
    bolt = new_bolt()
    bolt.ws("/p")
    served = serve(bolt)
    assert not await allowed(served, "https://page.example")
    records = [r.getMessage() for r in caplog.records if r.name.startswith("boltws")]
    assert any("origins=['https://page.example']" in text for text in records), records


@everywhere
async def test_the_host_on_loopback(new_bolt: NewBolt, serve: Serve) -> None:
    """Bound to loopback, a Host that is no loopback name is DNS rebinding: 403, before any
    callback, whatever its Origin."""
    bolt = new_bolt()
    bolt.ws("/p", lambda event: event.reply("hello"))
    served = serve(bolt)
    port = served.port
    for host in (f"evil.example:{port}", "evil.example", f"localhost.evil.example:{port}"):
        for origin in (None, f"http://{host}"):
            async with Wire(served) as wire:
                wire.send(handshake(served, "/p", host=host, origin=origin))
                status, _ = await wire.head()
                assert status == 403, (host, origin)
    assert bolt.stats().refused == {"host": 6}
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"LOCALHOST:{port}"):
        async with Wire(served) as wire:
            await wire.upgrade("/p", host=host, origin=f"http://{host}".lower())
    await eventually(lambda: bolt.stats().connections_opened == 4)
