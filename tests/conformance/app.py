"""The echo example behind limits that let the suite's largest messages through (group 9)."""

from __future__ import annotations

import atexit
from typing import Any

from examples.echo import said

from boltws import Bolt

LARGEST = 16 * 2**20


def serve_echo(**options: Any) -> Bolt:
    """A Bolt with the example's handler; when it ends, it says whether its books balance."""
    made = Bolt(
        max_message_size=LARGEST,
        max_fragments=LARGEST // 64,  # the suite's smallest fragments have 64 bytes
        channel_bytes=LARGEST,
        send_buffer_limit=LARGEST,
        **options,
    )
    made.ws("/echo").on_message(said)
    atexit.register(lambda: print(f"books: {made.stats().imbalance() or 'balance'}"))  # noqa: T201 - the runner reads it
    return made


bolt = serve_echo()
