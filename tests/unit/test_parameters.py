"""Segments with several parameters: what a regular expression finds, and without its worst time."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from boltws.parameters import ANYTHING
from boltws.routing import _CONVERTERS, Pattern

KINDS = ["str", "int", "float"]


def matched(path: str, segment: str) -> dict[str, str] | None:
    return Pattern(path).match([segment])


@pytest.mark.parametrize(
    ("path", "segment", "params"),
    [
        ("/{name}.{kind}", "archive.tar.gz", {"name": "archive.tar", "kind": "gz"}),
        ("/{name}.{kind}", ".gz", None),
        ("/{name}.{kind}", "gz", None),
        ("/{name}.{kind}", "a..", {"name": "a", "kind": "."}),
        ("/v{major:int}.{minor:int}", "v1.20", {"major": "1", "minor": "20"}),
        ("/v{major:int}.{minor:int}", "v1.20b", None),
        ("/{id:int}-{slug}.html", "7-a-b.html", {"id": "7", "slug": "a-b"}),
        ("/{a}-{n:int}-{b}", "x-5-foo-bar", {"a": "x", "n": "5", "b": "foo-bar"}),
        ("/{a}-{n:int}-{b}", "x-5-6-7", {"a": "x-5", "n": "6", "b": "7"}),
        ("/{a}::{b}!", "x::y!!", {"a": "x", "b": "y!"}),
    ],
)
def test_each_is_as_long_as_it_can_be(
    path: str, segment: str, params: dict[str, str] | None
) -> None:
    """From the left; what converts narrows what the others get."""
    assert matched(path, segment) == params


@given(st.data())
@example(None)
def test_it_is_what_a_regular_expression_finds(data: st.DataObject | None) -> None:
    """For any literals, kinds and text; the regular expression is the definition."""
    if data is None:
        literals, kinds, text = ["", "1", ""], ["int", "str"], "1111"
    else:
        kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=2, max_size=3))
        between = st.text("-.1a", min_size=1, max_size=2)
        edge = st.text("-.1a", max_size=2)
        literals = [data.draw(edge), *(data.draw(between) for _ in kinds[1:]), data.draw(edge)]
        text = data.draw(st.text("-.1a", max_size=12))
    names = "pqr"
    path, expression = "/" + literals[0], re.escape(literals[0])
    for name, kind, literal in zip(names, kinds, literals[1:], strict=False):
        path += f"{{{name}:{kind}}}{literal}"
        expression += f"(?P<{name}>{_CONVERTERS[kind][0]}){re.escape(literal)}"
    found = re.fullmatch(expression, text)
    assert matched(path, text) == (found.groupdict() if found else None)


@pytest.mark.parametrize(
    "path", ["/{a}-{b}.json", "/{a}-{b}-{c}.ws", "/{a}-{b}-{c}-{d}-{e}.ws", "/{a}-{n:int}-{b}.ws"]
)
@pytest.mark.parametrize("text", ["-", "-1", "1-", "a-1"])
def test_long_text_is_refused_at_once(path: str, text: str) -> None:
    """With the regular expression the worst of these takes longer than anybody would wait."""
    assert matched(path, text * (16_000 // len(text))) is None


def test_the_expression_for_anything_is_the_one_of_str() -> None:
    """It has a way of its own."""
    assert _CONVERTERS["str"][0] == ANYTHING
