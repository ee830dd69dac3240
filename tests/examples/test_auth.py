"""The four ways of examples/auth.py: who has a token is let in by each, who has none by none."""

from __future__ import annotations

import hmac
from typing import Any

import pytest
from examples import auth
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from ..process.harness import PATIENCE, Served
from .test_examples import example

pytestmark = pytest.mark.slow

WELCOMED = "Welcome, alice!"


def bearer(*tokens: str) -> dict[str, Any]:
    return {"subprotocols": ["inbox.v1", *(f"bearer.{token}" for token in tokens)]}


def assert_refused(served: Served, path: str, **options: Any) -> None:
    """It gets 401 and never becomes a client."""
    with pytest.raises(InvalidStatus) as refused, served.connect(path, **options):
        pass
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer let-alice-in"}, {"Cookie": "theme=dark; session=let-alice-in"}],
    ids=["header", "cookie"],
)
def test_header_and_cookie(headers: dict[str, str]) -> None:
    """Either will do; the same with another token will not."""
    with example("examples.auth:bolt") as served:
        with served.connect("/inbox", additional_headers=headers) as client:
            assert client.recv(timeout=PATIENCE) == WELCOMED
            client.send("hello")
            assert client.recv(timeout=PATIENCE) == "alice: hello"
        for wrong in ("let-eve-in", ""):
            bad = {name: value.replace("let-alice-in", wrong) for name, value in headers.items()}
            assert_refused(served, "/inbox", additional_headers=bad)


def test_a_wrong_header_is_not_made_good_by_a_cookie() -> None:
    """Who shows two gets in by the header or not at all: they may be two people's."""
    with example("examples.auth:bolt") as served:
        both = {"Authorization": "Bearer let-eve-in", "Cookie": "session=let-alice-in"}
        assert_refused(served, "/inbox", additional_headers=both)


def test_the_cookie_is_worth_nothing_on_a_page_from_elsewhere() -> None:
    """The origin is refused before the cookie is looked at: 403, not 401."""
    with example("examples.auth:bolt") as served:
        cookie = {"Cookie": "session=let-alice-in"}
        with (
            pytest.raises(InvalidStatus) as refused,
            served.connect("/inbox", additional_headers=cookie, origin="https://evil.example"),
        ):
            pass
        assert refused.value.response.status_code == 403


def test_subprotocol() -> None:
    """The answer names the protocol and not the token; no token, a wrong one and two get 401."""
    path = "/inbox/subprotocol"
    with example("examples.auth:bolt") as served:
        with served.connect(path, **bearer("let-alice-in")) as client:
            assert client.subprotocol == "inbox.v1"
            assert client.response is not None and "let-alice-in" not in str(client.response)
            assert client.recv(timeout=PATIENCE) == WELCOMED
        assert_refused(served, path)
        for wrong in ((), ("let-eve-in",), ("let-alice-in", "let-eve-in")):
            assert_refused(served, path, **bearer(*wrong))
        assert "let-" not in served.output, "a token was logged"


def test_first_message() -> None:
    """The token opens, and what comes behind it is a message; a token is asked for once."""
    with (
        example("examples.auth:bolt") as served,
        served.connect("/inbox/first-message") as client,
    ):
        client.send("let-alice-in")
        assert client.recv(timeout=PATIENCE) == WELCOMED
        client.send("let-bob-in")
        assert client.recv(timeout=PATIENCE) == "alice: let-bob-in"


@pytest.mark.parametrize("first", ["let-eve-in", "", b"let-alice-in"])
def test_first_message_that_is_no_token(first: str | bytes) -> None:
    """It ends the connection, and what was sent right behind it is not handled."""
    with (
        example("examples.auth:bolt") as served,
        served.connect("/inbox/first-message") as client,
    ):
        client.send(first)
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv(timeout=PATIENCE)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == auth.LOGIN_FAILED


def test_every_token_is_compared_whichever_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which token is right does not show in how many comparisons there are."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def counting(good: bytes, given: bytes) -> bool:
        compared.append((good, given))
        return real(good, given)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    for token, user in (("let-alice-in", "alice"), ("let-bob-in", "bob"), ("no", None)):
        compared.clear()
        assert auth.user_of(token) == user
        assert len(compared) == len(auth.TOKENS)
