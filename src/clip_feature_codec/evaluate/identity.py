"""What an evaluation is made of: enough to do it again, and to know unfinished work again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clip_feature_codec import __version__
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.protocol import Decoder
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.metrics.recognition import KnownClasses
from clip_feature_codec.evaluate.provenance import environment
from clip_feature_codec.evaluate.results import Series
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store


def made_of(
    store: Store,
    entries: Sequence[Entry],
    decoder: Decoder,
    options: PaintOptions,
    comparison: Comparison,
    classes: KnownClasses | None,
) -> dict[str, Any]:
    """How an evaluation is made: ``settings`` in words and numbers, ``hashes`` (SHA-256); JSON-able."""
    budgets: list[int | None] = [*comparison.budgets] or [None]
    known = classes.by_name if classes else {}
    return {
        "settings": asdict(options)
        | {
            "steps": list(comparison.steps) or [options.sampling(decoder.usual).steps],
            "seeds": comparison.seeds,
            "budgets": budgets,
            "pictures": len(entries),
            "true_classes_known": len(known),
            "space": store.codec.space.label,
            "decoder_canvas": decoder.image_size,
        },
        "hashes": {
            "codec tables": store.codec.tables_sha256,
            "decoder": decoder.identity(),
            "streams": _digest([entry.name, entry.sha256] for entry in entries),
            "pictures": _digest(_file_facts(store.source_path(entry)) for entry in entries),
            "true classes": _digest([name, *sorted(found)] for name, found in sorted(known.items())),
        },
    }


def identity(
    provenance: Mapping[str, Any],
    series: Sequence[Series],
    externals: Sequence[Path],
    metrics: Mapping[str, Metric],
) -> dict[str, Any]:
    """All that decides a figure, JSON-able: unfinished work of another identity is not gone on with."""
    return {
        **provenance,
        "version": __version__,
        "packages": environment()["packages"],
        "series": [asdict(one) for one in series],
        "externals": [path.read_text("utf-8") for path in externals],
        "metrics": {name: asdict(metric) for name, metric in metrics.items()},
    }


def _file_facts(path: Path) -> list[int]:
    """What changes when a file does: size and time; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _digest(facts: Iterable[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(list(facts)).encode()).hexdigest()
