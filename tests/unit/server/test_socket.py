"""What an app that is no Bolt may send."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from ..fakes import in_virtual_time, passing
from .connection import GET, UPGRADE, foreign
from .helpers import BINARY, CLOSE, Sent, read_frames


@pytest.mark.parametrize(
    ("code", "reason", "sent"),
    [
        (None, "", 1000),
        (1000, "x" * 123, 1000),
        (4999, "why", 4999),
        (1005, "", 1000),
        (1000, "x" * 124, None),
        (1000, b"bytes", None),
        (999, "", None),
        (1004, "", None),
        (1006, "", None),
        (5000, "", None),
        (70000, "", None),
        ("1000", "", None),
    ],
)
@in_virtual_time
async def test_a_close_of_an_app(
    code: Any, reason: Any, sent: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """What may not stand in a close frame is an error of the app, and the peer gets a frame that
    it may have. No code at all, which a disconnect calls 1005, is a plain close."""
    raised: list[Exception] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await send({"type": "websocket.close", "code": code, "reason": reason})
        except (ValueError, TypeError) as error:
            raised.append(error)
            raise

    with caplog.at_level(logging.CRITICAL, "uvicorn.error"):
        transport, _ = foreign(app)
        transport.receive(GET + UPGRADE + b"\r\n")
        await passing(1)
    frames = read_frames(bytes(transport.sent).split(b"\r\n\r\n", 1)[1])
    payload = (sent or 1011).to_bytes(2) + (reason.encode() if sent else b"")
    assert frames == [Sent(CLOSE, payload)]
    assert bool(raised) == (sent is None)
    transport.lose()
    await passing(10)


@in_virtual_time
async def test_many_senders_wait_for_a_slow_peer() -> None:
    """Who has waited sends, and what the others send then may make the peer slow again: they wait
    again, as `send` drops nothing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        message = {"type": "websocket.send", "bytes": b"x" * 2**17}
        await asyncio.gather(*(send(message) for _ in range(200)))
        ended.append((await receive())["code"])

    ended: list[int] = []
    transport, _ = foreign(app)
    transport.set_write_buffer_limits()
    transport.stall()
    transport.receive(GET + UPGRADE + b"\r\n")
    await passing(1)
    while transport.unsent:
        assert transport.unsent < 4 * 2**20
        transport.drain(transport.unsent)
        await passing(0.01)
    frames = read_frames(bytes(transport.sent).split(b"\r\n\r\n", 1)[1])
    assert [sent.opcode for sent in frames] == [BINARY] * 200
    transport.lose()
    await passing(10)
    assert ended == [1006]
