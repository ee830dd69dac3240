"""What stands in for the machine: a transport without a socket, a loop that jumps over time."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class FakeTransport(asyncio.Transport):
    """A transport whose other end is the test. What it does itself is what asyncio's does.

    As the peer the test calls :meth:`receive`, :meth:`receive_eof`, :meth:`lose`, and, for a peer
    that does not read, :meth:`stall` and :meth:`drain`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, half_closes: bool = True) -> None:
        super().__init__()
        self.sent = bytearray()  # all that was taken, whether the peer has read it or not
        self.late = bytearray()  # what was written when the connection was over
        self.unsent = 0
        self.reading = True
        self.pauses = 0  # how often reading was paused
        self.aborted = False
        self.eof_sent = False
        self.lost = False  # `connection_lost` was called
        self.high = self.low = 0
        self._loop = loop
        self._half_closes = half_closes  # as TCP does, and TLS does not
        self._protocol: Any = None
        self._stalled = False
        self._writing_paused = False
        self._closing = False
        self._over = False  # `connection_lost` is on its way
        self._cut_off = False
        self._incoming: deque[bytes] = deque()

    # The peer.

    def receive(self, data: bytes) -> None:
        """The peer's bytes arrive: read at once, or kept while reading is paused."""
        if self._closing:
            return
        if self.reading and not self._incoming:
            self._protocol.data_received(data)
        else:
            self._incoming.append(data)

    def receive_eof(self) -> None:
        """The peer will send no more."""
        assert self.reading and not self._incoming, "an end is read behind what came before it"
        if not self._protocol.eof_received():
            self.close()

    def lose(self, error: Exception | None = None) -> None:
        """The connection breaks."""
        if not self._over:
            self._closing = self._over = True
            self._call_lost(error)

    def stall(self) -> None:
        """The peer reads no more: what is written stays unsent."""
        self._stalled = True

    def drain(self, size: int | None = None) -> None:
        """The peer reads `size` of the unsent bytes, or all and goes on reading."""
        if size is None:
            self._stalled = False
            size = self.unsent
        self.unsent -= size
        if self._writing_paused and self.unsent <= self.low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if self._closing and not self.unsent:
            self._end(None)

    # The transport.

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._incoming.clear()
            if not self.unsent:
                self._end(None)
        elif not self._half_closes:  # asyncio's lets go of its TLS then, and aborts nothing
            self._cut_off = True

    def abort(self) -> None:
        if not self._over and not self._cut_off:
            self.aborted = self._closing = True
            self.unsent = 0
            self._incoming.clear()
            self._end(None)

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        if self.reading and not self._closing:
            self.reading = False
            self.pauses += 1

    def resume_reading(self) -> None:
        if not self.reading and not self._closing:
            self.reading = True
            self._loop.call_soon(self._deliver)

    def write(self, data: Any) -> None:
        if self.eof_sent:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._over:
            self.late += data
            return
        self.sent += data
        if self._stalled:
            self.unsent += len(data)
            if self.unsent > self.high and not self._writing_paused:
                self._writing_paused = True
                self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return self._half_closes

    def write_eof(self) -> None:
        assert self._half_closes
        if not self._closing:
            self.eof_sent = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = 64 * 1024 if high is None else high
        self.low = self.high // 4 if low is None else low
        if self._protocol is None:
            return
        if self.unsent > self.high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()
        elif self.unsent <= self.low and self._writing_paused and not self._half_closes:
            self._writing_paused = False  # over TLS; without it only when more has been read
            self._protocol.resume_writing()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self.low, self.high

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def _deliver(self) -> None:
        # One read a turn, as a real loop does; what is read may pause reading.
        if self.reading and self._incoming:
            self._loop.call_soon(self._deliver)
            self._protocol.data_received(self._incoming.popleft())

    def _end(self, error: Exception | None) -> None:
        if not self._over:
            self._over = True
            self._loop.call_soon(self._call_lost, error)

    def _call_lost(self, error: Exception | None) -> None:
        self.lost = True
        self._protocol.connection_lost(error)


class _Jumping(selectors.DefaultSelector):
    """Waits for nothing: time jumps to when the next timer is due."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("the test waits for something that will never happen")
        self.now += max(timeout, 0)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop on which an hour of sleep takes no time, and each run is like the last."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a loop of its own. What a callback of the loop raises fails it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        raised: list[Any] = []
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: raised.append(context))
            runner.run(test(*args, **kwargs))
        for context in raised:
            raise AssertionError(context["message"]) from context.get("exception")

    return run


async def turn() -> None:
    """Let one turn of the loop pass."""
    await asyncio.sleep(0)


async def passing(seconds: float) -> None:
    """Let time pass, which takes none."""
    await asyncio.sleep(seconds)
