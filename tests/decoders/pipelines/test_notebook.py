"""The notebook of `examples`: sound, and every cell runs, with a tiny pipeline in place of the real one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import nbformat
import pytest
import tiny_pipelines as tiny
from PIL import Image

NOTEBOOK = Path(__file__).parents[3] / "examples/real_models.ipynb"


@pytest.fixture
def cells() -> list[str]:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_what_it_printed():
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert cell.get("outputs", []) == []


def test_every_cell_runs(cells: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pipeline = tiny.save_kandinsky(tmp_path / "pipeline")
    for name, value in (("PIPELINE", pipeline), ("WORK", "work"), ("STEPS", 2), ("SIZE", 32)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.chdir(tmp_path)
    level = logging.getLogger("clip_feature_codec").level
    shown: list[Image.Image] = []
    names: dict[str, Any] = {"display": shown.append}
    try:
        for cell in cells:
            exec(compile(cell, str(NOTEBOOK), "exec"), names)
    finally:
        logging.getLogger("clip_feature_codec").setLevel(level)
    assert [picture.size for picture in shown] == [(64, 32), (64, 21), (64, 21), (64, 21)]
    assert len(list((tmp_path / "work/pairs").glob("*.png"))) == 4
    assert (tmp_path / "work/report.html").is_file()
    result = json.loads((tmp_path / "work/result.json").read_bytes())
    assert [series["id"] for series in result["series"]] == ["clp@2", "layout"]
    assert result["provenance"]["settings"]["decoders"][0]["source"] == str(pipeline)
