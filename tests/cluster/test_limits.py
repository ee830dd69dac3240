"""Messages that are larger than the nats-server takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Join, StartNodes
from .nats_server import NatsServer
from .node import Raised


async def test_too_large_for_the_server_is_refused_before_anyone_gets_it(
    tmp_path: Path, start_nodes: StartNodes, join: Join
) -> None:
    """A room must not hear on one node what it cannot hear on the others; the connection to the
    server is not lost over it."""
    nats = NatsServer(tmp_path / "nats", max_payload=65536)
    try:
        one, two = await start_nodes(nats.url, nats.url)
        here, there = await join(one, "room"), await join(two, "room")
        large = "x" * 65536
        for call in (
            ("ws_room_broadcast", "room", large),
            ("ws_broadcast", large),
            ("ws_send_to", there.id, large),
            ("ws_room_broadcast_binary", "room", large),
            ("ws_room_broadcast", "room", "x", [there.id] * 4096),
        ):
            if call[0].endswith("binary"):
                call = ("ws_room_broadcast_binary", "room", large + large)  # base64
            with pytest.raises(Raised, match=r"ValueError: .*max_payload"):
                await one.call(*call)
        assert await one.call("ws_send_to", here.id, large) is True  # it does not travel
        assert await here.next() == large
        fits = "y" * 60000
        await one.call("ws_room_broadcast", "room", fits)
        assert [await here.next(), await there.next()] == [fits, fits]
        books = await one.stats()
        assert (books["backplane_published"], books["backplane_dropped"]) == (1, {})
        assert "is lost" not in one.served.output
    finally:
        nats.stop()
