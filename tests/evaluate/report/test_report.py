from __future__ import annotations

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from example_evaluation import example_evaluation, example_pictures
from PIL import Image

from clip_feature_codec.errors import ConfigError, ImageError
from clip_feature_codec.evaluate.report import html_page, text_table, write_figures, write_grid, write_table
from clip_feature_codec.evaluate.report.pictures import MAX_BYTES, choose, collect
from clip_feature_codec.evaluate.results import Evaluation, Failure

NASTY = 'a/</script><script>alert(1)</script><b>&"x".png'


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return example_evaluation(9, (64, 140, 1000))


class Page(HTMLParser):
    """The tags of a page, and whether each was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script" and not self.data:
            self.data = data


def data_of(page: str) -> dict:
    return json.loads(Page(page).data)


def test_the_page_is_well_formed_and_forbids_every_connection(evaluation: Evaluation):
    page = Page(html_page(evaluation, example_pictures(evaluation), "title"))
    assert page.open == []
    assert {tag for tag, _ in page.tags} & {"link", "iframe", "object"} == set()
    assert [
        a
        for tag, a in page.tags
        if tag in ("img", "script") and "src" in a and not str(a["src"]).startswith("data:image/webp;base64,")
    ] == []
    policy = next(str(a["content"]) for tag, a in page.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy


def test_names_cannot_become_markup():
    evaluation = example_evaluation(names=[NASTY, "</style>", "<!--"])
    evaluation.failures = [Failure("<u>.clp", "<u>.clp: <i>bad</i>")]
    text = html_page(evaluation, example_pictures(evaluation), "<script>alert(2)</script>")
    page = Page(text)
    assert page.open == []
    assert [a for tag, a in page.tags if tag == "script"] == [{"type": "application/json", "id": "data"}, {}]
    assert json.loads(page.data)["images"] == [NASTY, "</style>", "<!--"]
    assert "<u>" not in text
    assert "<b>&" not in text


def test_every_row_is_embedded(evaluation: Evaluation):
    data = data_of(html_page(evaluation, {}, "title"))
    rows = data["rows"]
    assert len(rows["image"]) == len(evaluation.rows)
    for i in (0, 7, len(evaluation.rows) - 1):
        row = evaluation.rows[i]
        assert data["images"][rows["image"][i]] == row.image
        assert evaluation.series[rows["series"][i]].id == row.series
        assert rows["settings"][rows["setting"][i]] == row.settings
        if (similarity := row.metrics["clip_similarity"]) is not None:
            assert rows["metrics"]["clip_similarity"][i] == pytest.approx(similarity, abs=1e-6)


def test_what_fits_none_and_what_is_missing_is_said(evaluation: Evaluation):
    text = html_page(evaluation, {}, "title")
    assert "fits none: no file of this codec is that small" in text
    assert "24 pictures are too few: 500 are needed" in text
    assert "store/broken.clp" in text
    assert "&#39;my report.html&#39;" in text


def test_one_size_without_baselines_has_no_curves_nor_comparison():
    text = html_page(example_evaluation(2, [None], baselines=False), {}, "title")
    assert 'id="chart"' not in text
    assert 'id="bjontegaard"' not in text
    assert "own size" in text
    assert Page(text).open == []


def test_worst_and_best_are_chosen_by_the_judge():
    evaluation = example_evaluation(40)
    ours = {
        r.image: r.metrics["judge_similarity"] or 0.0
        for r in evaluation.rows
        if r.series == "clp@8" and r.budget == 222
    }
    order = sorted(ours, key=lambda name: ours[name])
    chosen = choose(evaluation)
    assert [one.name for one in chosen if one.why == "worst"] == order[:4]
    assert [one.name for one in chosen if one.why == "best"] == order[:-5:-1]
    assert sum(one.why == "spread" for one in chosen) == 12
    assert len({one.name for one in chosen}) == 20


def test_the_page_holds_no_more_pictures_than_it_may(evaluation: Evaluation):
    heavy = {key: bytes(MAX_BYTES // 90) for key in example_pictures(evaluation)}
    shown, files = collect(evaluation, heavy, choose(evaluation))
    assert 0 < sum(map(len, files.values())) <= MAX_BYTES
    assert 0 < len(shown) < len(evaluation.images)
    assert {one.why for one in shown} & {"worst", "best"}  # they come first
    assert not {series for _, series, _ in files if ":payload" in series}


def test_the_table_for_the_terminal(evaluation: Evaluation):
    blocks = text_table(evaluation).split("\n\n")
    assert [block.split("  ")[0] for block in blocks[:3]] == ["64 bytes", "140 bytes", "1,000 bytes"]
    lines = blocks[0].splitlines()
    assert next(line for line in lines if line.startswith("JPEG  ")).split() == ["JPEG", "fits", "none"]
    assert any(line.split()[:4] == ["WebP", "3", "of", "9"] for line in lines)
    assert any(line.split()[:4] == ["Ours,", "8", "steps", "9"] for line in lines)
    values = [
        r.metrics["clip_similarity"] or 0.0 for r in evaluation.rows if (r.series, r.budget) == ("clp@8", 64)
    ]
    assert f"{sum(values) / 9:.4f} ±" in next(line for line in lines if line.startswith("Ours, 8 steps"))
    assert "not available: ms_ssim: a side is below 161 pixels" in blocks[-1]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_has_every_row(suffix: str, evaluation: Evaluation, tmp_path: Path):
    path = tmp_path / f"rows{suffix}"
    write_table(evaluation, path)
    if suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            found = [{k: v or None for k, v in line.items()} for line in csv.DictReader(file)]
    else:
        from pyarrow import parquet

        found = parquet.read_table(path).to_pylist()
    assert len(found) == len(evaluation.rows)
    for line, row in zip(found, evaluation.rows, strict=True):
        assert (line["image"], line["series"], int(line["bytes"])) == (row.image, row.series, row.bytes)
        for name, value in row.metrics.items():
            assert (None if line[name] is None else float(line[name])) == value
        assert line["encode_mb"] is None


def test_a_table_of_another_kind_is_refused(evaluation: Evaluation, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"rows\.xlsx"):
        write_table(evaluation, tmp_path / "rows.xlsx")


def test_there_is_a_figure_for_each_metric(tmp_path: Path):
    evaluation = example_evaluation(6, (140, 1000))
    evaluation.metrics = {
        name if name != "ssim" else "ssim@a/b": metric
        for name, metric in evaluation.metrics.items()
        if name in ("psnr", "ssim", "kid")
    }
    for row in evaluation.rows:
        row.metrics["ssim@a/b"] = row.metrics.pop("ssim")
    paths = write_figures(evaluation, tmp_path)
    assert [path.name for path in paths] == ["psnr.png", "ssim@a-b.png", "kid.png"]
    for path in paths:
        with Image.open(path) as figure:
            assert figure.getextrema() != ((255, 255),) * 4
    assert write_figures(example_evaluation(2, [None]), tmp_path / "none") == []


def test_the_grid_has_a_row_for_each_picture(tmp_path: Path):
    evaluation = example_evaluation(3)
    pictures = example_pictures(evaluation)
    write_grid(evaluation, pictures, tmp_path / "all.png")
    few = {key: data for key, data in pictures.items() if key[0] != "photo_001.jpg"}
    write_grid(evaluation, few, tmp_path / "few.png")
    with Image.open(tmp_path / "all.png") as grid, Image.open(tmp_path / "few.png") as smaller:
        assert grid.width == smaller.width
        assert grid.height > smaller.height
    with pytest.raises(ImageError, match=r"none\.png"):
        write_grid(evaluation, {}, tmp_path / "none.png")
