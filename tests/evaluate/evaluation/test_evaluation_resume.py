"""Whole evaluations: going on after a kill, and what is not gone on with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from evaluated import OPTIONS, Prepare, figures

from clip_feature_codec.decoders.checkpoint import load_decoder, save_decoder
from clip_feature_codec.diffusion.upsampler import Upsampler
from clip_feature_codec.errors import StoreError
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.results import Evaluation
from clip_feature_codec.evaluate.trial import Trial
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture


def test_killed_and_run_again_it_gives_the_same_and_does_nothing_twice(
    prepare: Prepare, evaluate: Callable[..., Evaluation], monkeypatch: pytest.MonkeyPatch
):
    comparison = {"budgets": (90, 600), "steps": (1, 2), "baselines": ["layout", "webp"]}
    whole = figures(evaluate(comparison=comparison, batch_size=2))
    trials: list[str] = []
    measure = Trial.__call__

    def killed(self: Trial, *arguments: object) -> object:
        if len(trials) == 3:
            raise KeyboardInterrupt
        trials.append("done")
        return measure(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trial, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(comparison=comparison, batch_size=2).run()
    monkeypatch.setattr(Trial, "__call__", lambda *arguments: (trials.append("done"), measure(*arguments))[1])
    evaluator = prepare(comparison=comparison, batch_size=2)
    assert figures(evaluator.run()) == whole
    assert len(trials) == 8  # 2 batches x 4 series
    assert figures(evaluator.run()) == whole
    assert len(trials) == 8


def test_the_same_evaluation_twice_at_a_time_is_refused(prepare: Prepare):
    first, second = prepare(), prepare()
    first.run()
    with pytest.raises(StoreError, match="another process"):
        second.run()
    first.finish()
    second.run()


def test_a_picture_that_changed_meanwhile_is_measured_anew(prepare: Prepare, store: FeatureStore):
    evaluator = prepare()
    before = figures(evaluator.run())
    make_picture(7, (50, 50)).save(store.folder.parent / "photos/p0.png")
    again = prepare()
    assert again.work.folder != evaluator.work.folder
    changed = [a["image"] for a, b in zip(before, figures(again.run()), strict=True) if a != b]
    assert "p0" in changed


def test_parts_that_vanish_are_no_fewer_pictures(prepare: Prepare, monkeypatch: pytest.MonkeyPatch):
    evaluator = prepare(batch_size=2)
    evaluator.run()
    monkeypatch.setattr(Evaluator, "_measure", lambda *_: None)
    next(evaluator.work.folder.iterdir()).unlink()
    with pytest.raises(StoreError, match="run the evaluation again"):
        evaluator.run()


def test_a_damaged_part_is_measured_again(prepare: Prepare):
    evaluator = prepare()
    whole = figures(evaluator.run())
    for part in evaluator.work.folder.iterdir():
        part.write_bytes(part.read_bytes()[:100])
    assert figures(evaluator.run()) == whole


def test_another_evaluation_takes_nothing_from_unfinished_work(prepare: Prepare):
    first, second = prepare(), prepare(dataclasses.replace(OPTIONS, guidance=1.0))
    first.run()
    assert first.work.folder != second.work.folder
    assert second.run().rows != first.run().rows


def test_another_decoder_takes_nothing_from_unfinished_work(prepare: Prepare, store: FeatureStore):
    """Fault 6: with and without an upsampler, what identified the decoder was the same."""
    before, file = prepare(), store.folder / DECODER_FILE
    save_decoder(file, dataclasses.replace(load_decoder(file), upsampler=Upsampler(channels=8, blocks=1)))
    assert prepare().work.folder != before.work.folder


def test_the_work_folder_can_be_elsewhere_and_must_be_writable(prepare: Prepare, tmp_path: Path):
    prepare(work=tmp_path / "elsewhere").run()
    assert list((tmp_path / "elsewhere").iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--work"):
        prepare(work=tmp_path / "file").run()


def test_fault_16_others_can_go_on_when_the_result_cannot_be_put_together(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    evaluator = prepare()
    with monkeypatch.context() as patched:
        patched.setattr("clip_feature_codec.evaluate.evaluation.Assembly", broken)
        with pytest.raises(RuntimeError):
            evaluator.run()
    prepare().run()  # would find another process at it


def test_fault_16_others_can_go_on_when_a_report_cannot_be_written(prepare: Prepare):
    evaluator = prepare()

    def report() -> None:
        with evaluator:
            evaluator.run()
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        report()
    assert list(evaluator.work.folder.iterdir())  # what was measured is still there
    prepare().run()
