"""Befores, handler, afters as one function of the event."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Generator
from typing import Any

import pytest

from boltws import ConfigurationError, NotAborting
from boltws.event import Event, MessageEvent
from boltws.pipeline import Step, as_step, compose, is_awaitable, name_of, takes_error, takes_event
from boltws.workers import Workers


def event() -> Event:
    """An event of no client: a pipeline asks it for nothing but the abort."""
    return MessageEvent(None)  # type: ignore[arg-type]


async def run(pipeline: Step, it: Event | None = None) -> Event:
    """Run a pipeline to its end, as a channel does."""
    it = it or event()
    result = pipeline(it)
    if result is not None and is_awaitable(result):
        await result
    return it


class Trace(list[str]):
    """Steps that note their names."""

    def step(self, name: str, then: Callable[[Event], Any] = lambda event: None) -> Step:
        def step(event: Event) -> None:
            self.append(name)
            then(event)

        return step

    def async_step(self, name: str, then: Callable[[Event], Any] = lambda event: None) -> Step:
        async def step(event: Event) -> None:
            await asyncio.sleep(0)
            self.append(name)
            then(event)

        return step


class Callback:
    """A callable object."""

    def __call__(self, event: Event) -> str:
        return f"called {event.type}"

    def method(self, event: Event) -> str:
        return f"method {event.type}"

    async def awaited(self) -> str:
        return "awaited"


class AsyncCallback:
    async def __call__(self, event: Event) -> str:
        return f"async {event.type}"


class Awaitable:
    """What is awaitable and neither a coroutine nor a future."""

    def __init__(self, done: Callable[[], Any]) -> None:
        self._done = done

    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.sleep(0).__await__()
        self._done()


# What a callback takes.


@pytest.mark.parametrize(
    ("callback", "takes"),
    [
        (lambda event: None, True),
        (lambda: None, False),
        (lambda event=None: None, True),
        (lambda *events: None, True),
        (lambda event, extra=1: None, True),
        (lambda *, key=1: None, False),
        (lambda **keys: None, False),
        (Callback(), True),
        (Callback().method, True),
        (Callback().awaited, False),
        (functools.partial(lambda a, event: None, 1), True),
        (functools.partial(lambda a: None, 1), False),
        (print, True),
        ([].append, True),
        ([].clear, False),
        (functools.wraps(lambda user, event: None)(lambda event: None), True),
        (functools.wraps(lambda event: None)(lambda: None), False),
        (functools.wraps(lambda: None)(lambda event: None), True),
        (functools.wraps(lambda: None)(lambda *args: None), False),
        (functools.wraps(lambda event: None)(lambda *args: None), True),
        (functools.wraps(lambda user, event: None)(lambda *args: None), True),
    ],
)
def test_what_a_callback_takes(callback: Callable[..., Any], takes: bool) -> None:
    """The event wherever it can take one, else nothing."""
    assert takes_event(callback) is takes


@pytest.mark.parametrize(
    "callback", [lambda a, b: None, lambda event, *, key: None, lambda *, key: None]
)
def test_what_cannot_be_called(callback: Callable[..., Any]) -> None:
    """The error names the callback with its signature."""
    with pytest.raises(ConfigurationError, match="must take the event or nothing") as caught:
        takes_event(callback)
    assert "lambda" in str(caught.value)
    assert "key" in str(caught.value) or "(a, b)" in str(caught.value)


def _yields(event: Event) -> Generator[None, None, None]:
    yield


async def _yields_async(event: Event) -> Any:
    yield


class _Yields:
    def __call__(self, event: Event) -> Any:
        yield


@pytest.mark.parametrize(
    "callback", [_yields, _yields_async, _Yields(), functools.partial(functools.partial(_yields))]
)
def test_a_generator_is_refused(callback: Callable[..., Any]) -> None:
    """A call of it would run nothing, and be counted as handled."""
    with pytest.raises(ConfigurationError, match="must be no generator"):
        takes_event(callback)
    with pytest.raises(ConfigurationError, match="must be no generator"):
        takes_error(callback)


@pytest.mark.parametrize("callback", [Callback, dict])
def test_a_class_is_refused(callback: Callable[..., Any]) -> None:
    """A call would make an object of it, which nobody sees."""
    with pytest.raises(ConfigurationError, match="must be no class: .* register a method of"):
        takes_event(callback)


@pytest.mark.parametrize("callback", [Callback.method, Callback.awaited])
def test_a_method_without_its_object_is_refused(callback: Callable[..., Any]) -> None:
    """Decorated in the body of its class it would get the event as its `self`, or too little."""
    with pytest.raises(ConfigurationError, match=r"\(self.* is a method without its object"):
        takes_event(callback)


@pytest.mark.parametrize("callback", ["report", 4, None])
def test_on_error_takes_a_callable(callback: Any) -> None:
    """No name, as the others do, and the error says so."""
    with pytest.raises(ConfigurationError, match="on_error takes a callable"):
        takes_error(callback)


def test_names_for_the_log() -> None:
    """A module and a name, where a callback has them."""
    assert name_of(run) == f"{__name__}.run"
    assert name_of(Callback().method) == f"{__name__}.Callback.method"
    assert name_of(functools.partial(run)).startswith("functools.")


async def test_a_callback_that_takes_nothing() -> None:
    """It is called without the event, and its result is used like any other."""
    assert as_step(lambda: "said", None)(event()) == "said"
    assert await as_step(Callback().awaited, None)(event()) == "awaited"


@pytest.mark.parametrize("result", [None, 1, "x", [], object(), {"a": 1}, iter([])])
def test_what_is_not_awaited(result: object) -> None:
    """Whatever else a callback returns is left alone."""
    assert not is_awaitable(result)


async def test_what_is_awaited() -> None:
    """Coroutines, futures, and whatever has __await__."""
    coroutine = Callback().awaited()
    future = asyncio.get_running_loop().create_future()
    for result in (coroutine, future, Awaitable(lambda: None)):
        assert is_awaitable(result)
    await coroutine
    future.cancel()


# The order.


def test_nothing_to_do() -> None:
    """No callback at all: nothing happens, and nothing is awaited."""
    assert compose((), ())(event()) is None


def test_one_function_stays_itself() -> None:
    """Most endpoints are one handler, which is called without anything around it."""
    step = Trace().step("handler")
    assert compose((), [step]) is step


@pytest.mark.parametrize("mask", range(16))
async def test_the_order(mask: int) -> None:
    """Befores, handler, afters: in order for every mix of def and async."""
    trace = Trace()
    names = ["before 1", "before 2", "handler", "after"]
    steps = [
        trace.async_step(name) if mask >> index & 1 else trace.step(name)
        for index, name in enumerate(names)
    ]
    await run(compose(steps[:2], steps[2:]))
    assert trace == names


def test_plain_functions_are_not_awaited() -> None:
    """A pipeline of def callbacks is done when it returns: no task is needed for it."""
    trace = Trace()
    pipeline = compose([trace.step("before")], [trace.step("handler"), trace.step("after")])
    assert pipeline(event()) is None
    assert trace == ["before", "handler", "after"]


async def test_any_awaitable_is_awaited() -> None:
    """Before the next step starts, also out of a def."""
    trace = Trace()
    awaitable = Awaitable(lambda: trace.append("awaited"))
    await run(compose([lambda event: awaitable], [trace.step("handler")]))
    assert trace == ["awaited", "handler"]


@pytest.mark.parametrize("failing", range(4))
@pytest.mark.parametrize("style", ["step", "async_step"])
async def test_a_step_that_raises_ends_it(failing: int, style: str) -> None:
    """What stands behind it is skipped, and the error is the pipeline's."""
    trace = Trace()

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    steps = [
        getattr(trace, style)(str(index), fail if index == failing else lambda event: None)
        for index in range(4)
    ]
    with pytest.raises(ZeroDivisionError):
        await run(compose(steps[:2], steps[2:]))
    assert trace == [str(index) for index in range(failing + 1)]


# Abort.


@pytest.mark.parametrize("style", ["step", "async_step"])
@pytest.mark.parametrize("aborting", [0, 1])
async def test_abort_skips_the_rest(style: str, aborting: int) -> None:
    """The befores behind it, the handler and the afters."""
    trace = Trace()
    steps = [
        getattr(trace, style)(str(index), Event.abort if index == aborting else lambda event: None)
        for index in range(4)
    ]
    it = await run(compose(steps[:2], steps[2:]))
    assert trace == [str(index) for index in range(aborting + 1)]
    assert it.aborted is not None


@pytest.mark.parametrize("style", ["step", "async_step"])
@pytest.mark.parametrize("aborting", [1, 2])
async def test_only_a_before_aborts(style: str, aborting: int) -> None:
    """The handler and the afters raise NotAborting, whatever the before was."""
    trace = Trace()
    steps = [
        getattr(trace, style)(str(index), Event.abort if index == aborting else lambda event: None)
        for index in range(3)
    ]
    it = event()
    with pytest.raises(NotAborting):
        await run(compose(steps[:1], steps[1:]), it)
    assert it.aborted is None
    assert trace == [str(index) for index in range(aborting + 1)]


async def test_a_lone_handler_cannot_abort() -> None:
    """Nor can one with nothing around it."""
    with pytest.raises(NotAborting):
        await run(compose((), [Event.abort]))


async def test_abort_ends_with_the_pipeline() -> None:
    """Nothing that a before left behind can abort any more: neither once it is done ..."""
    it = await run(compose([Trace().step("before")], ()))
    with pytest.raises(NotAborting):
        it.abort()


@pytest.mark.parametrize("style", ["step", "async_step"])
async def test_abort_ends_with_a_before_that_raised(style: str) -> None:
    """... nor once the before has failed, in on_error for one."""

    def fail(event: Event) -> None:
        raise ZeroDivisionError

    it = event()
    with pytest.raises(ZeroDivisionError):
        await run(compose([getattr(Trace(), style)("before", fail)], ()), it)
    with pytest.raises(NotAborting):
        it.abort()


# Threads.


def thread_of(workers: Workers, callback: Callable[..., Any]) -> bool:
    """Whether a callback of a blocking endpoint goes to a thread."""
    step = as_step(callback, workers)
    return getattr(step, "__name__", "") == "in_thread"


@pytest.mark.parametrize(
    "callback",
    [Callback().awaited, AsyncCallback(), functools.wraps(run)(lambda event: run(event))],
)
def test_async_callbacks_stay_on_the_loop(callback: Callable[..., Any]) -> None:
    """Of a blocking endpoint only the def callbacks go to threads."""
    assert not thread_of(Workers(1), callback)


@pytest.mark.parametrize("callback", [lambda event: None, lambda: None, Callback().method, print])
def test_def_callbacks_go_to_threads(callback: Callable[..., Any]) -> None:
    """Functions, methods and callables alike."""
    assert thread_of(Workers(1), callback)
    assert as_step(callback, None)(event()) is not NotImplemented


async def test_what_a_thread_returns_is_awaited_on_the_loop() -> None:
    """A def that returns a coroutine may do so from a thread too."""
    workers = Workers(1)
    step = as_step(lambda: AsyncCallback()(event()), workers)
    assert await step(event()) == "async message"
    workers.stop()
