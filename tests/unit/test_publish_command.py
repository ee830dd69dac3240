"""The command `boltws publish`, against a real nats-server."""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from boltws.publish_command import add_publish, publish

from .backplane.outside import CLIENT, Ear, Heard, ear, nats_server

NODE = "0123456789"
CHAT = "boltws.x.rY2hhdA"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with nats_server(tmp_path_factory.mktemp("nats")) as address:
        yield f"nats://{address}"


@pytest.fixture
async def heard(url: str) -> AsyncIterator[Ear]:
    async with ear(url) as listening:
        yield listening


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_publish(parser.add_subparsers(dest="command"))
    return parser.parse_args(["publish", *words])


@pytest.fixture(autouse=True)
def stdin(monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """What comes on stdin."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    return raw


BINARY = {"Boltws-Type": "binary"}


@pytest.mark.parametrize(
    ("words", "given", "expected"),
    [
        (["--room", "chat", "hello"], b"", Heard(CHAT, b"hello", {})),
        (["--room", "chat", ""], b"not read", Heard(CHAT, b"", {})),
        (["--room", "chat"], b"h\xc3\xa9\n\r\n", Heard(CHAT, b"h\xc3\xa9\n", {})),
        (["--room", "chat", "-"], b"no end", Heard(CHAT, b"no end", {})),
        (["--room", "chat", "--binary", "AP8="], b"", Heard(CHAT, b"\0\xff", BINARY)),
        (["--room", "chat", "--binary"], b"\0\xff\n", Heard(CHAT, b"\0\xff\n", BINARY)),
        (["--all", "hello"], b"", Heard("boltws.x.all", b"hello", {})),
        (["--all", "--prefix", "p.q", "m"], b"", Heard("p.q.x.all", b"m", {})),
        (["--to", CLIENT, "m"], b"", Heard(f"boltws.x.to.{NODE}.{CLIENT}", b"m", {})),
        (["--close", CLIENT], b"no", Heard(f"boltws.x.close.{NODE}.{CLIENT}", b"1000", {})),
        (
            ["--close", CLIENT, "bye now"],
            b"",
            Heard(f"boltws.x.close.{NODE}.{CLIENT}", b"1000 bye now", {}),
        ),
    ],
)
async def test_what_goes_out(
    url: str, heard: Ear, stdin: io.BytesIO, words: list[str], given: bytes, expected: Heard
) -> None:
    """Each target; the message from the command line, or from stdin without its last line end."""
    stdin.write(given)
    stdin.seek(0)
    await asyncio.to_thread(publish, parse("--backplane", url, *words))
    assert await heard.next() == expected
    assert heard.silent


async def test_the_environment(url: str, heard: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names the servers where `--backplane` does not, and is where a secret belongs."""
    monkeypatch.setenv("BOLTWS_BACKPLANE", url)
    await asyncio.to_thread(publish, parse("--all", "m"))
    assert (await heard.next()).payload == b"m"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--all", "m"], "no backplane: give a URL, or set BOLTWS_BACKPLANE"),
        (["--backplane", "s3cr3t", "--all", "m"], "begins with nats://"),
        (["--backplane", "nats://s3cr3t@127.0.0.1:1", "--all", "m"], "127.0.0.1:1: connection ref"),
        (["--backplane", "nats://h", "--prefix", "a b", "--all", "m"], "prefix"),
        (["--backplane", "nats://h", "--close", CLIENT, "--binary"], "--close takes no --binary"),
    ],
)
def test_what_cannot_go_out(monkeypatch: pytest.MonkeyPatch, words: list[str], text: str) -> None:
    """One line, exit status 1, and no secret."""
    monkeypatch.delenv("BOLTWS_BACKPLANE", raising=False)
    refused(words, text)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--to", "nobody", "m"], "not the id of a client"),
        (["--room", "", "m"], "1 to 1,024"),
        (["--all", "--binary", "no base64"], "base64"),
        (["--all"], "stdin gives is not UTF-8"),
    ],
)
def test_a_bad_message(url: str, stdin: io.BytesIO, words: list[str], text: str) -> None:
    """The same for what is wrong with the message."""
    stdin.write(b"\xff")
    stdin.seek(0)
    refused(["--backplane", url, *words], text)


def refused(words: list[str], text: str) -> None:
    with pytest.raises(SystemExit) as raised:
        publish(parse(*words))
    said = raised.value.code
    assert isinstance(said, str) and said.startswith("boltws: ")
    assert text in said and "\n" not in said and "s3cr3t" not in said


@pytest.mark.parametrize("words", [[], ["m"], ["--all", "--room", "chat", "m"], ["--room"]])
def test_one_target(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exactly one, or the usage and status 2."""
    with pytest.raises(SystemExit) as raised:
        parse(*words)
    assert raised.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_ctrl_c(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it reads stdin: no traceback."""

    class Stdin:
        @property
        def buffer(self) -> Any:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", Stdin())
    with pytest.raises(SystemExit) as raised:
        publish(parse("--backplane", url, "--all"))
    assert raised.value.code == 130
