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
from clip_feature_codec.evaluate.codecs import Painter
from clip_feature_codec.evaluate.comparison import Comparison
from clip_feature_codec.evaluate.metrics.definitions import Metric
from clip_feature_codec.evaluate.metrics.recognition import KnownClasses
from clip_feature_codec.evaluate.provenance import environment
from clip_feature_codec.evaluate.results import Series
from clip_feature_codec.places import split_archive
from clip_feature_codec.store.manifest import Entry
from clip_feature_codec.store.protocol import Store


def made_of(
    store: Store,
    entries: Sequence[Entry],
    painters: Sequence[Painter],
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
            "steps": list(comparison.steps)
            or [options.sampling(painter.decoder.usual).steps for painter in painters],
            "seeds": comparison.seeds,
            "budgets": budgets,
            "pictures": len(entries),
            "true_classes_known": len(known),
            "space": store.codec.space.label,
            "decoders": [_described(painter, options) for painter in painters],
        },
        "hashes": {
            "codec tables": store.codec.tables_sha256,
            "decoders": [painter.decoder.identity() for painter in painters],
            "streams": _digest([entry.name, entry.sha256] for entry in entries),
            "pictures": _digest(_file_facts(store.source_place(entry)) for entry in entries),
            "true classes": _digest([name, *sorted(found)] for name, found in sorted(known.items())),
        },
    }


def _described(painter: Painter, options: PaintOptions) -> dict[str, Any]:
    """Which decoder it is, and what was left to it."""
    decoder = painter.decoder
    sampling = options.sampling(decoder.usual)
    named = {"name": painter.name, "source": painter.source, "canvas": decoder.image_size}
    return named | {"guidance": sampling.guidance, "sampler": sampling.sampler}


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


def _file_facts(place: str) -> list[int]:
    """What changes when a file or its archive does: size and time; nothing of what is not here."""
    try:
        found = Path(split_archive(place)[0]).stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _digest(facts: Iterable[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(list(facts)).encode()).hexdigest()
