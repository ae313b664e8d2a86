"""One browser for the tests of the modules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from engines import BROWSER, ROOT, Call, in_node, served


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium; closed behind the last test of a module, since there is one playwright at a time."""
    tools = pytest.importorskip("playwright.sync_api", reason="playwright is not installed here")
    if BROWSER is None:
        pytest.skip("chromium is not installed here")
    with tools.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(browser: Any) -> Iterator[Any]:
    """A page that shows an empty document of the checkout's server."""
    with served(ROOT) as address:
        page = browser.new_page()
        page.goto(f"{address}/tests/web/empty.html")
        yield page
        page.close()


@pytest.fixture(params=["node", "chromium"])
def call(request: pytest.FixtureRequest) -> Call:
    """Calls the modules in each of the engines."""
    if request.param == "node":
        if shutil.which("node") is None:
            pytest.skip("node is not installed here")
        return in_node
    page = request.getfixturevalue("page")

    def in_page(module: str, function: str, argument: Any) -> Any:
        script = "([module, name, argument]) => import(module).then((found) => found[name](argument))"
        return page.evaluate(script, [f"/tests/web/{module}", function, argument])

    return in_page
