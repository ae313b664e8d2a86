"""``clip-codec eval``: what is refused before anything is loaded, and a judge by classes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from clip_feature_codec.api import ClipCodec
from clip_feature_codec.decoders.checkpoint import save_decoder
from clip_feature_codec.evaluate.metrics.classifier import Classifier
from clip_feature_codec.evaluate.metrics.judge import Judge
from clip_feature_codec.evaluate.metrics.pairs import PairMetrics
from samples import make_decoder

QUICK = ("--steps", 1, "--size", 16, "--device", "cpu")
Run = Callable[..., Result]

PROGRAM = """
name = "{name}"
encode = "{program} {{input}} {{bitstream}}"
decode = "{program} {{bitstream}} {{output}}"
"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--baselines webp,gif", "'gif'"),
        ("--external missing.toml", "no-such-program is not installed"),
        ("--external taken.toml", "the name 'webp' is taken"),
        ("--budgets 64,64", "64, 64"),
        ("--require beauty", "'beauty'; there are psnr"),
        ("--require clip_rank@other", "'clip_rank@other'"),
        ("--grid grid.txt", "grid.txt"),
        ("--table rows.xlsx", "rows.xlsx"),
        ("--other-clip a/x --other-clip b/x", "called 'x' already"),
        ("--judge net.onnx --judge net.tflite", "one classifier"),
        ("--decoder store --decoder store", "--decoder store is given twice"),
        ("--judge net.onnx --classes missing.toml", "no column 'image'"),
    ],
)
def test_fault_9_what_makes_no_sense_is_refused_before_anything_is_loaded(
    options: str, expected: str, work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(work)
    Path("missing.toml").write_text(PROGRAM.format(name="mine", program="no-such-program"))
    Path("taken.toml").write_text(PROGRAM.format(name="webp", program=sys.executable))
    for name in ("net.onnx", "net.tflite"):
        Path(name).touch()

    before = set(work.rglob("*"))

    def loaded(*_: object, **__: object) -> None:
        pytest.fail("a network was loaded")

    for kind in (ClipCodec, Judge, Classifier, PairMetrics):
        monkeypatch.setattr(kind, "load", loaded)
    done = run("eval", "store", *QUICK, *options.split())
    assert done.exit_code == 2, done.output
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert set(work.rglob("*")) == before


def test_metrics_of_another_clip_can_be_required(work: Path, tiny_clip: Path, run: Run):
    required = ("--other-clip", tiny_clip, "--require", f"clip_rank@{tiny_clip.stem}")
    done = run("eval", work / "store", *QUICK, "--limit", 1, "--quiet", "--json", "-", *required)
    assert done.exit_code == 0, done.output
    assert f"clip_rank@{tiny_clip.stem}" in json.loads(done.stdout)["metrics"]


def test_a_judge_by_classes_recognises_what_a_table_says(work: Path, tmp_path: Path, ok: Run):
    """With labels that its TOML file names, and the network is a mean over both sides of the picture."""
    import onnx

    helper, kinds = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["floats"], to=kinds.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
        ],
        "means",
        [helper.make_tensor_value_info("pixels", kinds.UINT8, ("N", 8, 8, 3))],
        [helper.make_tensor_value_info("means", kinds.FLOAT, None)],
    )
    network = tmp_path / "net.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(network))
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "net.toml").write_text('labels = "names.txt"\n')
    classes = tmp_path / "classes.csv"
    classes.write_text("image,class\np0.png,red\ndeep/p2,Blue\n")
    judged = ("--judge", network, "--classes", classes, "--require", "recognition")
    result = json.loads(ok("eval", work / "store", *QUICK, *judged, "--quiet", "--json", "-").stdout)
    assert "the true class where it is known" in result["metrics"]["recognition"]["network"]
    assert result["provenance"]["settings"]["true_classes_known"] == 2
    point = result["summary"]["points"][0]["metrics"]
    assert point["recognition"]["mean"] == 1.0  # there are but three classes
    assert 0.0 <= point["recognition_top1"]["mean"] <= 1.0
    table = ok("eval", work / "store", *QUICK, *judged, "--quiet").stdout
    assert "Recognition, first place" in table


def test_decoders_are_compared_in_one_report(work: Path, ok: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(work)
    space = ClipCodec.load("store").features.space
    save_decoder(Path("other.pt"), make_decoder(space, seed=1))
    decoders = ("--decoder", "store", "--decoder", "other.pt")
    ok(
        "eval",
        "store",
        *decoders,
        *QUICK,
        "--limit",
        2,
        "--json",
        "both.json",
        "--html",
        "both.html",
        "--quiet",
    )
    result = json.loads(Path("both.json").read_bytes())
    assert [series["title"] for series in result["series"]] == ["clp, store, 1 step", "clp, other, 1 step"]
    assert [one["source"] for one in result["provenance"]["settings"]["decoders"]] == ["store", "other.pt"]
    assert "clp, other, 1 step" in Path("both.html").read_text("utf-8")
