"""The page in a real browser, without a screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from example_evaluation import example_evaluation, example_pictures

from browsing import scrolls_sideways, watched
from clip_feature_codec.evaluate.report import html_page

NASTY = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A page with all there can be, and the plainest."""
    folder = tmp_path_factory.mktemp("pages")
    names = [NASTY, *(f"photo_{i}.png" for i in range(1, 11))]
    found = {}
    for name, evaluation in {
        "full": example_evaluation(names=names, seeds=2),
        "plain": example_evaluation(3, [None], baselines=False),
    }.items():
        path = folder / f"{name}.html"
        path.write_text(html_page(evaluation, example_pictures(evaluation), name), "utf-8")
        found[name] = path.as_uri()
    return found


@contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page from a file, watched."""
    with watched(browser, "file:", "data:", **options) as page:
        page.goto(address)
        yield page


@pytest.fixture
def page(browser: Any, addresses: dict[str, str]) -> Iterator[Any]:
    """The full page."""
    with opened(browser, addresses["full"], viewport={"width": 1280, "height": 900}) as page:
        yield page


def column(page: Any, number: int) -> list[str]:
    return page.locator(f"#row-table tbody tr > :nth-child({number})").all_inner_texts()


def test_a_header_sorts_up_and_then_down(page: Any):
    header = page.locator("#row-table th", has_text="CLIP similarity")
    place = page.locator("#row-table th").all_inner_texts().index("CLIP similarity") + 1
    header.get_by_role("button").click()
    values = [float(text) for text in column(page, place)]
    assert len(values) == 22  # 11 pictures of two seeds
    assert values == sorted(values)
    assert header.get_attribute("aria-sort") == "ascending"
    header.get_by_role("button").click()
    assert [float(text) for text in column(page, place)] == sorted(values, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"


def test_rows_are_filtered_and_shown_in_portions(page: Any):
    page.select_option("#row-series", label="all")
    page.select_option("#row-budget", label="all")
    assert len(column(page, 1)) == 200
    page.click("#more")
    assert len(column(page, 1)) == 400
    page.select_option("#row-series", label="WebP")
    page.select_option("#row-budget", label="140 bytes")
    assert set(column(page, 2)) == {"WebP"}
    assert set(column(page, 3)) == {"140 bytes"}
    page.fill("#row-name", "ONERROR")
    assert column(page, 1) == [NASTY]


def test_budget_buttons_switch_the_whole_page(page: Any):
    caption = page.locator("table.summary caption >> visible=true")
    assert "222 bytes" in caption.inner_text()
    page.locator("#summary").get_by_role("button", name="64 bytes", exact=True).click()
    assert "64 bytes" in caption.inner_text()
    assert page.inner_text("#all-budget") == "at 64 bytes"
    assert page.locator("#cost table >> visible=true").locator("caption").inner_text().endswith("64 bytes")
    assert page.locator(".card", has_text="AVIF").inner_text().startswith("no file")


def test_differences_and_the_other_of_ours_can_be_chosen(page: Any):
    cell = (
        page.locator("table.summary >> visible=true")
        .locator("tr", has_text="WebP")
        .first.locator("td")
        .nth(2)
    )
    before = cell.inner_text()
    page.get_by_role("button", name="Difference from ours").click()
    assert cell.inner_text().lstrip("▲▼ ")[0] in "+−"
    assert cell.inner_text() != before
    page.get_by_role("button", name="against Ours, 50 steps").click()
    assert "Ours, 50 steps" in page.locator("table.summary caption >> visible=true").inner_text()


def test_the_legend_hides_a_codec_and_a_metric_is_picked(page: Any):
    curves = page.locator("#chart g[data-series]")
    before = curves.count()
    entry = page.locator("#legend").get_by_role("button", name="JPEG XL")
    entry.click()
    assert curves.count() == before - 1
    assert entry.get_attribute("aria-pressed") == "false"
    entry.click()
    assert curves.count() == before
    page.locator(".mini", has_text="LPIPS").click()
    assert "LPIPS" in page.locator("#chart text.name").inner_html()


def test_values_are_shown_on_hover_and_by_the_keyboard(page: Any):
    page.locator("#chart g.ours .pt").first.hover(force=True)
    assert "Ours" in page.inner_text("#tip")
    assert "95 %" in page.inner_text("#tip")
    page.focus("#chart svg")
    page.keyboard.press("ArrowRight")
    before = page.inner_text("#tip")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#tip") != before


def test_the_slider_moves_by_the_keyboard(page: Any):
    page.focus("#slide")
    page.keyboard.press("End")
    assert (
        page.evaluate("getComputedStyle(document.getElementById('compare')).getPropertyValue('--at')")
        == "100%"
    )
    assert (
        page.evaluate("getComputedStyle(document.getElementById('over')).clipPath") == "inset(0px 0% 0px 0px)"
    )


def test_pictures_are_picked_and_compared(page: Any):
    page.select_option("#left", label="Ours, 8 steps")
    page.get_by_role("button", name="WebP to the right side").click()
    assert page.inner_text("#tag-left").startswith("Ours, 8 steps · ")
    assert page.inner_text("#tag-right").startswith("WebP · ")
    source = page.get_attribute("#under", "src")
    page.click("#after")
    assert page.get_attribute("#under", "src") != source
    assert page.evaluate("[...document.images].filter((i) => i.src && !i.naturalWidth).length") == 0


@pytest.mark.parametrize("name", ["full", "plain"])
@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (375, "dark"), (1280, "dark")])
def test_no_viewport_scrolls_sideways(
    browser: Any, addresses: dict[str, str], name: str, width: int, scheme: str
):
    viewport = {"width": width, "height": 800}
    with opened(browser, addresses[name], viewport=viewport, color_scheme=scheme) as page:
        assert not scrolls_sideways(page)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(ground.removeprefix("rgb(").split(",")[0]) < 60) == (scheme == "dark")


def test_without_scripts_the_summary_of_the_middle_budget_is_there(browser: Any, addresses: dict[str, str]):
    with opened(browser, addresses["full"], java_script_enabled=False) as page:
        assert page.locator("table.summary >> visible=true").count() == 1
        assert "222 bytes" in page.locator("table.summary caption >> visible=true").inner_text()
        assert page.locator("noscript p").first.is_visible()
        assert not page.locator("#row-table").is_visible()
