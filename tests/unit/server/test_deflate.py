"""Compression: whom a compressed frame is shared with, and what is agreed to."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import NegotiationError

from boltws.frames import split, text_frame
from boltws.server import deflate
from boltws.server.deflate import Deflate, negotiate


def agreed(offer: str = "permessage-deflate") -> Deflate:
    found = negotiate([offer])
    assert found is not None
    return found[0].deflate


def inflated(frame: bytes) -> bytes:
    assert frame[0] & 0x40, "not compressed"
    inflater = zlib.decompressobj(wbits=-15)
    return inflater.decompress(split(frame)[1] + b"\x00\x00\xff\xff")


def test_a_broadcast_is_compressed_once() -> None:
    """The same frame for two clients of a loop becomes the same bytes object."""
    frame = text_frame("a message that repeats itself, " * 20)
    first, second = agreed(), agreed()
    assert first(frame) is second(frame)
    assert inflated(first(frame)) == split(frame)[1]


def test_threads_share_nothing() -> None:
    """Loops in two threads would mix their messages: neither the codec nor the last result is
    common to them."""
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(agreed).result()
        assert elsewhere is not agreed()
        assert elsewhere is pool.submit(agreed).result()


class Factory:
    """Agrees to the windows that it is given, one for each offer."""

    name = "permessage-deflate"

    def __init__(self, *windows: int) -> None:
        self._windows = list(windows)

    def process_request_params(self, parameters: Any, accepted: Any) -> tuple[Any, Any]:
        window = self._windows.pop(0)
        if not window:
            raise NegotiationError
        codec = SimpleNamespace(local_max_window_bits=window)
        return [("server_max_window_bits", str(window))], codec


def test_a_window_that_zlib_has_not_is_not_agreed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of websockets agree to 8 bits. Another offer of the peer's may do."""
    monkeypatch.setattr(deflate, "_FACTORY", Factory(8, 0, 9))
    found = negotiate(["permessage-deflate, permessage-deflate", "permessage-deflate"])
    assert found is not None and found[1] == "permessage-deflate; server_max_window_bits=9"
    monkeypatch.setattr(deflate, "_FACTORY", Factory(8))
    assert negotiate(["permessage-deflate; server_max_window_bits=8"]) is None
