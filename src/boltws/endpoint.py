"""An endpoint: a path, its callbacks, its befores and afters. Registered, then sealed at start."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NoReturn, TypeGuard, TypeVar

from .channel import Channel, OnError
from .errors import AlreadyStarted, ConfigurationError
from .event import CONNECT, DISCONNECT, MESSAGE
from .hub import Hub
from .loading import NotFound, load
from .options import Options
from .pipeline import Callback, Pipeline, Step, as_step, compose, takes_event
from .routing import Pattern
from .workers import Workers

F = TypeVar("F", bound=Callback)
Reference = Callback | str
Where = Literal["on_connect", "on_message", "on_disconnect"]
_KINDS: dict[str, Where] = {
    CONNECT: "on_connect",
    MESSAGE: "on_message",
    DISCONNECT: "on_disconnect",
}


class Registered:
    """A callback as it was registered: a callable, or a name looked up at start."""

    __slots__ = ("_namespace", "_reference", "_what")

    def __init__(self, reference: Reference, what: str, namespace: Mapping[str, Any]) -> None:
        given: object = reference
        if not isinstance(given, str):
            if not _is_callback(given):
                raise ConfigurationError(f"{what} must be a callable or a name, not {given!r}")
            takes_event(given)
        self._reference = reference
        self._what = what
        self._namespace = namespace

    def resolve(self) -> Callback:
        """The callable. Raises :class:`ConfigurationError` where the name leads to none."""
        reference = self._reference
        if not isinstance(reference, str):
            return reference
        found = self._import(reference) if ":" in reference else self._look_up(reference)
        callback: object = found
        if not _is_callback(callback):
            raise ConfigurationError(
                f"{self._what} {reference!r} is {type(found).__name__}, not a callable"
            )
        takes_event(callback)
        return callback

    def _look_up(self, name: str) -> Any:
        first, *rest = name.split(".")
        try:
            found = self._namespace[first]
            for part in rest:
                found = getattr(found, part)
            return found
        except (KeyError, AttributeError):
            module = self._namespace.get("__name__", "?")
            raise ConfigurationError(
                f"{self._what} {name!r} is not defined in module {module!r}; define it there, "
                "or name it 'package.module:function'"
            ) from None

    def _import(self, name: str) -> Any:
        try:
            return load(name)
        except NotFound as error:
            package = self._namespace.get("__package__")
            beside = package and name[0] == "." != name[1]
            why = f"write the whole name, '{package}{name}'" if beside else error
            raise ConfigurationError(f"{self._what} {name!r}: {why}") from None


class Middleware:
    """Befores and afters, until the start."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._befores: list[Registered] = []
        self._afters: list[Registered] = []
        self._sealed = False

    def check_open(self) -> None:
        """Raise :class:`AlreadyStarted` when it is too late to add."""
        if self._sealed:
            raise AlreadyStarted(
                f"{self._owner} has started: add endpoints, callbacks and middleware before"
            )

    def add_before(self, reference: Reference, namespace: Mapping[str, Any]) -> None:
        self.check_open()
        self._befores.append(Registered(reference, f"before of {self._owner}", namespace))

    def add_after(self, reference: Reference, namespace: Mapping[str, Any]) -> None:
        self.check_open()
        self._afters.append(Registered(reference, f"after of {self._owner}", namespace))

    def seal(self, workers: Workers | None) -> tuple[list[Step], list[Step]]:
        """The befores and afters as steps; nothing can be added from now on."""
        befores = [as_step(registered.resolve(), workers) for registered in self._befores]
        afters = [as_step(registered.resolve(), workers) for registered in self._afters]
        self._sealed = True
        return befores, afters

    def unseal(self) -> None:
        """After a stop, or a start that failed, things may be added again."""
        self._sealed = False


def caller_namespace(depth: int = 2) -> Mapping[str, Any]:
    """The globals of the module that called the function that asks."""
    return sys._getframe(depth).f_globals


class Endpoint:
    """What ``bolt.ws(path, …)`` returns. Chain ``before``, ``after`` and ``where``, or decorate:

    ::

        chat = bolt.ws("/chat")

        @chat.on_message
        def said(event): ...
    """

    def __init__(self, path: str, options: Options) -> None:
        self.pattern = Pattern(path)
        self.options = options
        self.before_connect: Pipeline = _unsealed
        self.channel: Channel
        self._callbacks: dict[Where, Registered] = {}
        self._middleware = Middleware(f"endpoint {path!r}")

    def __repr__(self) -> str:
        return f"<Endpoint {self.path!r}>"

    def __call__(self, callback: object) -> NoReturn:
        """What other frameworks' routes are, and this is not: a decorator. Raises
        :class:`ConfigurationError`."""
        raise ConfigurationError(
            f"bolt.ws({self.path!r}) is no decorator: write chat = bolt.ws({self.path!r}), "
            "then @chat.on_message"
        )

    @property
    def path(self) -> str:
        """The path, as it was registered."""
        return self.pattern.path

    def before(self, callback: Reference) -> Endpoint:
        """Run `callback` before the handler, for every event of this endpoint. Chainable.

        A before may abort (:meth:`Event.abort`). One that raises skips the handler; in
        ``connect`` it refuses the handshake with 500.
        """
        self._middleware.add_before(callback, caller_namespace())
        return self

    def after(self, callback: Reference) -> Endpoint:
        """Run `callback` after the handler, for every event of this endpoint. Chainable."""
        self._middleware.add_after(callback, caller_namespace())
        return self

    def on_before(self, callback: F) -> F:
        """Decorator: :meth:`before`."""
        self._middleware.add_before(callback, caller_namespace())
        return callback

    def on_after(self, callback: F) -> F:
        """Decorator: :meth:`after`."""
        self._middleware.add_after(callback, caller_namespace())
        return callback

    def on_connect(self, callback: F) -> F:
        """Decorator: run when the handshake has been answered."""
        self.set_callback("on_connect", callback, caller_namespace())
        return callback

    def on_message(self, callback: F) -> F:
        """Decorator: run for each message."""
        self.set_callback("on_message", callback, caller_namespace())
        return callback

    def on_disconnect(self, callback: F) -> F:
        """Decorator: run once when the connection has ended, after its last message."""
        self.set_callback("on_disconnect", callback, caller_namespace())
        return callback

    def where(self, name: str, expression: str) -> Endpoint:
        """Narrow the path's parameter `name` to what the regular expression matches. Chainable."""
        self._middleware.check_open()
        self.pattern.where(name, expression)
        return self

    def set_callback(
        self, where: Where, callback: Reference | None, namespace: Mapping[str, Any]
    ) -> None:
        """Register a callback; None and ``""`` stand for none."""
        self._middleware.check_open()
        if callback is None or callback == "":
            return
        if where in self._callbacks:
            raise ConfigurationError(f"endpoint {self.path!r} has an {where} already")
        self._callbacks[where] = Registered(callback, f"{where} of {self.path!r}", namespace)

    def seal(
        self,
        hub: Hub,
        around: tuple[Sequence[Step], Sequence[Step]],
        workers: Workers,
        on_error: OnError,
    ) -> None:
        """Look up names and compose the pipelines, once; nothing can be added from now on."""
        threads = workers if self.options.blocking else None
        befores, afters = self._middleware.seal(threads)
        befores = [*around[0], *befores]
        afters = [*afters, *around[1]]
        handlers: dict[str, list[Step]] = {}
        for kind, where in _KINDS.items():
            registered = self._callbacks.get(where)
            handlers[kind] = [as_step(registered.resolve(), threads)] if registered else []
        self.before_connect = compose(befores, ())
        pipelines = (
            compose((), [*handlers[CONNECT], *([_establish, *afters] if afters else ())]),
            compose(befores, [*handlers[MESSAGE], *afters]),
            compose(befores, [*handlers[DISCONNECT], *afters]),
        )
        self.channel = Channel(hub, self, self.options, pipelines, on_error)

    def unseal(self) -> None:
        """After a stop, or a start that failed, callbacks may be added again."""
        self._middleware.unseal()


def _is_callback(found: object) -> TypeGuard[Callback]:
    return callable(found) and not isinstance(found, Endpoint)


def _establish(event: Any) -> None:
    """Behind `on_connect`: an after that raises ends no connection."""
    event.established = True


def _unsealed(event: Any) -> None:
    raise AssertionError("an endpoint is sealed before it takes a connection")
