"""An event's way: befores, handler, afters. Composed once, when the endpoint is sealed."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from .errors import ConfigurationError
from .event import MESSAGE, Event
from .loading import fits
from .workers import Workers

logger = logging.getLogger("boltws")

Callback = Callable[..., Any]
Step = Callable[[Event], Any]
Pipeline = Step


def takes_event(callback: Callback) -> bool:
    """Whether a callback takes the event (True) or nothing (False).

    Raises :class:`ConfigurationError` for one that takes anything else, and for a generator
    function, which would never run.
    """
    if inspect.isclass(callback):
        raise ConfigurationError(
            f"callback {name_of(callback)} must be no class: a call would make one of it and drop "
            f"it; register a method of an object, {callback.__name__}().said for one"
        )
    _refuse_generator(callback)
    try:
        signature = inspect.signature(callback, follow_wrapped=False)
    except (TypeError, ValueError):
        return True  # a builtin without a signature
    event, nothing = fits(signature, 1), fits(signature, 0)
    if event and nothing and hasattr(callback, "__wrapped__"):  # (*args): it hands on what it gets
        wrapped = inspect.signature(callback)
        return fits(wrapped, 1) or not fits(wrapped, 0)
    if next(iter(signature.parameters), "") in ("self", "cls"):
        raise ConfigurationError(
            f"callback {name_of(callback)}{signature} is a method without its object: register "
            "that of an object, on_message(chat.said) where chat is one"
        )
    if not event and not nothing:
        raise ConfigurationError(
            f"callback {name_of(callback)}{signature} must take the event or nothing"
        )
    return event


def takes_error(callback: Callback) -> None:
    """Raise :class:`ConfigurationError` unless a callback takes an event and an exception."""
    if not callable(callback):
        raise ConfigurationError(f"on_error takes a callable, not {callback!r}")
    _refuse_generator(callback)
    try:
        signature = inspect.signature(callback, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    if not fits(signature, 2):
        raise ConfigurationError(
            f"on_error callback {name_of(callback)}{signature} must take the event and the "
            "exception"
        )


def _refuse_generator(callback: Callback) -> None:
    called = _called(callback)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise ConfigurationError(
            f"callback {name_of(callback)} must be no generator: it has a yield, so a call would "
            "run nothing; send with event.reply(...)"
        )


def _called(callback: Any) -> Any:
    """The function that runs: an object's is its ``__call__``, a partial's what it was made of."""
    while isinstance(callback, partial):
        callback = callback.func
    return callback if inspect.isroutine(callback) else callback.__call__


def name_of(callback: Callback) -> str:
    """How a callback is called in an error or a log line."""
    name = getattr(callback, "__qualname__", None) or repr(callback)
    module = getattr(callback, "__module__", None)
    return f"{module}.{name}" if module else name


def as_step(callback: Callback, workers: Workers | None) -> Step:
    """`callback` as a function of the event, in a worker thread where `workers` are given."""
    step: Step
    if takes_event(callback):
        step = callback
    else:

        def step(event: Event) -> Any:
            return callback()

    if workers is None or inspect.iscoroutinefunction(inspect.unwrap(_called(callback))):
        return step

    async def in_thread(event: Event) -> Any:
        thread = event.thread = workers.submit(step, event)
        try:
            # Shielded: a thread cannot be stopped, so whoever cancels must be able to wait for it.
            result = await asyncio.shield(thread)
        except asyncio.CancelledError:
            # `connect` and `disconnect` are never dropped: they run, however late.
            begun = event.type != MESSAGE or not workers.withdraw(thread)
            if begun and not thread.done():
                thread.add_done_callback(raised_late)
            raise
        return await result if is_awaitable(result) else result

    def raised_late(thread: asyncio.Future[Any]) -> None:
        error = thread.exception()
        if error is not None:
            logger.error(
                "callback %s raised when its time was over", name_of(callback), exc_info=error
            )

    return in_thread


def is_awaitable(result: Any) -> bool:
    """Whether a callback's result is to be awaited."""
    return hasattr(type(result), "__await__")


def compose(befores: Sequence[Step], rest: Sequence[Step]) -> Pipeline:
    """`befores`, any of which may abort, then `rest`, as one function.

    It returns an awaitable where a step must be awaited before the event is done.
    """
    if not befores and not rest:
        return _nothing
    if not befores and len(rest) == 1:
        return rest[0]  # most endpoints are one function: no call of ours around it
    steps = (*befores, *rest)
    first_of_rest = len(befores)

    def run(event: Event) -> Awaitable[Any] | None:
        try:
            for index, step in enumerate(steps):
                event.abortable = index < first_of_rest
                result = step(event)
                if result is not None and is_awaitable(result):
                    return resume(event, result, index)
                if event.aborted is not None:
                    break
        finally:
            event.abortable = False
        return None

    async def resume(event: Event, pending: Awaitable[Any], index: int) -> None:
        try:
            event.abortable = index < first_of_rest
            await pending
            while event.aborted is None and (index := index + 1) < len(steps):
                event.abortable = index < first_of_rest
                result = steps[index](event)
                if result is not None and is_awaitable(result):
                    await result
        finally:
            event.abortable = False

    return run


def _nothing(event: Event) -> None:
    return None
