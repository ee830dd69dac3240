"""What can go wrong, and how a connection ends.

::

    BoltError
    ├── ConfigurationError   (ValueError)    an option, a path or a callback is not usable
    ├── StartError           (RuntimeError)  the server cannot start
    ├── AlreadyStarted       (RuntimeError)  too late to add an endpoint, a callback or middleware
    ├── NotRunning           (RuntimeError)  an operation before the start or after the stop
    ├── BackplaneError       (ConnectionError)  the NATS servers cannot be reached
    ├── NoEvent              (LookupError)   no event is being handled here
    └── NotAborting          (RuntimeError)  an abort elsewhere than in a before

A closing is a value, :class:`Close`: a code of RFC 6455, section 7.4, and a reason.
"""

from __future__ import annotations

from typing import NamedTuple


class BoltError(Exception):
    """The base of every error that boltws raises on purpose."""


class ConfigurationError(BoltError, ValueError):
    """An option, a path pattern, an endpoint or a callback that cannot be used."""


class StartError(BoltError, RuntimeError):
    """The server cannot start: the port is taken, the app cannot be imported."""


class AlreadyStarted(BoltError, RuntimeError):
    """Endpoints, callbacks and middleware are added before the start; it has started."""


class NotRunning(BoltError, RuntimeError):
    """An operation on clients before the start or after the stop."""


class BackplaneError(BoltError, ConnectionError):
    """The backplane's servers cannot be reached, or do not let us in."""


class NoEvent(BoltError, LookupError):
    """An ambient getter was called where no event is being handled."""


class NotAborting(BoltError, RuntimeError):
    """``ws_event_abort()`` was called elsewhere than in a before."""


class Close(NamedTuple):
    """How a connection ends: a close code and a reason of at most 123 UTF-8 bytes."""

    code: int
    reason: str = ""


# Come back: the connection is welcome again, now or in a while.
GOING_AWAY = Close(1012, "service restart")
OVERFLOW = Close(1013, "event channel full")
SLOW_CONSUMER = Close(1013, "slow consumer")
KEEPALIVE_TIMEOUT = Close(1011, "keepalive timeout")
HANDLER_ERROR = Close(1011, "handler error")
HANDLER_TIMEOUT = Close(1011, "handler timeout")

# Do not: what was sent will be refused again.
TOO_BIG = Close(1009, "message too big")
TOO_MANY_FRAGMENTS = Close(1009, "too many fragments")
UNFINISHED = Close(1008, "message not finished in time")
TOO_FAST = Close(1008, "too many messages")
BAD_UTF8 = Close(1007, "invalid UTF-8")

# Never on the wire (RFC 6455, section 7.4.1): how the ledger names an end without a code.
NO_CODE = 1005
LOST = 1006


def check_close(code: int, reason: str) -> None:
    """Raise ``ValueError`` unless `code` and `reason` may go out in a close frame."""
    if not is_sendable(code):
        raise ValueError(
            f"a close code is 1000, 1001, 1003, 1007 to 1014 or 3000 to 4999, not {code!r}"
        )
    if not isinstance(reason, str):
        raise TypeError(f"a close reason is a str, not {type(reason).__name__}")
    if (size := len(reason.encode())) > 123:
        raise ValueError(f"a close reason has at most 123 UTF-8 bytes, this one has {size}")


def is_whole(number: object) -> bool:
    """Whether it is an ``int``, an ``IntEnum``'s too; ``True`` is none."""
    return isinstance(number, int) and not isinstance(number, bool)


def is_sendable(code: int) -> bool:
    """Whether a close frame of ours may carry `code`."""
    return is_whole(code) and (
        1007 <= code <= 1014 or code in (1000, 1001, 1003) or 3000 <= code <= 4999
    )


def is_receivable(code: int) -> bool:
    """Whether a peer's close frame may carry `code` (RFC 6455, section 7.4)."""
    return 1007 <= code <= 1014 or 1000 <= code <= 1003 or 3000 <= code <= 4999
