"""The viewer page for all: small screens, the dark, keyboards, screen readers, those who trust nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from engines import WEB, served
from viewer import fragment_of, opened

from browsing import assert_open_to_all, scrolls_sideways
from clip_feature_codec import ClipCodec
from samples import make_picture

PAGE = (WEB / "view" / "index.html").read_text("utf-8")


@pytest.fixture(scope="module")
def link() -> Iterator[str]:
    blob = ClipCodec.load(device="cpu").encode(make_picture(1, (90, 60)), max_bytes=140)
    with served(WEB) as server:
        yield f"{server}/view/#{fragment_of(blob)}"


@pytest.mark.parametrize(
    ("state", "scheme"), [("opened", "light"), ("opened", "dark"), ("empty", "light"), ("damaged", "dark")]
)
def test_axe_finds_nothing(browser: Any, link: str, state: str, scheme: str):
    address = {"opened": link, "empty": link.partition("#")[0], "damaged": link[:-6]}[state]
    viewport = {"width": 390 if scheme == "dark" else 1280, "height": 844}
    with opened(browser, address, color_scheme=scheme, viewport=viewport) as page:
        if state == "opened":
            page.locator("#cannot-paint").wait_for()
            page.locator("#qr summary").click()
        assert_open_to_all(page)


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (1280, "dark")])
def test_no_screen_scrolls_sideways(browser: Any, link: str, width: int, scheme: str):
    with opened(browser, link, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.locator("#qr summary").click()
        assert not scrolls_sideways(page)
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (int(re.findall(r"\d+", ground)[0]) < 60) == (scheme == "dark")
        box = page.locator("#frame").bounding_box()
        assert box["x"] >= 0
        assert box["y"] + box["height"] <= 800  # the whole picture is on the first screen
        if width < 500:  # targets for fingers
            for button in page.locator("button:visible, .button:visible").all():
                assert button.bounding_box()["height"] >= 36


def test_everything_is_done_by_the_keyboard(browser: Any, link: str):
    with opened(browser, link, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.locator("#cannot-paint").wait_for()
        reached = []
        for _ in range(12):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.id || document.activeElement.value"))
        expected = ["another", "layout", "fidelity", "steps", "seed", "other-seed", "paint", "link", "copy"]
        assert [name for name in reached if name in expected] == expected
        page.locator("#copy").focus()
        page.keyboard.press("Enter")
        page.locator("#status", has_text="The link is copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == link
        page.locator("#qr summary").focus()
        page.keyboard.press("Enter")
        page.locator("#code").wait_for()
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"


def test_a_page_of_others_and_code_in_the_page_are_kept_out(browser: Any, link: str):
    context = browser.new_context()
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(message.text))
    page.goto(link)
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.ran = true";
          document.head.append(script);
          document.body.setAttribute("onclick", "window.ran = true");
          document.body.click();
          const image = new Image();
          image.src = "https://example.org/x.png";
          return fetch("https://example.org/").catch(() => {});
        }"""
    )
    assert page.evaluate("window.ran") is None
    refused = [text for text in told if "Content Security Policy" in text]
    assert len(refused) >= 4
    context.close()


def test_the_page_holds_no_code_and_no_address_of_others():
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", PAGE) == []
    addresses = re.findall(r'(?:src|href)="([^"]*)"', PAGE)
    assert addresses
    assert [one for one in addresses if ":" in one or one.startswith("/")] == []
    assert [one for one in addresses if not (WEB / "view" / one).is_file()] == []


def test_without_scripts_the_page_says_what_it_takes(browser: Any, link: str):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(link)
    assert page.locator("noscript p").is_visible()
    context.close()
