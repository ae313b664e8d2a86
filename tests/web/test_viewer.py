"""The viewer page in a real browser: links, files, photos, painting."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from engines import WEB, served
from PIL import Image
from viewer import fragment_of, opened, pixels, wait_for

from clip_feature_codec import ClipCodec
from clip_feature_codec.cli.main import main
from samples import make_picture


@pytest.fixture(scope="module")
def codec() -> ClipCodec:
    return ClipCodec.load(device="cpu")


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A PNG file of 90 × 60 pixels."""
    file = io.BytesIO()
    make_picture(1, (90, 60)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def blob(codec: ClipCodec) -> bytes:
    return codec.encode(make_picture(1, (90, 60)), max_bytes=140)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page as the package has it, where there is nothing that could paint."""
    with served(WEB) as server:
        yield f"{server}/view/"


@pytest.fixture(scope="module")
def stand_in(codec: ClipCodec) -> str:
    blobs = {size: codec.encode(make_picture(1, (90, 60)), max_bytes=size) for size in (140, 60)}
    return json.dumps({size: base64.b64encode(blob).decode() for size, blob in blobs.items()})


def text_of(page: Any, name: str) -> str:
    return str(page.locator(f"#{name}").inner_text())


def test_a_link_shows_its_layout_before_anything_else(
    browser: Any, address: str, codec: ClipCodec, blob: bytes, tmp_path: Path
):
    (tmp_path / "a.clp").write_bytes(blob)
    link = CliRunner().invoke(main, ["link", str(tmp_path / "a.clp"), "--page", address]).stdout.strip()
    with opened(browser, link) as page:
        assert page.locator("#layout").is_visible()
        expected = np.asarray(codec.preview(blob, size=512), int)
        assert np.abs(pixels(page, "layout")[..., :3] - expected).max() <= 1
        assert page.title() == text_of(page, "title") == f"A picture in {len(blob)} bytes"
        assert page.locator("#link").input_value() == link
        wait_for(page, "cannot-paint", "It cannot be painted: .*404")
        assert page.locator("#layout").is_visible()
        assert page.locator("#shown [value=painted]").is_disabled()


def test_the_bytes_are_told_layer_by_layer(browser: Any, address: str, codec: ClipCodec, blob: bytes):
    stream = codec.features.parse(blob)
    with opened(browser, f"{address}#{fragment_of(blob)}") as page:
        sizes = [stream.header, len(stream.layout or b""), len(stream.semantic or b"")]
        assert page.locator("#layers dd").all_inner_texts() == [f"{size} bytes" for size in sizes]
        assert "".join(page.locator("#hex span").all_inner_texts()) == blob.hex()
        kinds = [page.locator(f"#hex .{kind}").count() for kind in ("header", "layout", "vector")]
        assert kinds == sizes


def test_the_codes_of_the_page_are_read_by_others(browser: Any, address: str, blob: bytes):
    zxingcpp = pytest.importorskip("zxingcpp", reason="zxing-cpp is not installed")
    with opened(browser, f"{address}#{fragment_of(blob)}", color_scheme="dark") as page:
        page.locator("#qr summary").click()
        with Image.open(io.BytesIO(page.locator("#code").screenshot())) as image:
            (found,) = zxingcpp.read_barcodes(image.convert("L"))
        assert found.text == f"{address}#{fragment_of(blob)}"


def test_a_link_that_no_code_holds_says_so(browser: Any, address: str, codec: ClipCodec):
    blob = codec.encode(make_picture(3), quality=100)
    with opened(browser, f"{address}#{fragment_of(blob)}") as page:
        page.locator("#qr summary").click()
        assert page.locator("#code").is_visible()  # the best quality there is still fits
        page.locator("#link").evaluate("(field) => (field.value = 'x'.repeat(3000))")
        page.locator("#qr summary").click()
        page.locator("#qr summary").click()
        wait_for(page, "no-code", "The link has 3000 characters; a QR code holds 2,953")


def test_a_damaged_link_gets_one_clear_line(browser: Any, address: str, blob: bytes):
    good = fragment_of(blob)
    damaged = {
        fragment_of(blob[:-5]): "checksum: found 0x",
        good[:50] + "%3Cscript%3E": 'link: found "%" behind the #',
        "y" + good[1:]: "magic: found 0xcb",
        good[:3] + "A" + good[4:]: "codec id: found",
        "x": "link: found 1 characters behind the #: it was cut short",
        "xy0": "length: found 2 bytes",
    }
    with opened(browser, f"{address}#{next(iter(damaged))}") as page:
        for fragment, expected in damaged.items():
            page.evaluate("(hash) => (location.hash = hash)", fragment)
            wait_for(page, "error", re.escape(expected))
            assert "\n" not in text_of(page, "error")
            assert page.locator("#error").get_attribute("role") == "alert"
            assert page.locator("#empty").is_visible()
        page.evaluate("(hash) => (location.hash = hash)", good)
        page.locator("#layout").wait_for()
        assert page.locator("#error").is_hidden()


def test_a_file_becomes_the_address_and_back_leads_back(
    browser: Any, address: str, blob: bytes, codec: ClipCodec, tmp_path: Path
):
    other = codec.encode(make_picture(2, (40, 80)), max_bytes=100)
    with opened(browser, address) as page:
        for name, data in (("a.clp", blob), ("b", other)):
            page.set_input_files(
                "#file", {"name": name, "mimeType": "application/octet-stream", "buffer": data}
            )
            page.wait_for_url(f"{address}#{fragment_of(data)}")
        with page.expect_download() as download:
            page.locator("#download").click()
        download.value.save_as(tmp_path / "saved.clp")
        assert (tmp_path / "saved.clp").read_bytes() == other
        with page.expect_download() as download:
            page.get_by_role("button", name="Save picture").click()
        download.value.save_as(tmp_path / "saved.png")
        with Image.open(tmp_path / "saved.png") as image:
            assert image.size == (256, 512)
        page.go_back()
        wait_for(page, "title", f"in {len(blob)} bytes")
        assert page.locator("#spoken").inner_text() != ""
        page.go_back()
        page.locator("#empty").wait_for()
        page.set_input_files("#file", {"name": "c.clp", "mimeType": "", "buffer": b"no stream"})
        wait_for(page, "error", "magic: found 0x6e")


def test_what_is_dropped_or_pasted_is_opened(browser: Any, address: str, blob: bytes):
    hand_over = """([type, data, text]) => {
      const transfer = new DataTransfer();
      if (data) transfer.items.add(new File([Uint8Array.from(atob(data), (l) => l.charCodeAt(0))], "x.clp"));
      if (text) transfer.setData("text/plain", text);
      const init = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
      const Kind = type === "paste" ? ClipboardEvent : DragEvent;
      document.body.dispatchEvent(new Kind(type, init));
    }"""
    data = base64.b64encode(blob).decode()
    link = f"https://example.org/#{fragment_of(blob)}"
    with opened(browser, address) as page:
        for arguments in (["drop", data, ""], ["paste", data, ""], ["paste", "", link]):
            page.evaluate(hand_over, ["dragover", data, ""])
            assert page.locator("body.dropping").count() == 1
            page.evaluate(hand_over, arguments)
            page.wait_for_url(f"{address}#{fragment_of(blob)}")
            page.evaluate("location.hash = ''")
            page.locator("#empty").wait_for()


def test_a_photo_is_encoded_and_becomes_a_link(browser: Any, address: str, photo: bytes, stand_in: str):
    streams = {int(size): base64.b64decode(text) for size, text in json.loads(stand_in).items()}
    with opened(browser, address, stand_in) as page:
        page.set_input_files("#file", {"name": "p.png", "mimeType": "image/png", "buffer": photo})
        page.wait_for_url(f"{address}#{fragment_of(streams[140])}")
        assert page.evaluate("window.seen") == [90, 60]
        page.get_by_text("Original", exact=True).click()
        assert page.locator("#original").is_visible()
        np.testing.assert_array_equal(
            pixels(page, "original")[..., :3], np.asarray(make_picture(1, (90, 60)))
        )
        page.fill("#max-bytes", "60")
        page.keyboard.press("Tab")
        page.wait_for_url(f"{address}#{fragment_of(streams[60])}")
        page.reload()  # the photo is nowhere but in the page
        assert page.locator("#encoding").is_hidden()
        assert page.get_by_text("Original", exact=True).is_hidden()


def test_what_is_no_picture_or_cannot_be_encoded_is_told(browser: Any, address: str, photo: bytes):
    with opened(browser, address) as page:
        page.set_input_files("#file", {"name": "p.png", "mimeType": "image/png", "buffer": photo})
        wait_for(page, "error", "This page cannot encode the photo: .*404")
        page.set_input_files("#file", {"name": "p.png", "mimeType": "image/png", "buffer": b"none"})
        wait_for(page, "error", "p.png: this browser finds no picture in it")


def test_painting_is_followed_stopped_and_asked_for_again(
    browser: Any, address: str, blob: bytes, stand_in: str
):
    with opened(browser, f"{address}#{fragment_of(blob)}", stand_in) as page:
        page.evaluate("window.tell({ stage: 'loading', done: 1e6, total: 4e6 })")
        assert text_of(page, "status") == "Loading the painter: 1.0 of 4.0 MB"
        assert page.locator("#progress").get_attribute("value") == "1000000"
        page.evaluate("window.tell({ stage: 'painting', done: 1, total: 2 })")
        assert text_of(page, "status") == "Painting: 1 of 2 steps"
        page.evaluate("window.finish(200)")
        wait_for(page, "status", "Painted: fidelity 0, 2 steps, seed 0")
        assert page.locator("#painted").is_visible()
        assert (pixels(page, "painted")[..., 0] == 200).all()
        assert page.locator("#progress").is_hidden()
        page.locator("#fidelity").focus()
        page.keyboard.press("End")
        assert text_of(page, "fidelity-value") == "1"
        page.fill("#steps", "8")
        page.fill("#seed", "7")
        page.get_by_role("button", name="Stop").click()
        wait_for(page, "status", "Stopped")
        page.evaluate("window.tell({ stage: 'painting', done: 2, total: 2 })")  # too late
        assert text_of(page, "status") == "Stopped"
        page.get_by_role("button", name="Paint", exact=True).click()
        page.evaluate("window.fail('no weights')")
        wait_for(page, "cannot-paint", "It cannot be painted: no weights")
        page.get_by_role("button", name="Another seed").click()
        asked = page.evaluate("window.asked")
        assert asked[0] == {"bytes": len(blob), "fidelity": 0, "steps": 2, "seed": 0, "size": 256}
        assert asked[-2] | {"fidelity": 1, "steps": 8, "seed": 7} == asked[-2]
        assert asked[-1]["seed"] != 7
        assert page.locator("#cannot-paint").is_hidden()


def test_a_new_stream_takes_the_place_of_what_was_being_painted(
    browser: Any, address: str, blob: bytes, codec: ClipCodec, stand_in: str
):
    other = codec.encode(make_picture(2, (40, 80)), max_bytes=100)
    with opened(browser, f"{address}#{fragment_of(blob)}", stand_in) as page:
        page.evaluate("window.first = window.finish")
        page.set_input_files("#file", {"name": "b.clp", "mimeType": "", "buffer": other})
        page.wait_for_url(f"{address}#{fragment_of(other)}")
        page.evaluate("window.first(100)")
        assert page.locator("#shown [value=painted]").is_disabled()
        page.evaluate("window.finish(50)")
        wait_for(page, "status", "Painted")
        assert (pixels(page, "painted")[..., 0] == 50).all()
        assert [one["bytes"] for one in page.evaluate("window.asked")] == [len(blob), len(other)]


def test_a_stream_without_a_layout_waits_for_its_painting(
    browser: Any, address: str, codec: ClipCodec, stand_in: str
):
    blob = codec.encode(make_picture(4), layers="semantic")
    with opened(browser, f"{address}#{fragment_of(blob)}", stand_in) as page:
        assert page.locator("#shown [value=layout]").is_disabled()
        assert page.locator("#layers dd").all_inner_texts()[1] == "none"
        page.evaluate("window.finish(90)")
        wait_for(page, "status", "Painted")
        assert page.locator("#painted").is_visible()
