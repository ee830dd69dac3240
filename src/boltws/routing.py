"""Paths: ``/chat``, ``/chat/:room``, ``/chat/{room}``, ``/user/{id:int}``, ``/files/{rest:path}``.

A path is matched segment by segment before it is percent-decoded, so that ``%2F`` is part of a
parameter and never a separator. Literal paths win over parameters, then the order of registration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar
from urllib.parse import unquote
from uuid import UUID

from .errors import ConfigurationError
from .parameters import ANYTHING, Parameters, Piece

_CONVERTERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "str": (ANYTHING, str),
    "int": (r"[0-9]{1,640}", int),
    "float": (r"[0-9]+(?:\.[0-9]+)?", float),
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", UUID),
    "path": (r".*", str),
}
_GROUP = re.compile(r"\(\?P<\w+>")
_PARAMETER = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FLASK = re.compile(r"<(?:(\w+):)?(\w+)>")


class Pattern:
    """A path as it was registered, ready to match.

    Raises :class:`ConfigurationError` for a path that cannot be one, naming what is wrong.
    """

    __slots__ = ("_rest", "_segments", "_shape", "_where", "converters", "path")

    def __init__(self, path: str) -> None:
        given: object = path
        if callable(given):
            raise ConfigurationError(
                "bolt.ws is no decorator: write chat = bolt.ws('/chat'), then @chat.on_message"
            )
        if not isinstance(given, str) or not given.startswith("/"):
            raise ConfigurationError(f"a path must be a str that starts with '/', not {path!r}")
        if "?" in path or "#" in path:
            raise ConfigurationError(f"path {path!r}: a query or fragment is not part of a path")
        self.path = path
        self.converters: dict[str, Callable[[str], Any]] = {}
        self._where: dict[str, re.Pattern[str]] = {}
        self._rest: str | None = None
        segments = path[1:].split("/")
        self._segments = [self._segment(s, i == len(segments) - 1) for i, s in enumerate(segments)]
        self._shape = [
            s if isinstance(s, str) else (_GROUP.sub("(", s.pattern),) for s in self._segments
        ]

    def _segment(self, segment: str, last: bool) -> str | re.Pattern[str] | Parameters:
        """A literal segment, or what matches one that holds parameters."""
        if segment in ("*", "**"):
            raise ConfigurationError(
                f"path {self.path!r}: {segment!r} is no pattern; {{rest:path}} as the last segment "
                "takes all that is left"
            )
        if segment.startswith(":"):
            segment = "{" + segment[1:] + "}"
        pieces: list[Piece] = []
        position = 0
        for match in _PARAMETER.finditer(segment):
            before = self._literal(segment[position : match.start()])
            if pieces and not before:
                raise ConfigurationError(
                    f"path {self.path!r}: text must stand between two parameters of a segment"
                )
            pieces.append((before, *self._parameter(match[1], match[0] == segment, last)))
            position = match.end()
        tail = self._literal(segment[position:])
        if not pieces:
            return segment
        groups = [f"{re.escape(before)}(?P<{name}>{kind})" for before, name, kind in pieces]
        pattern = "".join(groups) + re.escape(tail)
        if len(pieces) > 1:
            return Parameters(pieces, tail, pattern)
        return re.compile(pattern, re.DOTALL)

    def leaves_nothing_for(self, other: Pattern) -> bool:
        """Whether all paths that `other` matches are matched by this, as far as that can be told:
        they differ in the names of their parameters alone, or `other` has more `where` as well."""
        if self._shape != other._shape:
            return False
        return not self._where or self._narrowed() == other._narrowed()

    def _narrowed(self) -> list[object]:
        return [self._where.get(name) for name in self.converters]

    def _literal(self, text: str) -> str:
        if (decoded := unquote(text)) != text:
            raise ConfigurationError(
                f"path {self.path!r}: it is compared decoded; write {decoded!r} for {text!r}"
            )
        if flask := _FLASK.search(text):
            kind, name = flask.groups()
            meant = f"{{{name}:{kind}}}" if kind else f"{{{name}}}"
            raise ConfigurationError(f"path {self.path!r}: did you mean {meant} by {flask[0]!r}?")
        if "{" in text or "}" in text:
            raise ConfigurationError(f"path {self.path!r}: a brace is not closed in {text!r}")
        return text

    def _parameter(self, spec: str, whole: bool, last: bool) -> tuple[str, str]:
        """Its name, and the expression of its converter."""
        name, colon, kind = spec.partition(":")
        kind = kind if colon else "str"
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"path {self.path!r}: a parameter's name is made of letters, digits and '_', "
                f"not {name!r}"
            )
        if name in self.converters:
            raise ConfigurationError(f"path {self.path!r}: parameter {name!r} stands twice")
        if kind not in _CONVERTERS:
            known = ", ".join(_CONVERTERS)
            raise ConfigurationError(
                f"path {self.path!r}: no converter {kind!r} for {name!r}; there are {known}"
            )
        if kind == "path":
            if not (whole and last):
                raise ConfigurationError(
                    f"path {self.path!r}: {{{name}:path}} takes all that is left, so it must be "
                    "the last segment, alone"
                )
            self._rest = name
        expression, self.converters[name] = _CONVERTERS[kind]
        return name, expression

    @property
    def is_literal(self) -> bool:
        """Whether the path has no parameters."""
        return not self.converters

    def where(self, name: str, expression: str) -> None:
        """Narrow parameter `name` to what `expression` matches as a whole."""
        if name not in self.converters:
            known = ", ".join(self.converters) or "none"
            raise ConfigurationError(
                f"path {self.path!r} has no parameter {name!r}; it has: {known}"
            )
        try:
            compiled = re.compile(expression)
            compiled.fullmatch("")  # one of bytes compiles, and fits no path
            self._where[name] = compiled
        except (re.error, TypeError) as error:
            raise ConfigurationError(
                f"path {self.path!r}: where({name!r}, {expression!r}) is no regular expression: "
                f"{error}"
            ) from None

    def match(self, segments: list[str]) -> dict[str, str] | None:
        """The parameters as text, or None. `segments` are percent-decoded."""
        wanted = self._segments
        if self._rest is not None and len(segments) >= len(wanted):
            head = len(wanted) - 1
            segments = [*segments[:head], "/".join(segments[head:])]
        if len(segments) != len(wanted):
            return None
        params: dict[str, str] = {}
        for want, segment in zip(wanted, segments, strict=True):
            if isinstance(want, str):
                if want != segment:
                    return None
            elif (found := want.fullmatch(segment)) is None:
                return None
            else:
                params.update(found if isinstance(found, dict) else found.groupdict())
        for name, expression in self._where.items():
            if expression.fullmatch(params[name]) is None:
                return None
        return params


T = TypeVar("T")


class Router(Generic[T]):
    """Finds the endpoint of a path. Sealed: made once, at start."""

    __slots__ = ("_literal", "_parametric")

    def __init__(self, routes: Iterable[tuple[Pattern, T]]) -> None:
        self._literal: dict[tuple[str, ...], T] = {}
        self._parametric: list[tuple[Pattern, T]] = []
        for pattern, endpoint in routes:
            if pattern.is_literal:
                self._literal[tuple(pattern.path[1:].split("/"))] = endpoint
            else:
                self._parametric.append((pattern, endpoint))

    def match(self, raw_path: str) -> tuple[T, dict[str, str]] | None:
        """The endpoint of a percent-encoded path and the path's parameters as text."""
        try:
            segments = [unquote(s, errors="strict") for s in raw_path[1:].split("/")]
        except UnicodeDecodeError:
            return None
        endpoint = self._literal.get(tuple(segments))
        if endpoint is not None and raw_path.startswith("/"):
            return endpoint, {}
        for pattern, endpoint in self._parametric:
            params = pattern.match(segments)
            if params is not None:
                return endpoint, params
        return None
