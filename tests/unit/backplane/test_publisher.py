"""What an outside publisher puts on which subject, and what it refuses before it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from boltws import ConfigurationError
from boltws.backplane.publisher import Publisher
from boltws.errors import BackplaneError

from .outside import CLIENT, OTHER, Ear, Heard, ear, nats_server

NODE = "0123456789"
CHAT = "boltws.x.rY2hhdA"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats"), "max_payload: 4096") as address:
        yield f"nats://{address}"


@pytest.fixture
async def heard(url: str) -> AsyncIterator[Ear]:
    async with ear(url) as listening:
        yield listening


BINARY = {"Boltws-Type": "binary"}

CALLS: list[tuple[str, tuple[Any, ...], Heard]] = [
    ("room_broadcast", ("chat", "hé\n"), Heard(CHAT, "hé\n".encode(), {})),
    ("room_broadcast", ("chat", "", CLIENT), Heard(CHAT, b"", {"Boltws-Exclude": CLIENT})),
    (
        "room_broadcast",
        ("chat", "m", iter([CLIENT, "x\r\nA: b", OTHER, 5])),
        Heard(CHAT, b"m", {"Boltws-Exclude": f"{CLIENT},{OTHER}"}),
    ),
    ("room_broadcast_binary", ("chat", b"\0\xff"), Heard(CHAT, b"\0\xff", BINARY)),
    (
        "room_broadcast_binary",
        ("chat", "AP8=", [OTHER]),
        Heard(CHAT, b"\0\xff", {**BINARY, "Boltws-Exclude": OTHER}),
    ),
    ("broadcast", ("all",), Heard("boltws.x.all", b"all", {})),
    ("broadcast_binary", (bytearray(b"\1"),), Heard("boltws.x.all", b"\1", BINARY)),
    ("send_to", (CLIENT, "you"), Heard(f"boltws.x.to.{NODE}.{CLIENT}", b"you", {})),
    (
        "send_binary_to",
        (CLIENT, memoryview(b"\2")),
        Heard(f"boltws.x.to.{NODE}.{CLIENT}", b"\2", BINARY),
    ),
    ("close_client", (CLIENT,), Heard(f"boltws.x.close.{NODE}.{CLIENT}", b"1000", {})),
    (
        "close_client",
        (CLIENT, 4001, "go  away"),
        Heard(f"boltws.x.close.{NODE}.{CLIENT}", b"4001 go  away", {}),
    ),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), CALLS)
async def test_what_goes_out(
    url: str, heard: Ear, name: str, arguments: tuple[Any, ...], expected: Heard
) -> None:
    """Each method: the subject, the payload and the headers that the documentation promises."""
    async with Publisher(url) as publisher:
        assert await getattr(publisher, name)(*arguments) is None
    assert await heard.next() == expected
    assert heard.silent


async def test_a_long_room_travels_beside_its_hash(url: str, heard: Ear) -> None:
    """A subject has no room for it; the header has its full name, in base64url."""
    async with Publisher(url) as publisher:
        await publisher.room_broadcast("é" * 512, "m")
    subject, payload, headers = await heard.next()
    assert subject.startswith("boltws.x.h") and len(subject) < 64
    assert payload == b"m"
    assert headers == {"Boltws-Room": "w6nDqcOp" * 170 + "w6nDqQ"}


async def test_the_prefix(url: str, heard: Ear) -> None:
    """Stands before every subject."""
    async with Publisher(url, prefix="shop.live") as publisher:
        await publisher.broadcast("m")
    assert (await heard.next()).subject == "shop.live.x.all"


async def test_the_order_of_the_calls(url: str, heard: Ear) -> None:
    """Messages of several tasks arrive as they were handed over, also where there is so much
    that calls have to wait."""
    async with Publisher(url) as publisher:
        messages = [str(i) + "." * 3000 for i in range(500)]
        async with asyncio.TaskGroup() as group:
            for message in messages:
                group.create_task(publisher.room_broadcast("chat", message))
    assert [(await heard.next()).payload.decode() for _ in messages] == messages


async def test_it_connects_at_its_first_call(url: str, heard: Ear) -> None:
    """`async with` is not needed; without it, `close` is what flushes."""
    publisher = Publisher(url)
    await publisher.broadcast("m")
    await publisher.close()
    assert (await heard.next()).payload == b"m"


CANNOT: list[tuple[str, tuple[Any, ...], type[Exception], str]] = [
    ("room_broadcast", ("", "m"), ValueError, "1 to 1,024"),
    ("room_broadcast", ("x" * 1025, "m"), ValueError, "1 to 1,024"),
    ("room_broadcast", (b"chat", "m"), TypeError, "a room's name is a str"),
    ("room_broadcast", ("chat", b"m"), TypeError, "a text message is a str"),
    ("room_broadcast", ("chat", "\ud800"), ValueError, "lone surrogate"),
    ("room_broadcast", ("chat", "m", 5), TypeError, "iterable"),
    ("room_broadcast_binary", ("chat", "no base64"), ValueError, "base64"),
    ("broadcast", (5,), TypeError, "a text message is a str"),
    ("broadcast_binary", (5,), TypeError, "binary data is"),
    ("send_to", ("nobody", "m"), ValueError, "'nobody' is not the id of a client"),
    ("send_to", (CLIENT.upper(), "m"), ValueError, "not the id"),
    ("send_to", (CLIENT + "\n", "m"), ValueError, "not the id"),
    ("send_to", (">", "m"), ValueError, "not the id"),
    ("send_to", (5, "m"), ValueError, "not the id"),
    ("close_client", (CLIENT, 1005), ValueError, "a close code"),
    ("close_client", (CLIENT, 1000, "x" * 124), ValueError, "123"),
    ("close_client", (CLIENT, 1000, b"x"), TypeError, "a close reason"),
    ("broadcast", ("x" * 4097,), ValueError, "4,097 bytes with its headers.*at most 4,096"),
    ("broadcast_binary", (b"x" * 4096,), ValueError, "at most 4,096"),
]


@pytest.mark.parametrize(("name", "arguments", "error", "text"), CANNOT)
async def test_what_cannot_go_out(
    url: str, heard: Ear, name: str, arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    """Raises at the call, and the connection lives on: the next message is heard alone."""
    async with Publisher(url) as publisher:
        with pytest.raises(error, match=text) as raised:
            await getattr(publisher, name)(*arguments)
        assert "\n" not in str(raised.value)
        await publisher.broadcast("next")
    assert (await heard.next()).payload == b"next"
    assert heard.silent


@pytest.mark.parametrize("binary", [False, True])
async def test_exactly_what_the_server_takes(url: str, heard: Ear, binary: bool) -> None:
    """The largest message is not refused: headers are counted as the server counts them."""
    headers = len(b"NATS/1.0\r\nBoltws-Type: binary\r\n\r\n")
    async with Publisher(url) as publisher:
        if binary:
            await publisher.broadcast_binary(b"x" * (4096 - headers))
            with pytest.raises(ValueError, match="at most"):
                await publisher.broadcast_binary(b"x" * (4097 - headers))
        else:
            await publisher.broadcast("x" * 4096)
    assert len((await heard.next()).payload) == 4096 - headers * binary


async def test_a_bad_message_needs_no_connection() -> None:
    """What is wrong with an argument is told first, also where there is no server."""
    publisher = Publisher("nats://127.0.0.1:1")
    with pytest.raises(TypeError, match="a text message"):
        await publisher.broadcast(5)  # type: ignore[arg-type]
    await publisher.close()


async def test_closed_is_closed(url: str) -> None:
    """Closing again does nothing, and every call after it says so."""
    async with Publisher(url) as publisher:
        await publisher.broadcast("m")
    await publisher.close()
    for call in (
        publisher.broadcast("m"),
        publisher.close_client(CLIENT),
        publisher.flush(),
        publisher.__aenter__(),
    ):
        with pytest.raises(BackplaneError, match="^the publisher is closed$"):
            await call


async def test_the_environment_names_the_servers(
    url: str, heard: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does for the app; without it the error names it."""
    monkeypatch.setenv("BOLTWS_BACKPLANE", url)
    async with Publisher() as publisher:
        await publisher.broadcast("m")
    assert (await heard.next()).payload == b"m"
    monkeypatch.delenv("BOLTWS_BACKPLANE")
    with pytest.raises(ConfigurationError, match="set BOLTWS_BACKPLANE"):
        Publisher()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"prefix": "a b"}, "letters"),
        ({"prefix": ">"}, "letters"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"connect_timeout": float("nan")}, "connect_timeout"),
        ({"connect_timeout": "5"}, "connect_timeout"),
        ({"user": "u"}, "user and password"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], text: str) -> None:
    """Are told when it is made."""
    with pytest.raises(ValueError, match=text):
        Publisher("nats://127.0.0.1:1", **options)


def test_no_secret_in_its_repr() -> None:
    """It may be logged."""
    assert repr(Publisher("nats://secret@host")) == "<Publisher nats://host:4222>"


def test_another_event_loop(url: str) -> None:
    """It says that it cannot be used on two, rather than hang on the one that has ended."""
    publisher = Publisher(url)

    async def use() -> None:
        await publisher.broadcast("m")
        await publisher.flush()

    async def first() -> None:
        await use()
        await publisher._connection._session.discard()  # type: ignore[union-attr]

    asyncio.run(first())
    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(use())


def test_without_nats_py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "nats.aio.client", None)

    async def use() -> None:
        async with Publisher("nats://127.0.0.1:1"):
            pass

    with pytest.raises(ConfigurationError, match="^publishing needs nats-py: pip install 'nats"):
        asyncio.run(use())
