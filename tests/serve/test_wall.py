"""The page in a real browser, without a screen: a wall of 2,000, search, one picture, keyboard, axe-core."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serve_samples import encoded, grow, make_photos, serving

from browsing import assert_open_to_all, scrolls_sideways, watched
from clip_feature_codec import ClipCodec
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.search.nearest import SearchIndex
from samples import make_picture

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
expect.set_options(timeout=30_000)

COUNT = 2000
DESKTOP = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
NASTY = "<img src=x onerror=alert(1)>"
PIXELS = """canvas => {
    const copy = new OffscreenCanvas(8, 8).getContext("2d");
    copy.drawImage(canvas, 0, 0, 8, 8);
    return [...copy.getImageData(0, 0, 8, 8).data];
}"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, codec: ClipCodec) -> Path:
    """A store of 2,000: eight with their originals, the others made."""
    folder = tmp_path_factory.mktemp("large")
    photos = make_photos(folder / "photos")
    make_picture(50, (90, 90)).save(photos / f"{NASTY}.png")
    encoded(photos, folder / "store", codec)
    grow(folder / "store", codec, COUNT - 8)
    return folder / "store"


@pytest.fixture(scope="module")
def link(large: Path) -> Iterator[str]:
    with serving(large, "--port", 0) as (_, link):
        yield link


@pytest.fixture
def visit(browser: Any, link: str) -> Iterator[Callable[..., Any]]:
    """Opens pages of the server, which are watched until the test ends."""
    with ExitStack() as pages:

        def open_page(address: str = "", expected: str = "pictures", **options: Any) -> Any:
            page = pages.enter_context(watched(browser, link, "blob:", **DESKTOP | options))
            page.goto(link + address)
            expect(page.locator("#status")).to_contain_text(expected)
            return page

        yield open_page


def tiles(page: Any) -> Any:
    return page.locator("#wall li button")


def names(page: Any, count: int) -> list[str]:
    return [tiles(page).nth(i).get_attribute("aria-label").split(", cosine")[0] for i in range(count)]


def test_a_wall_shows_what_the_streams_hold_and_holds_what_is_seen(
    visit: Callable[..., Any], large: Path, codec: ClipCodec
):
    page = visit(expected="2,000 pictures")
    entries = list(open_store(large).entries)
    expect(page.locator("#wall canvas:not([hidden])").nth(5)).to_be_visible()
    for i in range(3):
        shown = np.array(page.locator("#wall canvas").nth(i).evaluate(PIXELS)).reshape(8, 8, 4)[..., :3]
        preview = codec.preview((large / f"{entries[i].name}.clp").read_bytes(), size=240).resize((8, 8))
        assert np.abs(shown - np.asarray(preview).astype(int)).mean() < 6
    assert names(page, 8) == [entry.name for entry in entries[:8]]
    page.evaluate("scrollTo(0, document.body.scrollHeight / 2)")
    expect(page.locator('li[data-index="1000"]')).to_have_count(1)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_role("button", name=entries[-1].name)).to_be_visible()
    assert tiles(page).count() < 250
    last = page.locator("#wall li").last
    assert (last.get_attribute("aria-posinset"), last.get_attribute("aria-setsize")) == ("2000", "2000")


def test_words_photos_and_pictures_are_searched_for(visit: Callable[..., Any], large: Path, codec: ClipCodec):
    page = visit()
    page.keyboard.press("/")
    page.keyboard.type("a blue sky")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("100 pictures nearest to “a blue sky”")
    hits = SearchIndex.open(open_store(large)).nearest(codec.embedder.embed_text("a blue sky")[0], 5)
    assert names(page, 5) == [hit.entry.name for hit in hits]
    photo = large.parent / "photos/p3.png"
    page.locator("#file").set_input_files(photo)
    expect(page.locator("#status")).to_have_text("100 pictures nearest to p3.png")
    assert names(page, 1) == ["p3"]
    expect(page.locator("#query")).to_be_visible()
    page.evaluate(
        """bytes => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "dropped.clp"));
            const options = { dataTransfer: data, bubbles: true, cancelable: true };
            for (const kind of ["dragenter", "dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(kind, options));
        }""",
        list((large / "p1.clp").read_bytes()),
    )
    expect(page.locator("#status")).to_have_text("100 pictures nearest to dropped.clp")
    assert names(page, 1) == ["p1"]
    tiles(page).first.click()
    page.locator("#like").click()
    expect(page.locator("#status")).to_have_text("100 pictures nearest to this picture")
    expect(page.locator("#detail")).to_be_hidden()
    page.locator("#clear").click()
    expect(page.locator("#status")).to_contain_text("2,000 pictures")
    for _ in range(5):
        page.go_back()
    expect(page.locator("#status")).to_have_text("100 pictures nearest to “a blue sky”")
    assert page.locator("#words").input_value() == "a blue sky"


def test_what_is_there_twice_is_shown_in_groups(visit: Callable[..., Any]):
    page = visit("#duplicates", "group")
    assert page.locator("#duplicates").get_attribute("aria-pressed") == "true"
    expect(page.locator("#wall h2").first).to_contain_text("Group 1:")
    assert any(label.endswith("again") for label in names(page, tiles(page).count()))
    assert_open_to_all(page)


def test_a_picture_is_taken_apart_and_painted(visit: Callable[..., Any], large: Path, codec: ClipCodec):
    page = visit()
    page.get_by_role("button", name="p1", exact=True).click()
    stream = codec.features.parse((large / "p1.clp").read_bytes())
    expect(page.locator("#bytes-title")).to_have_text(f"{len(stream.blob)} bytes")
    expect(page.locator("#vector-bytes")).to_have_text(f"{len(stream.semantic or b'')} bytes")
    expect(page.locator("#layout-bytes")).to_have_text(f"{len(stream.layout or b'')} bytes")
    for figure in ("#layout", "#painted", "#original"):
        expect(page.locator(figure)).to_be_visible()
    assert page.locator("#painted").evaluate("image => image.naturalWidth") == 512
    drawn = [page.locator("#painted").evaluate(PIXELS)]
    for field, value in (("#fidelity", "0.5"), ("#steps", "4"), ("#seed", "7")):
        with page.expect_response(re.compile("painted")) as answered:
            page.locator(field).fill(value)
        assert answered.value.status == 200
        expect(page.locator("#painted-figure")).to_have_attribute("aria-busy", "false")
        drawn.append(page.locator("#painted").evaluate(PIXELS))
    assert len({tuple(pixels) for pixels in drawn}) == 4
    assert f"picture={page.locator('#detail').get_attribute('data-id')}" in page.url
    page.locator("#after").click()
    expect(page.locator("#name")).to_have_text(names(page, 8)[names(page, 8).index("p1") + 1])
    page.go_back()
    expect(page.locator("#detail")).to_be_hidden()


def test_a_picture_goes_along_in_a_link_and_back(visit: Callable[..., Any], link: str, large: Path):
    page = visit()
    page.get_by_role("button", name="p3", exact=True).click()
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "p3.clp"
    assert Path(download.value.path()).read_bytes() == (large / "p3.clp").read_bytes()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#copy").click()
    expect(page.locator("#told")).to_contain_text("Copied: a link of")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#view").evaluate("a => a.href")
    assert copied.startswith(f"{link}view#")
    page.goto(copied)
    expect(page.locator("h1")).to_have_text(f"A picture in {len((large / 'p3.clp').read_bytes())} bytes")
    page.go_back()
    expect(page.locator("#name")).to_have_text("p3")


def test_all_is_done_by_keyboard(visit: Callable[..., Any]):
    page = visit()
    expect(tiles(page).nth(5)).to_be_visible()
    tiles(page).first.focus()
    focused = "document.activeElement.parentElement.dataset.index"
    places = []
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "End", "ArrowLeft", "Home"):
        page.keyboard.press(key)
        wanted = {"End": "1999", "Home": "0"}.get(key)
        if wanted:
            expect(page.locator(f'li[data-index="{wanted}"] button')).to_be_focused()
        places.append(int(page.evaluate(focused)))
    assert places[0] == 1
    assert places[1] > places[2]
    assert places[3:] == [1999, 1998, 0]
    page.keyboard.press("Enter")
    expect(page.locator("#detail")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#name")).to_have_text(names(page, 2)[1])
    page.keyboard.press("Escape")
    expect(page.locator("#detail")).to_be_hidden()
    expect(page.locator('li[data-index="1"] button')).to_be_focused()
    assert "#" not in page.url


@pytest.mark.parametrize(("device", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_nothing_keeps_anybody_out(visit: Callable[..., Any], device: dict[str, Any], scheme: str):
    page = visit(**device, color_scheme=scheme)
    expect(page.locator("#wall canvas:not([hidden])").first).to_be_visible()
    assert_open_to_all(page)
    assert not scrolls_sideways(page)
    page.get_by_role("button", name="p1", exact=True).click()
    expect(page.locator("#painted")).to_be_visible()
    assert_open_to_all(page)
    assert page.locator("#detail").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")


@pytest.mark.parametrize("profile", ["klt", "int8"])
def test_a_store_of_another_model_is_shown(browser: Any, tmp_path: Path, profile: str):
    other = ClipCodec.load(Path(__file__).parents[1] / "golden" / profile)
    other.features.save(tmp_path / "store/codec.json")
    grow(tmp_path / "store", other, 3)
    with serving(tmp_path / "store", "--port", 0) as (_, link):
        page = browser.new_page(**DESKTOP)
        page.goto(link)
        expect(page.locator("#wall canvas:not([hidden])")).to_have_count(3)
        tiles(page).first.click()
        expect(page.locator("#layout")).to_be_visible()
        for part in ("#copy", "#view", "#painted-figure", "#paint"):
            expect(page.locator(part)).to_be_hidden()
        page.close()


def test_names_are_text(visit: Callable[..., Any]):
    page = visit()
    page.get_by_role("button", name=NASTY, exact=True).click()
    expect(page.locator("#name")).to_have_text(NASTY)


def test_a_store_that_grows_is_followed(browser: Any, tmp_path: Path, codec: ClipCodec):
    photos = make_photos(tmp_path / "photos", 2)
    store = encoded(photos, tmp_path / "store", codec)
    with serving(store, "--port", 0) as (_, link):
        page = browser.new_page(**DESKTOP)
        page.goto(link)
        expect(page.locator("#status")).to_contain_text("3 pictures")
        grow(store, codec, 5)
        expect(page.locator("#status")).to_contain_text("8 pictures")
        expect(tiles(page)).to_have_count(8)
        page.close()


def test_the_token_in_the_link_opens_the_page_and_leaves_the_address(browser: Any, store: Path):
    with serving(store, "--port", 0, "--host", "0.0.0.0") as (_, link):
        page = browser.new_page(**DESKTOP)
        page.goto(link.partition("#")[0])
        expect(page.locator("#status")).to_contain_text("open the link that it printed")
        page.goto("about:blank")
        page.goto(link)
        expect(page.locator("#status")).to_contain_text("7 pictures")
        assert "token" not in page.url
        page.get_by_role("button", name="p1", exact=True).click()
        expect(page.locator("#original")).to_be_visible()
        page.reload()
        expect(page.locator("#name")).to_have_text("p1")
        assert page.context.cookies() == []
        page.close()
