"""The exception tree, and closings as values."""

from __future__ import annotations

from enum import IntEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boltws import errors
from boltws.errors import (
    AlreadyStarted,
    BoltError,
    Close,
    ConfigurationError,
    NoEvent,
    NotAborting,
    NotRunning,
    StartError,
    check_close,
    is_receivable,
    is_sendable,
)

# Codes that a close frame may carry, as api.md lists them: 1004 to 1006 and 1015 never are.
SENDABLE = {1000, 1001, 1003, *range(1007, 1015), *range(3000, 5000)}
# 1002 is ours to send for a broken protocol, and not for an app; a peer may send it.
RECEIVABLE = SENDABLE | {1002}

CLOSES = {name: value for name, value in vars(errors).items() if isinstance(value, Close)}


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (ConfigurationError, ValueError),
        (StartError, RuntimeError),
        (AlreadyStarted, RuntimeError),
        (NotRunning, RuntimeError),
        (NoEvent, LookupError),
        (NotAborting, RuntimeError),
    ],
)
def test_the_tree(error: type[Exception], base: type[Exception]) -> None:
    """Every error is a BoltError, and what a caller without boltws at hand would expect."""
    assert issubclass(error, BoltError)
    assert issubclass(error, base)


@given(st.one_of(st.integers(), st.integers(990, 1020), st.integers(2990, 5010)))
def test_codes(code: int) -> None:
    """Exactly the codes of RFC 6455, section 7.4, may go out and come in."""
    assert is_sendable(code) == (code in SENDABLE)
    assert is_receivable(code) == (code in RECEIVABLE)


@pytest.mark.parametrize("code", [None, "1000", 1000.0, True, 999, 1005, 1006, 1015, 5000, -1])
def test_a_code_that_cannot_go_out(code: object) -> None:
    """The error says which codes there are, and which was given."""
    with pytest.raises(ValueError, match="3000 to 4999") as caught:
        check_close(code, "")  # type: ignore[arg-type]
    assert repr(code) in str(caught.value)


def test_an_enum_of_codes_may_be_used() -> None:
    """It is a whole number too."""

    class Code(IntEnum):
        BANNED = 4001

    check_close(Code.BANNED, "")


def test_a_reason_has_at_most_123_bytes() -> None:
    """Bytes are counted, not characters, as the frame does."""
    check_close(1000, "x" * 123)
    check_close(1000, "é" * 61)
    with pytest.raises(ValueError, match="123 UTF-8 bytes, this one has 124"):
        check_close(1000, "x" * 124)
    with pytest.raises(ValueError, match="this one has 124"):
        check_close(1000, "é" * 62)


def test_a_reason_is_text() -> None:
    """Bytes and None are a TypeError; a lone surrogate does not encode, a ValueError."""
    with pytest.raises(TypeError, match="not bytes"):
        check_close(1000, b"bye")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surrogate"):
        check_close(1000, "\ud800")


@pytest.mark.parametrize("name", CLOSES)
def test_our_own_closings_can_go_out(name: str) -> None:
    """Every closing of ours is within what the RFC allows on the wire."""
    check_close(*CLOSES[name])
    assert CLOSES[name].reason


def test_which_code_says_what() -> None:
    """The codes that design.md promises to peers."""
    assert {name: close.code for name, close in CLOSES.items()} == {
        "GOING_AWAY": 1012,
        "OVERFLOW": 1013,
        "SLOW_CONSUMER": 1013,
        "KEEPALIVE_TIMEOUT": 1011,
        "HANDLER_ERROR": 1011,
        "HANDLER_TIMEOUT": 1011,
        "TOO_BIG": 1009,
        "TOO_MANY_FRAGMENTS": 1009,
        "UNFINISHED": 1008,
        "TOO_FAST": 1008,
        "BAD_UTF8": 1007,
    }
