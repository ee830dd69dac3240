"""A headless Chromium, and the demo chat it visits."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from ..process.harness import Served, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]

# Nothing but the page under test: no sandbox that containers lack, no talk to the outside.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _missing(what: str) -> NoReturn:
    """Skip where a browser is not to be had; a CI that lacks one is broken, not excused."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and this is CI")
    pytest.skip(what)


# Not for the session: while it runs, Playwright's loop is the running one of this thread, and
# the asynchronous tests elsewhere could not run theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One headless Chromium of the machine for a module's tests."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        _missing("there is no chromium on this machine")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def chat() -> Iterator[Served]:
    """The demo chat, as its documentation starts it."""
    command = [sys.executable, "-m", "boltws", "run", "examples.chat.app:bolt", "--port", "0"]
    with serving(command, ROOT) as served:
        yield served
        assert served.stop() == 0
        served.assert_no_noise()


class Visits:
    """Opens pages, each in a context of its own, and keeps what their consoles complain of."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.complaints: list[str] = []

    def open(self, url: str, width: int = 1100, height: int = 700) -> Page:
        context = self._browser.new_context(viewport={"width": width, "height": height})
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on(
            "console",
            lambda message: (
                self.complaints.append(f"{message.type}: {message.text}")
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on(
            "response",
            lambda response: (
                self.complaints.append(f"{response.status}: {response.url}")
                if response.status >= 400
                else None
            ),
        )
        page.goto(url)
        return page

    def close(self) -> None:
        for context in self._browser.contexts:
            context.close()


@pytest.fixture
def visits(browser: Browser) -> Iterator[Visits]:
    """Pages of one test; they are gone after it."""
    visits = Visits(browser)
    yield visits
    visits.close()
