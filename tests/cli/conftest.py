from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clip_feature_codec.cli.main import main
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.evaluate.metrics.definitions import METRICS
from clip_feature_codec.evaluate.results import Evaluation, Original, Row, Series
from samples import make_store


@pytest.fixture(scope="session")
def finished(embedder: ClipEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` and a ``store`` that has a decoder; not to be written to."""
    return make_store(tmp_path_factory.mktemp("finished"), embedder).parent


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """The same, for one test alone."""
    return Path(shutil.copytree(finished, tmp_path / "work"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """Runs ``clip-codec`` with the given arguments; LPIPS's weights are not at hand."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def invoke(*args: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)

    return invoke


@pytest.fixture
def ok(run: Callable[..., Result]) -> Callable[..., Result]:
    """Runs ``clip-codec`` and makes sure that it succeeds."""

    def invoke(*args: object, stdin: bytes | None = None) -> Result:
        result = run(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result

    return invoke


@pytest.fixture
def result() -> dict[str, Any]:
    """Twelve pictures at 140 bytes; the first came back exactly."""
    rows = []
    for i in range(12):
        metrics = {"psnr": 20.0 + i % 5 if i else None, "ssim": 0.5}
        rows.append(Row(f"p{i}", "clp@8", 140, 0, 139, 130, 0.02, "", metrics))
    return Evaluation(
        provenance={"created": "2026-11-25T08:00:00+00:00"},
        metrics={name: METRICS[name] for name in ("psnr", "ssim")},
        series=[Series("clp@8", "clp, 8 steps", "ours", "1", 8)],
        images=[Original(f"p{i}", 256, 192, f"{i:064x}") for i in range(12)],
        rows=rows,
    ).to_json()
