"""Checks the documents: that the code in them runs or at least names what there is, and that
links lead somewhere. Prints what is wrong, one line each, and exits with 1 if anything is.

Python blocks that import boltws are programs, and are run (not as ``__main__``, so nothing
serves). All blocks must parse, and what they say of ``bolt``, ``event`` and ``stats`` must exist.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from boltws import Bolt, Event, Stats
from boltws.event import ConnectEvent
from boltws.options import BoltOptions, EndpointOptions

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
INLINE_NAME = re.compile(r"`@?(bolt|event)\.(\w+)")

BOLT = Bolt()
KNOWN = {
    "bolt": set(dir(BOLT)),
    "event": set(dir(Event)) | set(dir(ConnectEvent)),
    "stats": set(dir(Stats)),
}
OPTIONS = {
    "Bolt": {"http", *BoltOptions.__annotations__, *EndpointOptions.__annotations__},
    "ws": {*inspect.signature(BOLT.ws).parameters, *EndpointOptions.__annotations__},
}


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, made as the code hosts make them."""
    text = FENCE.sub("", document.read_text())
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in HEADING.findall(text)
    }


def check_links(document: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue  # another site: whether it is up is no fault of the document's
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists():
            yield f"link to {target}: there is no such file"
        elif anchor and anchor not in anchors(file):
            yield f"link to {target}: {file.name} has no such heading"


def check_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = node.value.id
            if owner in KNOWN and node.attr not in KNOWN[owner]:
                yield f"there is no {owner}.{node.attr}"
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            for keyword in node.keywords if called in OPTIONS else ():
                if keyword.arg and keyword.arg not in OPTIONS[called]:
                    yield f"{called}(...) has no option {keyword.arg}"


def check_code(text: str) -> Iterator[str]:
    for language, code in FENCE.findall(text):
        if language != "python":
            continue
        first = code.strip().splitlines()[0]
        try:
            tree = ast.parse(code)
        except SyntaxError as error:
            yield f"code block {first!r}: {error}"
            continue
        yield from check_names(tree)
        if re.search(r"^(from|import) boltws", code, re.MULTILINE):
            try:
                exec(compile(tree, "<document>", "exec"), {"__name__": "document"})
            except Exception as error:
                yield f"code block {first!r} raises {error!r}"


def check_options() -> Iterator[str]:
    """The reference's table has every option, and no other."""
    text = (ROOT / "docs/reference.md").read_text()
    table = text[text.index("\n## Options\n") :]
    named = {
        name
        for row in re.findall(r"^\| (`[^|]*)\|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    for name in named ^ OPTIONS["Bolt"]:
        yield f"option {name} is " + ("not in the table" if name in OPTIONS["Bolt"] else "none")


def check(document: Path) -> Iterator[str]:
    text = document.read_text()
    prose = FENCE.sub("", text)
    yield from check_links(document, prose)
    yield from check_code(text)
    if document.name == "reference.md":
        yield from check_options()
    for owner, name in INLINE_NAME.findall(prose):
        if name not in KNOWN[owner]:
            yield f"there is no {owner}.{name}"


def main() -> int:
    wrong = 0
    for document in DOCUMENTS:
        for line in check(document):
            wrong += 1
            print(f"{document.relative_to(ROOT)}: {line}")
    print(f"{len(DOCUMENTS)} documents checked, {wrong} mistakes")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
