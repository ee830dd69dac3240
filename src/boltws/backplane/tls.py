"""TLS is what was asked for, or no secret leaves.

nats-py begins TLS only where the server's first line demands it: with a ``tls://`` URL too, it
sends its token in the clear to a server, or to whoever sits in between, that does not demand it.
"""

from __future__ import annotations

import ssl
from typing import Any


class Witness(ssl.SSLContext):
    """Stands before a context and notes what is begun with it."""

    _context: ssl.SSLContext
    _begun: ssl.SSLObject | None

    def __new__(cls, context: ssl.SSLContext) -> Witness:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made._context = context
        made._begun = None
        return made

    def __init__(self, context: ssl.SSLContext) -> None:
        pass  # object's would refuse the argument

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """What an event loop calls to begin TLS."""
        self._begun = self._context.wrap_bio(*arguments, **options)
        return self._begun

    def check(self) -> None:
        """Raise ``ssl.SSLError`` unless TLS has been agreed on since the last check."""
        begun, self._begun = self._begun, None
        if begun is None or begun.version() is None:
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the server does not offer it")
