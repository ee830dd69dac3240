"""`rate_limit`: a bucket of messages for each client, that refills evenly."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .client import OPEN, RATE, Client
from .errors import TOO_FAST
from .options import Options

if TYPE_CHECKING:
    from .hub import Hub

Put = Callable[[Client, str | bytes], bool]


def limited(put: Put, hub: Hub, options: Options) -> Put:
    """`put` of an endpoint's channel under its `rate_limit` and `rate_policy`."""
    assert options.rate_limit is not None
    messages, seconds = options.rate_limit
    policy = options.rate_policy
    ledger = hub.ledger

    def put_limited(client: Client, message: str | bytes) -> bool:
        assert hub.loop is not None
        now = hub.loop.time()
        left, then, timed = client.allowance or (float(messages), now, False)
        left = min(messages, left + (now - then) * messages / seconds) - 1
        if left < 0 and policy != "pause" and client.state == OPEN:
            ledger.received += 1
            ledger.dropped_in["rate"] += 1
            client.allowance = (left + 1, now, timed)
            if policy == "close":
                client.close(TOO_FAST)
            return False
        client.allowance = (left, now, timed)
        full = put(client, message)
        if left < 1 and policy == "pause" and client.state == OPEN:
            if not timed:  # as it is while what a lost peer had sent is read to its end
                client.allowance = (left, now, True)
                client.hold(RATE)
                hub.loop.call_later((1 - left) * seconds / messages, _refill, client)
            return True
        return full

    return put_limited


def _refill(client: Client) -> None:
    """The rate limit allows another message."""
    assert client.allowance is not None
    left, then, _ = client.allowance
    client.allowance = (left, then, False)
    client.release(RATE)
