"""A start while the backplane is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from boltws import BackplaneError, Bolt
from boltws.remote import Traffic

from .flow import turns_until


class Away:
    """A backplane that is not there. `checked` when it has been waited for."""

    def __init__(self) -> None:
        self.checked = asyncio.Event()

    def check(self) -> None: ...

    def start(self, hub: Any) -> None: ...

    def abandon(self) -> None: ...

    def occupied(self, room: str) -> None: ...

    def traffic(self) -> Traffic:
        return Traffic()

    async def connected(self) -> None:
        self.checked.set()
        raise BackplaneError("cannot reach the backplane")


@pytest.mark.parametrize("by_lifespan", [False, True])
async def test_a_backplane_that_is_away_without_a_lifespan(
    caplog: pytest.LogCaptureFixture, by_lifespan: bool
) -> None:
    """Under a mount nobody waits for it: the log says that it is away. A lifespan raises it."""
    away = Away()
    bolt = Bolt(backplane=away)  # type: ignore[arg-type]
    runtime = bolt._runtime
    runtime.start(by_lifespan=by_lifespan)
    try:
        if by_lifespan:
            with pytest.raises(BackplaneError):
                await runtime.connected()
        await away.checked.wait()
        await turns_until(lambda: not runtime._tasks)
    finally:
        runtime.stop()
    said = ["cannot reach the backplane; trying on"] if not by_lifespan else []
    assert caplog.messages == said
