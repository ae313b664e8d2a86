"""Pages in a real browser, without a screen: what shows them, and what they must not do.

Whatever needs a browser takes the fixture ``browser``; where there is none, its tests are skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser of this machine, driven by playwright."""
    tools = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("there is no Chromium on this machine")
    with tools.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched(browser: Any, *own: str, expected: str | None = None, **options: Any) -> Iterator[Any]:
    """A page in a profile of its own, where complaints, requests to others and cookies fail the test.

    Args:
        browser: Chromium.
        own: how the addresses begin that the page may ask for.
        expected: what stands in the complaints that are meant to be.
        **options: of the profile.
    """
    context, complaints = browser.new_context(**options), []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: None if request.url.startswith(own) else complaints.append(request.url),
    )
    yield page
    assert context.cookies() == []
    context.close()
    complaints = [text for text in complaints if expected is None or expected not in text]
    assert not complaints, "\n".join(complaints)


def scrolls_sideways(page: Any) -> bool:
    """Whether a page is wider than the screen."""
    return int(page.evaluate("document.documentElement.scrollWidth")) > int(page.viewport_size["width"])


def assert_open_to_all(page: Any) -> None:
    """Let axe-core look for what bars people from a page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    found = axe.Axe().run(page)
    assert [one["id"] for one in found.response["violations"]] == [], found.generate_report()
    assert len(found.response["passes"]) > 10
