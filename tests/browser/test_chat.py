"""Two people in the demo chat, each in a browser of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..process.harness import PATIENCE, Served, free_port, serving
from .conftest import ROOT, Visits

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(120)]


def join(page: Page, name: str, room: str = "") -> None:
    """Fill in the entrance and wait until the room shows."""
    if room:
        page.get_by_label("Room").fill(room)
    page.get_by_label("Your nickname").fill(name)
    page.get_by_role("button", name="Enter").click()
    page.locator("#chat").wait_for(state="visible")


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send message").click()


def test_two_people_talk(visits: Visits, chat: Served, tmp_path: Path) -> None:
    """Both join, see each other, talk both ways; one leaves and the other sees it go."""
    from playwright.sync_api import expect

    url = f"http://127.0.0.1:{chat.port}/"
    ada, bob = visits.open(url), visits.open(url)
    join(ada, "Ada", "tea")
    expect(ada.locator("#room-name")).to_have_text("tea")
    expect(ada.locator("#people bdi")).to_have_text(["Ada"])
    join(bob, "Bob", "tea")
    for page in (ada, bob):
        expect(page.locator("#people bdi")).to_have_text(["Ada", "Bob"])
        expect(page.locator("#count")).to_have_text("2")
        expect(page.locator("#status")).to_have_text("Connected")
    expect(ada.locator("#log")).to_contain_text("Bob came in")

    say(ada, "Good morning, Bob")
    expect(bob.locator("#log .bubble")).to_have_text(["Good morning, Bob"])
    expect(bob.locator("#log .message .by")).to_contain_text("Ada")
    bob.get_by_label("Message", exact=True).fill("Good morning\nAda ☕")
    bob.get_by_label("Message", exact=True).press("Enter")
    for page in (ada, bob):
        expect(page.locator("#log .bubble")).to_have_text(
            ["Good morning, Bob", re.compile(r"Good morning\s+Ada ☕")]
        )
    expect(bob.get_by_label("Message", exact=True)).to_have_value("")

    shots = Path(os.environ.get("BOLTWS_SCREENSHOTS", tmp_path))
    shots.mkdir(parents=True, exist_ok=True)
    for name, page in (("ada", ada), ("bob", bob)):
        picture = page.screenshot(path=shots / f"chat-{name}.png", animations="disabled")
        assert not is_blank(page, picture)

    bob.get_by_role("button", name="Leave").click()
    expect(bob.locator("#entrance")).to_be_visible()
    expect(ada.locator("#people bdi")).to_have_text(["Ada"])
    expect(ada.locator("#log")).to_contain_text("Bob left")
    say(ada, "Where did you go?")
    expect(ada.locator("#log .bubble").last).to_have_text("Where did you go?")
    assert visits.complaints == []


def test_a_closed_tab_leaves(visits: Visits, chat: Served) -> None:
    """Who closes the tab without a word is off the list of the others as well."""
    from playwright.sync_api import expect

    url = f"http://127.0.0.1:{chat.port}/"
    ada, bob = visits.open(url), visits.open(url)
    join(ada, "Ada")
    join(bob, "Bob")
    expect(ada.locator("#people bdi")).to_have_text(["Ada", "Bob"])
    bob.close()
    expect(ada.locator("#people bdi")).to_have_text(["Ada"])
    assert visits.complaints == []


def test_html_stays_text(visits: Visits, chat: Served) -> None:
    """Names and messages with HTML in them are shown as they were typed, and run nothing."""
    from playwright.sync_api import expect

    name = "<img src=x onerror=alert(1)>"
    text = "<script>document.title = 'taken'</script><b>bold</b>"
    url = f"http://127.0.0.1:{chat.port}/"
    ada, eve = visits.open(url), visits.open(url)
    dialogs: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    for page in (ada, eve):
        page.on("dialog", dismiss)
    join(ada, "Ada")
    join(eve, name)
    expect(ada.locator("#people bdi")).to_have_text([name, "Ada"])
    say(eve, text)
    for page in (ada, eve):
        expect(page.locator("#log .bubble")).to_have_text([text])
        assert page.locator("#log img, #log script, #log b, #people img").count() == 0
        assert page.title().startswith("#lobby ")
    expect(ada.locator("#log .message .by bdi")).to_have_text([name])
    assert dialogs == []
    assert visits.complaints == []


def test_rooms_are_apart(visits: Visits, chat: Served) -> None:
    """What is said in one room is not heard in another; the link of a room leads into it."""
    from playwright.sync_api import expect

    url = f"http://127.0.0.1:{chat.port}/"
    ada, bob, eve = visits.open(url), visits.open(url + "#tea"), visits.open(url)
    join(ada, "Ada", "tea")
    join(bob, "Ada")
    join(eve, "Eve", "coffee")
    expect(bob.locator("#room-name")).to_have_text("tea")
    # Nobody passes for another: the second of a name gets a number.
    expect(ada.locator("#people bdi")).to_have_text(["Ada", "Ada (2)"])
    expect(eve.locator("#people bdi")).to_have_text(["Eve"])
    say(ada, "tea only")
    expect(bob.locator("#log .bubble")).to_have_text(["tea only"])
    say(eve, "coffee only")
    expect(eve.locator("#log .bubble")).to_have_text(["coffee only"])
    expect(bob.locator("#log .bubble")).to_have_text(["tea only"])
    assert visits.complaints == []


def test_it_comes_back_after_a_restart(visits: Visits) -> None:
    """The server goes and comes again on its port: the page reconnects by itself."""
    from playwright.sync_api import expect

    port = free_port()
    command = [sys.executable, "-m", "boltws", "run", "examples.chat.app:bolt"]
    command += ["--port", str(port)]
    with serving(command, ROOT) as first:
        ada = visits.open(f"http://127.0.0.1:{first.port}/")
        join(ada, "Ada")
        assert first.stop() == 0
    expect(ada.locator("#status")).to_have_attribute("data-state", "waiting")
    with serving(command, ROOT) as second:
        assert second.port == port
        expect(ada.locator("#status")).to_have_attribute(
            "data-state", "online", timeout=PATIENCE * 1000
        )
        say(ada, "here again")
        expect(ada.locator("#log .bubble")).to_have_text(["here again"])
        assert second.stop() == 0


def test_a_phone_shows_all_of_it(visits: Visits, chat: Served) -> None:
    """On a narrow screen nothing sticks out, and the field for the message is on the screen."""
    from playwright.sync_api import expect

    page = visits.open(f"http://127.0.0.1:{chat.port}/", width=360, height=640)
    join(page, "W" * 32, "m" * 32)
    say(page, "x" * 400)
    expect(page.locator("#log .bubble")).to_have_text(["x" * 400])
    for element in ("document.documentElement", "document.getElementById('log')"):
        assert page.evaluate(f"{element}.scrollWidth") <= 360, element
    expect(page.get_by_label("Message", exact=True)).to_be_in_viewport()
    expect(page.get_by_role("button", name="Send message")).to_be_in_viewport()
    assert visits.complaints == []


def scroll(page: Page, where: str) -> None:
    """Scroll the messages, and wait until the page has seen it."""
    page.evaluate(
        """(where) => new Promise((done) => {
            const log = document.getElementById("log");
            log.addEventListener("scroll", () => done(), { once: true });
            log.scrollTop = where === "top" ? 0 : log.scrollHeight;
        })""",
        where,
    )


def test_the_newest_stays_in_sight(visits: Visits, chat: Served) -> None:
    """While a long message is being written too; who reads further up is told of new ones, and of
    nobody that comes, by a button that covers nothing of what is written."""
    from playwright.sync_api import expect

    url = f"http://127.0.0.1:{chat.port}/"
    ada, bob = visits.open(url, width=390, height=640), visits.open(url)
    join(ada, "Ada")
    join(bob, "Bob")
    newest = ada.get_by_role("button", name="New messages")
    for text in ("one\n" * 30, "two"):
        say(bob, text)
    last = ada.locator("#log .bubble").last
    expect(last).to_have_text("two")
    expect(last).to_be_in_viewport(ratio=1)
    ada.get_by_label("Message", exact=True).fill("line\n" * 9)
    expect(last).to_be_in_viewport(ratio=1)
    expect(newest).to_be_hidden()

    scroll(ada, "top")
    eve = visits.open(url)
    join(eve, "Eve")
    expect(ada.locator("#log .note").last).to_have_text("Eve came in")
    expect(newest).to_be_hidden()
    say(bob, "three")
    expect(newest).to_be_visible()
    button, field = newest.bounding_box(), ada.locator("#say").bounding_box()
    assert button is not None and field is not None
    assert button["y"] + button["height"] <= field["y"]
    newest.click()
    expect(last).to_be_in_viewport(ratio=1)
    expect(newest).to_be_hidden()
    assert ada.evaluate("document.activeElement.id") == "log"

    # It says nothing of the room before.
    scroll(ada, "top")
    say(bob, "four")
    expect(newest).to_be_visible()
    ada.get_by_role("button", name="Leave").click()
    join(ada, "Ada", "tea")
    expect(newest).to_be_hidden()
    assert visits.complaints == []


def test_the_link_of_another_room(visits: Visits, chat: Served) -> None:
    """Followed in the tab of a room, it leads out of that and to the entrance of the other."""
    from playwright.sync_api import expect

    ada = visits.open(f"http://127.0.0.1:{chat.port}/")
    join(ada, "Ada", "tea")
    with ada.expect_event("load"):
        ada.evaluate("location.hash = '#coffee'")
    expect(ada.get_by_label("Room")).to_have_value("coffee")
    expect(ada.get_by_label("Your nickname")).to_have_value("Ada")
    ada.keyboard.press("Enter")
    expect(ada.locator("#room-name")).to_have_text("coffee")
    assert visits.complaints == []


def test_a_room_of_many(visits: Visits, chat: Served) -> None:
    """They stand in the order that people count in."""
    from playwright.sync_api import expect

    ada = visits.open(f"http://127.0.0.1:{chat.port}/")
    join(ada, "Ada")
    with contextlib.ExitStack() as stack:
        for number in (10, 9, 1):
            client = stack.enter_context(chat.connect("/chat"))
            client.send(json.dumps({"type": "join", "room": "lobby", "name": f"Bot {number}"}))
        expect(ada.locator("#people bdi")).to_have_text(["Ada", "Bot 1", "Bot 9", "Bot 10"])
    assert visits.complaints == []


def is_blank(page: Page, picture: bytes) -> bool:
    """Whether a screenshot has next to no colours in it; the browser decodes it."""
    import base64

    encoded = base64.b64encode(picture).decode()
    colours = page.context.new_page().evaluate(
        """async (encoded) => {
            const image = new Image();
            image.src = "data:image/png;base64," + encoded;
            await image.decode();
            const canvas = new OffscreenCanvas(image.width, image.height);
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const data = new Uint32Array(
                context.getImageData(0, 0, image.width, image.height).data.buffer);
            return new Set(data).size;
        }""",
        encoded,
    )
    assert isinstance(colours, int)
    return colours < 16
