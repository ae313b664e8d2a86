from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_feature_codec.errors import ImageError
from clip_feature_codec.evaluate.evaluation import Evaluation, Row, Sample
from clip_feature_codec.evaluate.report import html_page, text_table, write_grid, write_html
from samples import make_picture

NASTY = 'a/<b>&"bold".png'


def make_row(name: str, **figures: float | None) -> Row:
    values = {"psnr": 20.125, "ssim": 0.5, "lpips": None, "clip_similarity": 0.75} | figures
    return Row(name=name, bytes=140, bpp=0.25, width=48, height=36, **values)


def make_sample(seed: int, size: tuple[int, int] = (48, 36)) -> Sample:
    return Sample(make_row(f"p{seed}"), make_picture(seed, size), make_picture(seed + 100, size))


@pytest.fixture
def evaluation() -> Evaluation:
    rows = [make_row("p0"), make_row("p1", psnr=None), make_row(NASTY, psnr=30.375)]
    settings = {"space": "tiny/<i>test</i>", "steps": 2, "eta": 0.0, "guidance": 1.0, "seed": 0, "size": 48}
    failures = [("store/<u>.clp", "store/<u>.clp: cannot be read")]
    unavailable = {"lpips": "no weights of AlexNet"}
    samples = [Sample(row, make_picture(i), make_picture(9 + i)) for i, row in enumerate(rows)]
    return Evaluation(settings, rows, unavailable, failures, samples)


class Page(HTMLParser):
    """The tags of a page, the text of its table rows, and its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_the_page_is_well_formed_and_needs_no_other_file(evaluation: Evaluation):
    text = html_page(evaluation, "title")
    page = Page(text)
    assert page.open == []
    assert re.findall(r"https?:|//|@import|url\(", re.sub(r"base64,[^\"]*", "", text)) == []
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"} == set()
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 2 * len(evaluation.samples)
    assert [source for source in sources if not str(source).startswith("data:image/webp;base64,")] == []


def test_the_page_shows_each_original_with_its_reconstruction(evaluation: Evaluation):
    page = Page(html_page(evaluation, "title"))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    expected = [picture for s in evaluation.samples for picture in (s.original, s.reconstruction)]
    for attributes, picture in zip(images, expected, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(str(attributes["src"]).partition(",")[2]))) as shown:
            difference = np.asarray(shown.convert("RGB"), float) - np.asarray(picture, float)
        assert np.abs(difference).mean() < 8  # WebP is lossy; other pictures differ by far more
    assert images[4]["alt"] == f"{NASTY}, original"


def test_the_page_holds_every_row_and_the_summary(evaluation: Evaluation):
    rows = [[cell.strip() for cell in row] for row in Page(html_page(evaluation, "title")).rows]
    assert ["p0", "140", "0.2500", "20.12", "0.5000", "–", "0.7500"] in rows
    assert ["p1", "140", "0.2500", "–", "0.5000", "–", "0.7500"] in rows
    assert [NASTY, "140", "0.2500", "30.38", "0.5000", "–", "0.7500"] in rows
    psnr = next(row for row in rows if row[0].startswith("PSNR"))
    assert psnr[1:] == ["25.25", "5.12", "25.25", "2"]


def test_names_and_reasons_are_escaped(evaluation: Evaluation):
    text = html_page(evaluation, "<script>alert(1)</script>")
    for raw in ("<b>&", "<i>test", "<u>.clp", "<script>"):
        assert raw not in text
    assert "store/&lt;u&gt;.clp: cannot be read" in text
    assert "LPIPS is not available: no weights of AlexNet" in text


def test_the_page_is_written_whole(evaluation: Evaluation, tmp_path: Path):
    write_html(evaluation, tmp_path / "deep/index.html", "title")
    assert (tmp_path / "deep/index.html").read_text("utf-8") == html_page(evaluation, "title")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["index.html"]


def test_the_table_for_the_terminal(evaluation: Evaluation):
    lines = text_table(evaluation).splitlines()
    assert lines[0].split() == ["mean", "std", "median", "n"]
    assert next(line for line in lines if line.startswith("PSNR")).split()[-4:] == [
        "25.25",
        "5.12",
        "25.25",
        "2",
    ]
    assert next(line for line in lines if line.startswith("Bytes")).split()[-4:] == [
        "140.0",
        "0.0",
        "140.0",
        "3",
    ]
    assert lines[-1] == "LPIPS: not available: no weights of AlexNet"


@pytest.mark.parametrize(("count", "per_row", "columns", "rows"), [(1, 4, 1, 1), (3, 2, 2, 2), (8, 4, 4, 2)])
def test_the_grid_shows_every_pair_side_by_side(
    count: int, per_row: int, columns: int, rows: int, tmp_path: Path
):
    samples = [make_sample(i) for i in range(count)]
    write_grid(samples, tmp_path / "grid.png", per_row)
    with Image.open(tmp_path / "grid.png") as image:
        grid = np.asarray(image.convert("RGB"))
    cell, gap = 48, 2
    assert grid.shape == (rows * (cell + gap) + gap, columns * 2 * (cell + gap) + gap, 3)
    for i, sample in enumerate(samples):
        left, top = gap + i % columns * 2 * (cell + gap), gap + i // columns * (cell + gap) + 6
        shown = grid[top : top + 36, left : left + cell]
        assert (shown == np.asarray(sample.original)).all()
        left += cell + gap // 2
        assert (grid[top : top + 36, left : left + cell] == np.asarray(sample.reconstruction)).all()


def test_the_grid_takes_pictures_of_several_shapes(tmp_path: Path):
    write_grid([make_sample(0, (64, 16)), make_sample(1, (16, 64))], tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (2 * 2 * 66 + 2, 68)


def test_a_grid_needs_a_picture(tmp_path: Path):
    with pytest.raises(ImageError, match=r"grid\.png"):
        write_grid([], tmp_path / "grid.png")
