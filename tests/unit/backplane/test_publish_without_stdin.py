"""``boltws publish`` where nothing can be read."""

from __future__ import annotations

import argparse
import sys

import pytest

from boltws.publish_command import add_publish, publish


@pytest.mark.parametrize("given", [[], ["-"], ["--binary"]])
def test_stdin_is_closed(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``<&-`` in a shell: one line says that there is no message."""
    parser = argparse.ArgumentParser()
    add_publish(parser.add_subparsers())
    words = ["publish", "--backplane", "nats://127.0.0.1:1", "--room", "chat", *given]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit, match="^boltws: there is no message, and no stdin"):
        publish(parser.parse_args(words))
