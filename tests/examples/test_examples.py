"""The examples do what they say: each is started as its text says, and talked to."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from ..process.harness import PATIENCE, Served, console_script, eventually, serving

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@contextmanager
def example(target: str, server: str = "boltws") -> Iterator[Served]:
    """An example on a port of its own; it must end well, and have nothing to complain of."""
    command = [console_script(), "run"] if server == "boltws" else [sys.executable, "-m", server]
    with serving([*command, target, "--port", "0"], ROOT) as served:
        yield served
        code = served.stop()
        assert code == 0 or server != "boltws"
        served.assert_no_noise()


def hear(client: ClientConnection) -> Any:
    """The next message, as JSON."""
    return json.loads(client.recv(timeout=PATIENCE))


def request(served: Served, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_every_example_is_tested_here() -> None:
    """An example that is added comes with a test of its own."""
    found = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    found |= {path.parent.name for path in (ROOT / "examples").glob("*/app.py")}
    assert found == {"auth", "chat", "echo", "fastapi_mount", "progress"}


def test_echo() -> None:
    """Text comes back as text, binary as binary."""
    with example("examples.echo:bolt") as served, served.connect("/echo") as client:
        for message in ("hello", "", "grüße ☕", b"\x00\xff", b"", "x" * 70_000):
            client.send(message)
            assert client.recv(timeout=PATIENCE) == message


def test_the_examples_run_as_scripts() -> None:
    """`python examples/echo.py` serves on the port that its text names, or says what is in it."""
    for name in ("echo", "auth", "progress", "chat/app"):
        script = ROOT / "examples" / f"{name}.py"
        source = script.read_text(encoding="utf-8")
        # Its own port may be taken on this machine: the same script, on a free one.
        source = source.replace("bolt.run(port=3000)", "bolt.run(port=0)")
        assert "bolt.run(port=0)" in source
        starter = f"exec(compile({source!r}, {str(script)!r}, 'exec'), globals())"
        starter = f"__file__ = {str(script)!r}\n{starter}"
        with serving([sys.executable, "-c", starter], ROOT) as served:
            assert served.port
            assert served.stop() == 0
            served.assert_no_noise()


def test_auth() -> None:
    """A good token is let in, by header or cookie; others get 401 and never become clients."""
    with example("examples.auth:bolt") as served:
        for headers, welcome in (
            ({"Authorization": "Bearer let-alice-in"}, "Welcome, alice!"),
            ({"Authorization": "bearer let-bob-in"}, "Welcome, bob!"),
            ({"Cookie": "theme=dark; session=let-bob-in"}, "Welcome, bob!"),
        ):
            with served.connect("/inbox", additional_headers=headers) as client:
                assert client.recv(timeout=PATIENCE) == welcome
        for wrong in ({}, {"Authorization": "Bearer let-eve-in"}, {"Authorization": "Basic x"}):
            with (
                pytest.raises(InvalidStatus) as refused,
                served.connect("/inbox", additional_headers=wrong),
            ):
                pass
            response = refused.value.response
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert response.body == b"who are you?"


def test_auth_from_its_own_client() -> None:
    """The client that stands in the example is let in, and refused, as its text says."""
    with example("examples.auth:bolt") as served:
        for token, printed in (("let-alice-in", "Welcome, alice!"), ("nonsense", "refused: 401")):
            code = (
                "import examples.auth, websockets.sync.client as c\n"
                "real = c.connect\n"
                f"c.connect = lambda uri, **o: real(uri.replace('3000', '{served.port}'), "
                "proxy=None, **o)\n"
                f"examples.auth.main({token!r})"
            )
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
            )
            assert (done.stdout.strip(), done.stderr) == (printed, "")


@pytest.mark.parametrize("server", ["boltws", "uvicorn"])
def test_fastapi_mount(server: str) -> None:
    """An HTTP route tells the mounted endpoint's clients, on our server and on uvicorn's."""
    with example("examples.fastapi_mount:app", server) as served:
        with (
            served.connect("/live/prices/gold") as gold,
            served.connect("/live/prices/gold") as too,
            served.connect("/live/prices/silver") as silver,
        ):
            # The handshake's answer comes before on_connect has run on every server.
            eventually(
                lambda: request(served, "POST", "/prices/gold?price=1")[2] == b'{"told":2}',
                "both are in the room",
            )
            status, _, body = request(served, "POST", "/prices/gold?price=2311.5")
            assert (status, json.loads(body)) == (200, {"told": 2})
            for client in (gold, too):
                heard = [client.recv(timeout=PATIENCE)]
                while heard[-1] != "gold 2311.5":
                    heard.append(client.recv(timeout=PATIENCE))
                assert set(heard[:-1]) <= {"gold 1.0"}
            request(served, "POST", "/prices/silver?price=29")
            assert silver.recv(timeout=PATIENCE) == "silver 29.0"
        with pytest.raises(InvalidStatus), served.connect("/live/prices/lead"):
            pass
        status, _, body = request(served, "POST", "/prices/lead?price=1")
        assert (status, json.loads(body)) == (200, {"told": 0})


def test_progress() -> None:
    """The job in the thread reports every step, one job a client, and a new one when it is done."""
    with example("examples.progress:bolt") as served, served.connect("/jobs") as client:
        client.send("what?")
        assert hear(client) == {"error": 'send "start"'}
        client.send("start")
        client.send("start")
        heard = [hear(client)]
        while heard[-1] != {"done": 20, "of": 20}:
            heard.append(hear(client))
        assert {"error": "your job is still running"} in heard
        heard.remove({"error": "your job is still running"})
        assert heard == [{"done": step, "of": 20} for step in range(1, 21)]


def test_progress_of_a_client_that_left() -> None:
    """A job whose client is gone gives up, and holds neither the next one nor the stop."""
    with example("examples.progress:bolt") as served:
        with served.connect("/jobs") as client:
            client.send("start")
            assert hear(client) == {"done": 1, "of": 20}
        with served.connect("/jobs") as client:
            client.send("start")
            assert hear(client) == {"done": 1, "of": 20}


def test_chat_page() -> None:
    """The page and its files come over HTTP, nothing else does."""
    with example("examples.chat.app:bolt") as served:
        status, headers, body = request(served, "GET", "/")
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"<title>Chat</title>" in body
        for name in ("chat.css", "chat.js"):
            status, headers, body = request(served, "GET", f"/{name}")
            assert status == 200
            assert body == (ROOT / "examples" / "chat" / "page" / name).read_bytes()
        status, headers, body = request(served, "HEAD", "/")
        assert (status, body) == (200, b"")
        assert request(served, "POST", "/")[0] == 405
        for path in ("/app.py", "/../app.py", "/%2e%2e/app.py", "/page/index.html"):
            assert request(served, "GET", path)[0] == 404
        assert request(served, "GET", "/chat")[0] == 426


def test_chat() -> None:
    """The protocol at the top of the file: join, came, said, left, and each error."""
    with example("examples.chat.app:bolt") as served:
        with served.connect("/chat") as ada:
            ada.send(json.dumps({"type": "join", "room": "Tea", "name": " Ada "}))
            welcome = hear(ada)
            me = welcome["you"]
            assert me["name"] == "Ada"
            assert welcome == {"type": "welcome", "room": "tea", "you": me, "people": [me]}
            with served.connect("/chat") as bob:
                bob.send(json.dumps({"type": "join", "room": "tea", "name": "ada"}))
                welcome = hear(bob)
                other = welcome["you"]
                assert other["name"] == "ada (2)"
                assert welcome["people"] == [me, other]
                assert hear(ada) == {"type": "came", "person": other}
                bob.send(json.dumps({"type": "say", "text": "hello"}))
                for client in (ada, bob):
                    said = hear(client)
                    assert isinstance(said.pop("at"), int)
                    assert said == {"type": "said", "person": other, "text": "hello"}
                # Another room: out of the one, into the other.
                bob.send(json.dumps({"type": "join", "room": "coffee", "name": "Bob"}))
                assert hear(bob)["people"] == [{"id": other["id"], "name": "Bob"}]
                assert hear(ada) == {"type": "left", "person": other}
                bob.send(json.dumps({"type": "join", "room": "tea", "name": "Bob"}))
                assert hear(bob)["room"] == "tea"
                bob_now = {"id": other["id"], "name": "Bob"}
                assert hear(ada) == {"type": "came", "person": bob_now}
            assert hear(ada) == {"type": "left", "person": bob_now}


def test_chat_of_all_scripts() -> None:
    """Names and rooms may have the joiners that Persian and emoji need; nobody passes for another
    by one more of them."""
    with example("examples.chat.app:bolt") as served, served.connect("/chat") as client:
        room = "سپیده\u200cدم"
        for name in (room, "👩\u200d👧 & co"):
            client.send(json.dumps({"type": "join", "room": room, "name": name}))
            assert hear(client)["you"]["name"] == name
        with served.connect("/chat") as other:
            name = "👩\u200d👧\u200d & co"
            other.send(json.dumps({"type": "join", "room": room, "name": name}))
            assert hear(other)["you"]["name"] == name + " (2)"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("not json", "json"),
        ("[" * 50_000, "json"),
        ("5", "json"),
        (json.dumps({"type": "dance"}), "type"),
        (json.dumps({"type": "join", "room": "tea"}), "name"),
        (json.dumps({"type": "join", "room": " ", "name": "Ada"}), "room"),
        (json.dumps({"type": "join", "room": "tea", "name": "x" * 33}), "name"),
        (json.dumps({"type": "join", "room": "tea", "name": "a\u202eb"}), "name"),
        (json.dumps({"type": "join", "room": "tea", "name": "\u200d \u200c"}), "name"),
        (json.dumps({"type": "say", "text": "x" * 2001}), "text"),
        (json.dumps({"type": "say", "text": "nobody hears"}), "room"),
    ],
    ids=lambda value: value[:20],
)
def test_chat_refuses(message: str, code: str) -> None:
    """Who sends nonsense is told what is wrong with it, and stays connected."""
    with example("examples.chat.app:bolt") as served, served.connect("/chat") as client:
        client.send(message)
        answer = hear(client)
        assert (answer["type"], answer["code"]) == ("error", code)
        client.send(json.dumps({"type": "join", "room": "tea", "name": "Ada"}))
        assert hear(client)["type"] == "welcome"
