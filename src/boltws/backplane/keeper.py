"""Keeps a node's connection to NATS for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, cast

from ..errors import BackplaneError
from .outside import cause_of
from .peers import HEARTBEAT
from .settings import Settings

if TYPE_CHECKING:
    from .link import Link

logger = logging.getLogger("boltws")

_STALE_PINGS = 2  # unanswered, two seconds apart, until a connection is given up
_NOT_LET_IN = ("not authorised", "authorization", "authentication")  # words of NATS' reasons
_PAUSE = 1.0  # seconds before another link is tried, and between two looks at one
_AGAIN = 5.0  # seconds until what NATS has refused is asked for again
_MOST_DENIED = 10  # lines about what is not permitted: there may be one for each message


class Keeper:
    """One link after the other. nats-py reconnects by itself, but gives up for good where a server
    that had let it in lets it in no more, and where something fails that it does not expect: a
    credentials file that is being rewritten, for one."""

    def __init__(
        self,
        settings: Settings,
        node: str,
        writes: Callable[[], int],
        up: Callable[[Link, bool], Awaitable[None]],
    ) -> None:
        self.stopping = False
        self.since = inf  # when the connection came up
        self.refused = False  # NATS refuses to let this connection subscribe to something
        self._settings = settings
        self._node = node
        self._writes = writes
        self._up = up  # called with a link that has connected, and whether it is a new one
        self._connected = asyncio.Event()
        self._lost = False  # the last of the two that was logged
        self._trouble = ""  # the last error, for who waits for the first connection
        self._causes: set[str] = set()  # why it is not back, as far as that is logged
        self._denied: set[str] = set()  # the same of what is not permitted
        self._refusals = 0

    async def connected(self, timeout: float) -> None:
        """Return when it has been connected. Raises :class:`BackplaneError` after `timeout`."""
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError:
            where, why = self._settings.safe, self._trouble or "no answer"
            if _is_refusal(why):
                raise BackplaneError(
                    f"the backplane {where} does not let us in: {why}; mend the credentials in "
                    "backplane= or BOLTWS_BACKPLANE"
                ) from None
            raise BackplaneError(
                f"cannot reach the backplane {where}: {why}; start it, or mend backplane= or "
                "BOLTWS_BACKPLANE"
            ) from None

    async def keep(self) -> None:
        """Connect, and go on trying."""
        from .link import Link

        while True:
            link = Link()
            link.writes = self._writes
            self.refused = False
            try:
                await self._connect(link)
            except Exception as error:  # a credentials file that is none, for one
                await self._on_error(error)
            else:
                await self._is_up(link, True)
                self._connected.set()
                await self._watch(link)
                await self._on_disconnected()
            if self.stopping:  # whoever stops it sends a last word on it
                return
            # In a task of its own, so that this one goes on whatever becomes of it.
            await asyncio.wait([asyncio.create_task(_bury(link))], timeout=_PAUSE)
            await asyncio.sleep(_PAUSE)

    async def _watch(self, link: Link) -> None:
        """Return when `link` is dead."""
        clock = asyncio.get_running_loop().time
        asked = clock()
        while not link.is_dead:
            with suppress(TimeoutError):
                await asyncio.wait_for(link.ended.wait(), _PAUSE)
            if self.refused and clock() - asked >= _AGAIN:
                await self._ask_again(link)
                asked = clock()

    async def _ask_again(self, link: Link) -> None:
        """Permissions may have been mended, which a server that read them anew does not say."""
        before = self._refusals
        try:
            await link.subscribed_again()
        except Exception:  # it is away, or hangs
            return
        if self.refused and self._refusals == before:
            self.refused = False
            self._denied.clear()
            logger.warning("the backplane %s refuses no subscription any more", self._settings.safe)

    async def _connect(self, link: Link) -> None:
        async def on_reconnected() -> None:
            await self._is_up(link, False)

        await link.connect(
            **self._settings.connect_options(),
            name=f"boltws {socket.gethostname()} {os.getpid()} {self._node}",
            no_echo=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=cast(int, 0.25),  # seconds; nats-py sleeps for it
            connect_timeout=2,
            ping_interval=int(HEARTBEAT),
            max_outstanding_pings=_STALE_PINGS,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=on_reconnected,
        )

    async def _on_error(self, error: Exception) -> None:
        trouble = cause_of(error)
        if "permissions" in trouble.lower():
            if "for subscription" in trouble.lower():
                self.refused = True
                self._refusals += 1
            self._tell_of_denied(trouble)
        # A server that does not let us in resets the connection, which may overtake its reason.
        if not (isinstance(error, ConnectionResetError) and _is_refusal(self._trouble)):
            self._trouble = trouble
        if self._lost and not self.stopping and self._trouble not in self._causes:
            self._causes.add(self._trouble)
            logger.warning("the backplane %s is not back: %s", self._settings.safe, self._trouble)

    def _tell_of_denied(self, trouble: str) -> None:
        if trouble in self._denied or len(self._denied) >= _MOST_DENIED:
            return
        self._denied.add(trouble)
        more = "; more of it is not logged" if len(self._denied) == _MOST_DENIED else ""
        logger.error("backplane %s: %s%s", self._settings.safe, trouble, more)

    async def _on_disconnected(self) -> None:
        self.since = inf
        self.refused = False
        self._denied.clear()
        if not self.stopping and not self._lost:
            self._lost = True
            self._causes.clear()
            logger.warning(
                "the backplane %s is lost: clients of this node are served on, others' messages "
                "do not come; trying again until it is back",
                self._settings.safe,
            )

    async def _is_up(self, link: Link, new: bool) -> None:
        if self._lost:
            self._lost = False
            logger.warning("the backplane %s is back", self._settings.safe)
        await self._up(link, new)
        self.since = asyncio.get_running_loop().time()


def _is_refusal(trouble: str) -> bool:
    """Whether the server does not let us in."""
    return any(word in trouble.lower() for word in _NOT_LET_IN)


async def _bury(link: Link) -> None:
    with suppress(Exception):  # nothing of it is of use any more
        await link.give_up()
