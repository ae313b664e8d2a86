"""Precision, slicing, offloading and portions: what a device has not changes how, and not what is painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from made_pipelines import Made

from clip_feature_codec.decoders.conditions import Conditions
from clip_feature_codec.decoders.diffusers import loading
from clip_feature_codec.decoders.diffusers.memory import MemoryPlan, Portions, plan_memory
from clip_feature_codec.decoders.loading import open_decoder
from clip_feature_codec.decoders.options import PaintOptions, Sampling
from clip_feature_codec.errors import ConfigError
from samples import make_picture

GB = 1 << 30
CUDA = torch.device("cuda")


def painted(name: str, count: int = 2) -> np.ndarray:
    """Pictures of some vectors, the first of which has a layout, (N, S, S, 3)."""
    decoder = open_decoder(name, "cpu")
    vectors = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    side, present = decoder.layout_side, np.arange(count) == 0
    layouts = np.stack([np.asarray(make_picture(i, (side, side))) for i in range(count)]) if side else None
    conditions = Conditions(vectors, layouts, present & bool(side), np.ones(count), 0, 5.0)
    keys = [bytes([row]) for row in range(count)]
    return np.stack(
        [np.asarray(picture, int) for picture in decoder.paint(conditions, PaintOptions(steps=2), keys)]
    )


def planned(monkeypatch: pytest.MonkeyPatch, plan: MemoryPlan) -> None:
    monkeypatch.setattr(loading, "plan_memory", lambda *_: plan)


@pytest.mark.parametrize("kind", ["unclip", "kandinsky", "ip_adapter"])
def test_slices_and_offloading_change_no_picture(
    kind: str, made: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = painted(made(kind).name)
    planned(monkeypatch, MemoryPlan(torch.float32, slices=True))
    assert np.abs(painted(made(kind).name) - whole).max() <= 1
    planned(monkeypatch, MemoryPlan(torch.float32, offload=True))
    assert np.abs(painted(made(kind).name) - whole).max() <= 1


@pytest.mark.parametrize("kind", ["unclip", "kandinsky", "ip_adapter", "ip_adapter_xl"])
def test_half_precision_paints_nearly_the_same(
    kind: str, made: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = painted(made(kind).name)
    planned(monkeypatch, MemoryPlan(torch.bfloat16))
    assert np.abs(painted(made(kind).name) - whole).mean() < 8


def test_weights_in_half_precision_are_taken_where_all_parts_have_them(
    made: Callable[[str], Made], tmp_path: Path
) -> None:
    source = Path(made("kandinsky").name)
    pipeline = diffusers.KandinskyV22Pipeline.from_pretrained(source)
    pipeline.save_pretrained(tmp_path)
    parts = ("unet", "scheduler", "movq")
    assert not loading.has_half(tmp_path, parts)
    pipeline.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    assert loading.has_half(tmp_path, parts)
    (tmp_path / "movq/diffusion_pytorch_model.fp16.safetensors").unlink()
    assert not loading.has_half(tmp_path, parts)


def test_the_plan_follows_from_what_is_free() -> None:
    assert plan_memory(torch.device("cpu"), 9 * GB) == MemoryPlan(torch.float32)
    assert plan_memory(torch.device("mps"), 2 * GB) == MemoryPlan(torch.float16, slices=True)
    assert plan_memory(CUDA, 3 * GB, free=24 * GB) == MemoryPlan(torch.float16)
    assert plan_memory(CUDA, 3 * GB, free=6 * GB) == MemoryPlan(torch.float16, slices=True)
    assert plan_memory(CUDA, 9 * GB, free=8 * GB) == MemoryPlan(torch.float16, offload=True, slices=True)
    assert plan_memory(CUDA, GB, torch.bfloat16, free=24 * GB).dtype == torch.bfloat16


def test_portions_shrink_until_they_fit_and_are_remembered() -> None:
    calls = []

    def work(rows: Sequence[int]) -> list[int]:
        calls.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError
        return [10 * row for row in rows]

    portions = Portions()
    assert dict(portions.work(range(10), work)) == {row: 10 * row for row in range(10)}
    assert calls == [10, 5, 2, 2, 2, 2, 2]
    calls.clear()
    assert dict(portions.work(range(3), work)) == {0: 0, 1: 10, 2: 20}
    assert calls == [2, 1]

    def never(_: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError

    with pytest.raises(ConfigError, match="memory is too small"):
        list(portions.work(range(3), never))


def test_how_many_steps_are_usual_follows_from_the_scheduler(made: Callable[[str], Made]) -> None:
    usual = {
        kind: open_decoder(made(kind).name, "cpu").usual for kind in ("ip_adapter", "lcm", "ip_adapter_xl")
    }
    assert usual == {
        "ip_adapter": Sampling(30, 5.0, None),
        "lcm": Sampling(4, 8.5, None),
        "ip_adapter_xl": Sampling(4, 1.0, None),  # its scheduler is that of SDXL Turbo
    }


def test_a_decoder_knows_itself_again_by_its_files(made: Callable[[str], Made]) -> None:
    first, again, other = (open_decoder(made(kind).name, "cpu") for kind in ("unclip", "unclip", "kandinsky"))
    assert first.identity() == again.identity() != other.identity()
