"""What the tests of whole evaluations ask of a store and of a result."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image

from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.evaluate.evaluation import Evaluator
from clip_feature_codec.evaluate.results import Evaluation, Row
from clip_feature_codec.names import DECODER_FILE
from clip_feature_codec.reconstruct import paint
from clip_feature_codec.store.feature_store import FeatureStore

OPTIONS = PaintOptions(steps=2, size=48)
NAMES = ["deep/p2", "p0", "p1", "p3"]
Prepare = Callable[..., Evaluator]


def original(store: FeatureStore, name: str) -> Image.Image:
    with Image.open(store.folder.parent / f"photos/{name}.png") as file:
        return file.convert("RGB")


def painted(store: FeatureStore, name: str, options: PaintOptions = OPTIONS) -> Image.Image:
    stream = store.codec.parse((store.folder / f"{name}.clp").read_bytes())
    return next(paint([stream], store.codec, load_decoder(store.folder / DECODER_FILE), options))


def figures(evaluation: Evaluation) -> list[dict[str, object]]:
    """The rows without what differs from run to run."""
    costs = ("encode_ms", "decode_ms", "encode_mb", "decode_mb")
    return [{k: v for k, v in vars(row).items() if k not in costs} for row in evaluation.rows]


def of_series(evaluation: Evaluation, series: str) -> list[Row]:
    return [row for row in evaluation.rows if row.series == series]
