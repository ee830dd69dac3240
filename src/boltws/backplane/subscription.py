"""One subject that this node is subscribed to."""

from __future__ import annotations

from collections.abc import Callable

from .sequences import Incoming

Handler = Callable[["Subscription", bytes, bytes, bytes | None], int]
"""Takes the subscription, the subject, the payload and the headers; says how many clients it was
delivered to."""


class Subscription:
    """Small, for a node has one for every room. The underscored names are those that nats-py
    looks for, which subscribes anew when it has reconnected."""

    __slots__ = ("_subject", "handler", "incoming", "key", "room", "sid", "stood")

    _queue = ""
    _max_msgs = 0
    _received = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, subject: str, key: str, handler: Handler, room: str = "") -> None:
        self._subject = subject
        self.key = key  # of its numbers
        self.handler = handler
        self.room = room
        self.sid = 0
        self.incoming = Incoming()
        self.stood = 0.0  # since when, by the loop's clock: the server has confirmed it
