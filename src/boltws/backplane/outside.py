"""The connection of an outside publisher: nats-py's client, replaced whenever it is lost.

nats-py reconnects by itself, but not from everything: what the server calls an error (credentials
that ran out, too many connections) closes its client for good, and with a frozen server it waits
for ever. So a client is kept for one connection, and :class:`Connection` makes the next. A node
has :mod:`.link`, which needs to keep subscriptions as well.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
import ssl
from typing import TYPE_CHECKING, Any

from ..errors import BackplaneError, ConfigurationError
from .settings import Settings

if TYPE_CHECKING:
    from nats.aio.client import Client

logger = logging.getLogger("boltws")

FLUSH_TIMEOUT = 10.0
PENDING = 256 * 1024
"""Bytes that wait for the network before a publish waits too."""

_PING_EVERY = 5.0  # seconds: a server that is frozen or cut off is noticed by its silence alone
_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between attempts to reconnect
_GOODBYE = 1.0  # seconds that an old connection gets to close
_FOREVER = 10**6


def _client() -> Client:
    try:
        from nats.aio.client import Client
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "nats":
            raise
        raise ConfigurationError("publishing needs nats-py: pip install 'nats-py[nkeys]'") from None
    return Client()


class _Failed(Exception):
    """Carries an error out of nats-py's `connect`, which would try again and again."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Session:
    """One client for one connection."""

    def __init__(self) -> None:
        self.client = _client()
        self.sent = 0
        self.confirmed = 0
        self.refused = ""
        """What the server would not let us publish, until that is told."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the connection is no more."""
        self._up = False
        self._pings: set[asyncio.Task[float]] = set()

    async def connect(self, settings: Settings, server: str, patience: float) -> None:
        """Connect to one server, or raise why not."""
        try:
            await self.client.connect(
                **{**settings.connect_options(), "servers": [server]},
                name="boltws publisher",
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnect,
                closed_cb=self._on_disconnect,
                connect_timeout=patience,  # type: ignore[arg-type]  # a float does as well
                pending_size=0,  # nothing is kept while there is no connection
            )
            self._up = True
            if not self.client.is_connected:
                raise ConnectionError("the server's answer was not understood")
        except BaseException as error:
            await self.discard()
            if isinstance(error, _Failed):
                raise error.error from None
            raise

    async def _on_error(self, error: Exception) -> None:
        if not self._up:
            raise _Failed(error)
        text = cause_of(error)
        if "permissions violation" in text.lower():
            self.refused = text
        else:
            self.lose(text)

    async def _on_disconnect(self) -> None:
        error = self.client.last_error
        self.lose("the connection was lost" if error is None else cause_of(error))
        if not self.client.is_closed:
            # nats-py is about to reconnect: it waits here until it is discarded.
            await asyncio.Event().wait()

    def lose(self, why: str) -> None:
        """Give this connection up."""
        if not self.lost.done():
            self.lost.set_result(why)

    @property
    def alive(self) -> bool:
        """Whether something can be published, as far as is known."""
        if self._up and not self.client.is_connected:
            self.lose("the connection was lost")
        return not self.lost.done()

    async def written(self, rest: int, timeout: float) -> bool:
        """Wait until at most `rest` bytes wait for the network."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        pause = 0.0
        while self.client.pending_data_size > rest:
            if not self.alive or loop.time() > end:
                return False
            await asyncio.sleep(pause)  # nats-py's task gets its turn; there is no event for it
            pause = min(pause + 0.0005, 0.01)
        return self.alive

    async def answered(self, timeout: float) -> bool:
        """Wait until the server has taken all that was published before."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        # A ping overtakes what waits, so nothing may.
        if not await self.written(0, timeout):
            return False
        # A ping that is cancelled or times out would break nats-py's reading when its answer does
        # come, so a task that nobody cancels waits for it. Not `flush`: it is content where
        # reading has ended.
        ping = loop.create_task(self.client.rtt(timeout=_FOREVER))
        self._pings.add(ping)
        ping.add_done_callback(self._pinged)
        either: set[asyncio.Future[Any]] = {ping, self.lost}
        await asyncio.wait(either, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED)
        return ping.done() and not ping.cancelled() and ping.exception() is None

    def _pinged(self, ping: asyncio.Task[float]) -> None:
        self._pings.discard(ping)
        if not ping.cancelled() and ping.exception() is not None:
            self.lose("the connection was lost")

    async def watch(self, patience: float) -> str:
        """Return when the connection is no more: why."""
        while self.alive:
            await asyncio.wait({self.lost}, timeout=_PING_EVERY)
            if not await self.answered(patience):
                self.lose(f"no answer in {patience:g} s")  # unless there is a better reason
        return self.lost.result()

    async def discard(self) -> None:
        """Close it; what has not been sent may be gone."""
        self.lose("closed")
        self._up = True  # no error matters any more
        # In a task: nats-py waits for a future that it may have cancelled itself, and that would
        # look like a cancelling of ours.
        closing = asyncio.create_task(self.client.close())
        await asyncio.wait({closing}, timeout=_GOODBYE)
        closing.cancel()
        closing.add_done_callback(_ignored)
        for ping in self._pings:
            ping.cancel()


class Connection:
    """A connection that is made when it is first needed, and again whenever it is lost."""

    def __init__(self, settings: Settings, patience: float) -> None:
        self._settings = settings
        self._patience = patience
        self._servers = settings.servers
        self._session: Session | None = None
        self._opening: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        self._unsure = 0  # messages of lost connections that no flush has spoken of
        self._why = ""  # the last attempt to reconnect failed
        self._closed = False

    # Its life.

    async def open(self) -> None:
        """Connect. Raises :class:`BackplaneError`; returns at once when that has been done."""
        self._check()
        if self._keeper is not None:
            return
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)
        await asyncio.shield(self._opening)
        self._check()

    async def _open(self) -> None:
        self._session = await self._connect()
        self._keeper = asyncio.create_task(self._keep(self._session))

    def _opened(self, opening: asyncio.Task[None]) -> None:
        self._opening = None
        _ignored(opening)  # whoever waits is told, if anybody still does

    def _check(self) -> None:
        if self._closed:
            raise BackplaneError("the publisher is closed")
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "this Publisher was used on another event loop; make one for each, "
                "or use a SyncPublisher"
            )

    async def close(self) -> None:
        """Disconnect for good, at once."""
        self._closed = True
        if self._opening is not None:
            await asyncio.wait({self._opening})
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._session is not None:
            await self._session.discard()

    async def _keep(self, session: Session) -> None:
        while True:
            why = await session.watch(self._patience)
            logger.info("lost %s: %s", self._settings.safe, why)
            self._settle(session)
            found = [f"{url.scheme}://{url.netloc}" for url in session.client.discovered_servers]
            self._servers = tuple(dict.fromkeys([*self._settings.servers, *found]))
            await session.discard()
            session = self._session = await self._again()
            self._why = ""
            logger.info("connected to %s again", self._settings.safe)

    async def _again(self) -> Session:
        pause = _PAUSE
        while True:
            try:
                return await self._connect()
            except Exception as error:
                self._why = str(error)
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _connect(self) -> Session:
        """A session with whichever server takes us; each is tried once, all in the given time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._patience
        servers = random.sample(self._servers, len(self._servers))
        causes = []
        for number, server in enumerate(servers):
            session = Session()
            share = (end - loop.time()) / (len(servers) - number)
            try:
                async with asyncio.timeout(share):
                    await session.connect(self._settings, server, self._patience)
                return session
            except Exception as error:
                if isinstance(error, TimeoutError):
                    causes.append(f"no answer in {share:.3g} s")
                else:
                    causes.append(cause_of(error))
        why = "; ".join(dict.fromkeys(causes))
        raise BackplaneError(f"cannot connect to {self._settings.safe}: {why}")

    def _settle(self, session: Session) -> None:
        """Messages that were not confirmed when the connection was lost may not have arrived."""
        self._unsure += session.sent - session.confirmed
        session.confirmed = session.sent

    def _live(self) -> Session:
        session = self._session
        if session is None or not session.alive:
            why = self._why or (session.lost.result() if session else "")
            if not why.startswith("cannot connect"):
                why = f"not connected to {self._settings.safe}: {why}"
            raise BackplaneError(f"{why}; reconnecting")
        return session

    # What it is for.

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str] | None) -> None:
        """Hand one message over, after those before it."""
        await self.open()
        async with self._turn:
            self._check()
            session = self._live()
            client = session.client
            size = len(payload) + _size(headers)
            if size > client.max_payload:
                raise ValueError(
                    f"the message has {size:,} bytes with its headers, "
                    f"and the server takes at most {client.max_payload:,}"
                )
            if not await session.written(PENDING, self._patience):
                self._check()
                self._live()
                raise BackplaneError(
                    f"{self._settings.safe} has taken nothing for {self._patience:g} s"
                )
            await client.publish(subject, payload, headers=headers)
            session.sent += 1

    async def written(self) -> None:
        """Wait until the operating system has what was published."""
        if self._session is not None:
            await self._session.written(0, self._patience)

    @property
    def uncertain(self) -> bool:
        """Whether anything was published that no flush has confirmed or spoken of."""
        session = self._session
        return self._unsure > 0 or (session is not None and session.sent > session.confirmed)

    async def flush(self) -> None:
        """Return when the server has all. Raises :class:`BackplaneError` when it may not."""
        await self.open()
        session = self._session
        assert session is not None
        sent = session.sent
        answered = session.alive and await session.answered(FLUSH_TIMEOUT)
        if answered:
            session.confirmed = max(session.confirmed, sent)
        elif session.alive:
            session.lose(f"no answer in {FLUSH_TIMEOUT:g} s")
        if not session.alive:
            self._settle(session)
        unsure, self._unsure = self._unsure, 0
        refused, session.refused = session.refused, ""
        if refused:
            raise BackplaneError(f"{self._settings.safe} refused a message: {refused}")
        if unsure:
            raise BackplaneError(
                f"the connection to {self._settings.safe} was lost: the last {unsure} messages "
                "before that may not have arrived"
            )
        if not answered:
            self._check()
            self._live()


def _ignored(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


def _size(headers: dict[str, str] | None) -> int:
    """Bytes of headers, which count as payload: ``NATS/1.0``, a line for each, an empty line."""
    if headers is None:
        return 0
    return 12 + sum(len(name) + len(value) + 4 for name, value in headers.items())


def cause_of(error: Exception) -> str:
    """An error of connecting, in a few words and one line."""
    text = " ".join(str(error).split()).removeprefix("nats: ").strip("' ")
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in text:
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return f"unknown host ({error.strerror})"
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or text
        return f"TLS: {why}"
    if isinstance(error, TimeoutError) and not text:
        return "no answer"
    if text.lower() in ("authorization violation", "authorization failed"):
        return "not authorised"
    if isinstance(error, ModuleNotFoundError) and error.name == "nkeys":
        return "nkey and creds files need nkeys: pip install 'nats-py[nkeys]'"
    if isinstance(error, OSError):
        return error.strerror or text or type(error).__name__
    return text or type(error).__name__
