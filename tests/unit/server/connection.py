"""A connection to a server as uvicorn makes it, over a fake transport."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from boltws import Bolt
from boltws.ledger import Ledger
from boltws.options import Options
from boltws.server.http import protocol_class
from boltws.server.wires import wires_of

from ..fakes import FakeTransport, passing

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
TICK = 1.0


class Connection:
    """A connection to a server of this Bolt, which has an endpoint at ``/``."""

    def __init__(
        self,
        on_message: Any = None,
        half_closes: bool = True,
        like: Connection | None = None,
        made: bool = True,
        **options: Any,
    ) -> None:
        self.bolt = Bolt(**options) if like is None else like.bolt
        self.state = ServerState() if like is None else like.state
        if like is None:
            self.bolt.ws("/", None, on_message)
        config = Config(self.bolt, ws="none", lifespan="off", log_config=None)
        config.load()
        loop = asyncio.get_running_loop()
        self.transport = FakeTransport(loop, half_closes=half_closes)
        self.protocol = protocol_class(
            self.bolt._runtime.options, loopback=True, ledger=self.bolt._runtime.hub.ledger
        )(config, self.state, {}, loop)
        if made:
            self.made()

    def made(self) -> None:
        """The connection stands; over TLS, when its handshake is done."""
        self.transport.set_protocol(self.protocol)
        self.protocol.connection_made(self.transport)

    def another(self, **how: Any) -> Connection:
        """Another connection to the same server."""
        return Connection(like=self, **how)

    def send(self, data: bytes) -> None:
        self.transport.receive(data)

    @property
    def statuses(self) -> list[int]:
        """The statuses of the answers so far."""
        lines = bytes(self.transport.sent).split(b"HTTP/1.1 ")[1:]
        return [int(line[:3]) for line in lines]

    def stands(self) -> bool:
        """Whether our side of the connection has not ended."""
        return not (self.transport.lost or self.transport.eof_sent)

    async def end(self, left: int = 0) -> None:
        """The peer has gone. `left` connections of the server have said nothing yet."""
        self.transport.lose()
        await passing(1 if left else 10)
        assert len(wires_of(self.state).pending) == left
        assert left or self.state.connections == set() or wires_of(self.state).drainers == 1
        assert self.bolt.stats().imbalance() == ""


def foreign(app: Any) -> tuple[FakeTransport, ServerState]:
    """A connection to a server of an ASGI app that is no Bolt."""
    config = Config(app, ws="none", lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    transport, state = FakeTransport(loop), ServerState()
    protocol = protocol_class(Options(), loopback=True, ledger=Ledger())(config, state, {}, loop)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    return transport, state
