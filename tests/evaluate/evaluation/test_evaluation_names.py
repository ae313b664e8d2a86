"""Fault 20: names that are not UTF-8 are escaped by every writer, after all the measuring and before."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.evaluate.codecs import Painter
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.report import html_page, text_table, write_figures, write_grid, write_table
from clip_feature_codec.evaluate.results import Evaluation
from samples import make_decoder, make_picture

CAFE = os.fsdecode(b"caf\xe9")
SHOWN = r"caf\xe9"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")


@pytest.fixture(scope="module")
def evaluator(embedder: ClipEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Evaluator:
    """Of a store in a folder of such a name, with a picture of such a name."""
    folder = tmp_path_factory.mktemp("names") / CAFE
    (folder / "photos").mkdir(parents=True)
    for i, name in enumerate((CAFE, "plain")):
        make_picture(i).save(folder / "photos" / f"{name}.png", "PNG")
    store = encode_source(folder / "photos", folder / "store", embedder, workers=0).store
    comparison = Comparison(budgets=(90, 600), baselines=("layout", "webp"))
    options = PaintOptions(steps=1, size=32)
    return Evaluator.prepare(store, [Painter(make_decoder(embedder.space))], embedder, options, comparison)


@pytest.fixture(scope="module")
def result(evaluator: Evaluator) -> Evaluation:
    return evaluator.run(command=f"clip-codec eval {CAFE}")


def test_the_page(evaluator: Evaluator, result: Evaluation):
    page = html_page(result, evaluator.pictures, f"Evaluation of {CAFE}").encode("utf-8")
    assert page.count(SHOWN.encode()) >= 3  # the title, the picture, the command
    assert json.dumps(SHOWN).encode() in page  # in the list of all files


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_table(suffix: str, result: Evaluation, tmp_path: Path):
    path = tmp_path / f"rows{suffix}"
    write_table(result, path)
    if suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            names = {line["image"] for line in csv.DictReader(file)}
    else:
        names = set(parquet.read_table(path)["image"].to_pylist())
    assert names == {SHOWN, "plain"}


def test_the_json_and_back(result: Evaluation):
    text = json.dumps(result.to_json()).encode("ascii")
    assert Evaluation.from_json(json.loads(text)).images[0].name == CAFE


def test_the_grid_the_figures_and_the_text(evaluator: Evaluator, result: Evaluation, tmp_path: Path):
    write_grid(result, evaluator.pictures, tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.width > 100
    assert write_figures(result, tmp_path / "figures")
    text_table(result).encode("utf-8")
