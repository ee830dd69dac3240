"""What a message is, on its way in and on its way out."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from boltws import Event

from .conftest import NewBolt, Serve
from .helpers import Journal, ask, closed, recv
from .servers import everywhere

ALL_BYTES = bytes(range(256))


def echo(event: Event) -> None:
    event.reply(event.binary if event.is_binary else event.message)


@everywhere
async def test_text_and_binary(new_bolt: NewBolt, serve: Serve) -> None:
    """Text comes as str and has no bytes, binary comes as bytes and base64 and has no text."""
    bolt = new_bolt()
    seen = Journal()

    def said(event: Event) -> None:
        seen.note(event.message, event.is_binary, event.binary)
        seen.note(bolt.ws_event_message(), bolt.ws_event_is_binary(), bolt.ws_event_binary())

    bolt.ws("/p", None, said)
    async with serve(bolt).connect("/p") as client:
        await client.send("text")
        assert await seen.take(2) == [("text", False, b""), ("text", False, "")]
        await client.send(ALL_BYTES)
        encoded = base64.b64encode(ALL_BYTES).decode()
        assert await seen.take(2) == [("", True, ALL_BYTES), ("", True, encoded)]


@everywhere
async def test_sizes_and_contents(new_bolt: NewBolt, serve: Serve) -> None:
    """Empty, around each length of a frame's header, 1 MiB, and all of Unicode: both ways."""
    bolt = new_bolt()
    bolt.ws("/p", None, echo)
    messages: list[str | bytes] = ["", b"", "\0", "\N{SNOWMAN} \N{GRINNING FACE} \U0010ffff"]
    for size in (125, 126, 65535, 65536, 2**20):
        messages += ["x" * size, b"\xff" * size]
    async with serve(bolt).connect("/p") as client:
        for message in messages:
            assert await ask(client, message) == message


@everywhere
@pytest.mark.parametrize(
    "message", ["x" * (2**20 + 1), b"x" * (2**20 + 1), "\N{SNOWMAN}" * 349_526]
)
async def test_a_message_above_the_limit(
    new_bolt: NewBolt, serve: Serve, message: str | bytes
) -> None:
    """A message of more than max_message_size bytes (not characters) ends the connection: 1009."""
    bolt = new_bolt()
    seen = Journal()
    bolt.ws("/p", None, seen.note)
    async with serve(bolt).connect("/p", compression=None) as client:
        await client.send(message)
        code, _ = await closed(client)
        assert code == 1009
    assert seen.seen == []


@everywhere
async def test_binary_out(new_bolt: NewBolt, serve: Serve) -> None:
    """Bytes-like data goes out as it is, a str is base64."""
    bolt = new_bolt()
    mutable = bytearray(ALL_BYTES)

    def came(event: Event) -> None:
        for data in (
            ALL_BYTES,
            bytearray(ALL_BYTES),
            memoryview(ALL_BYTES),
            memoryview(ALL_BYTES + ALL_BYTES)[::2],
            base64.b64encode(ALL_BYTES).decode(),
            "",
        ):
            assert bolt.ws_send_binary_to(event.client_id, data)
        assert bolt.ws_send_binary_to(event.client_id, mutable)
        mutable[:] = bytes(256)

    bolt.ws("/p", came)
    async with serve(bolt).connect("/p") as client:
        assert await recv(client) == ALL_BYTES
        assert await recv(client) == ALL_BYTES
        assert await recv(client) == ALL_BYTES
        assert await recv(client) == (ALL_BYTES + ALL_BYTES)[::2]
        assert await recv(client) == ALL_BYTES
        assert await recv(client) == b""
        assert await recv(client) == ALL_BYTES, "a mutable buffer is copied when it is sent"


@everywhere
async def test_what_is_no_message(new_bolt: NewBolt, serve: Serve) -> None:
    """Wrong types and values raise, for each way of sending, and nothing goes out."""
    bolt = new_bolt()
    ids = Journal()
    bolt.ws("/p", lambda event: (ids.note(event.client_id), event.join("room")), echo)
    async with serve(bolt).connect("/p") as client:
        client_id = await ids.next()

        def text(message: Any) -> list[Any]:
            return [
                lambda: bolt.ws_send_to(client_id, message),
                lambda: bolt.ws_room_broadcast("room", message),
                lambda: bolt.ws_broadcast(message),
            ]

        def binary(data: Any) -> list[Any]:
            return [
                lambda: bolt.ws_send_binary_to(client_id, data),
                lambda: bolt.ws_room_broadcast_binary("room", data),
                lambda: bolt.ws_broadcast_binary(data),
            ]

        for send in text("\ud800") + text("ok \udfff") + binary("no base64!") + binary("QQ="):
            with pytest.raises(ValueError):  # noqa: PT011 - that it is one is what is promised
                send()
        for send in text(b"bytes") + text(None) + text(5) + binary(5) + binary(None):
            with pytest.raises(TypeError):
                send()
        assert await ask(client, "next") == "next"
    assert bolt.stats().sends == 1


@everywhere
async def test_sending_to_nobody(new_bolt: NewBolt, serve: Serve) -> None:
    """An unknown client takes nothing: False, counted under its cause."""
    bolt = new_bolt()
    bolt.ws("/p", None, echo)
    async with serve(bolt).connect("/p") as client:
        assert await ask(client, "x") == "x"
        assert bolt.ws_send_to("nobody", "x") is False
        assert bolt.ws_send_binary_to("nobody", b"x") is False
        assert bolt.stats().dropped_out == {"no_client": 2}


@everywhere
async def test_event_json(new_bolt: NewBolt, serve: Serve) -> None:
    """event.json() parses text and binary alike; what is no JSON is a ValueError."""
    bolt = new_bolt()

    def said(event: Event) -> None:
        try:
            event.reply(json.dumps({"got": event.json()}))
        except ValueError:
            event.reply("no JSON")

    bolt.ws("/p", None, said)
    async with serve(bolt).connect("/p") as client:
        document = {"a": [1, None, "\N{SNOWMAN}"]}
        assert json.loads(await ask(client, json.dumps(document))) == {"got": document}
        assert json.loads(await ask(client, json.dumps(document).encode())) == {"got": document}
        assert await ask(client, "{") == "no JSON"
        assert await ask(client, b"\xff\xfe\xfd") == "no JSON"


@everywhere
async def test_reply_tells_whether_it_was_taken(new_bolt: NewBolt, serve: Serve) -> None:
    """reply takes text and bytes; True while the client is there, False in disconnect."""
    bolt = new_bolt()
    taken = Journal()
    bolt.ws(
        "/p",
        None,
        lambda event: taken.note(event.reply("text"), event.reply(b"bytes")),
        lambda event: taken.note(event.reply("gone")),
    )
    async with serve(bolt).connect("/p") as client:
        assert await ask(client, "x") == "text"
        assert await recv(client) == b"bytes"
        assert await taken.next() == (True, True)
    assert await taken.next() is False


@everywhere
async def test_messages_of_one_client_stay_in_order(new_bolt: NewBolt, serve: Serve) -> None:
    """A direct send, a room's and everybody's, mixed: they arrive as they were sent."""
    bolt = new_bolt()

    def said(event: Event) -> None:
        sends: list[Callable[[str], object]] = [
            event.reply,
            lambda text: bolt.ws_room_broadcast("room", text),
            bolt.ws_broadcast,
            lambda text: bolt.ws_send_to(event.client_id, text),
        ]
        for n in range(100):
            assert sends[n % 4](f"{n}")

    bolt.ws("/p", lambda event: event.join("room"), said)
    async with serve(bolt).connect("/p") as client:
        await client.send("go")
        assert [await recv(client) for _ in range(100)] == [f"{n}" for n in range(100)]
