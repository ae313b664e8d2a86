"""Both engines that the modules run in."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from engines import ROOT, Call, in_node, served


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
