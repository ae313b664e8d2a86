"""The options of ``eval`` that name networks which look at pictures beside the streams' own CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clip_feature_codec.cli.common import stack
from clip_feature_codec.errors import ConfigError
from clip_feature_codec.files import encodable

if TYPE_CHECKING:
    from clip_feature_codec.evaluate.instruments import Eyes

eyes_options = stack(
    click.option(
        "--judge",
        "judges",
        type=click.Path(exists=True, path_type=Path),
        multiple=True,
        help="A network that had no part in the codec: the folder of one in timm's format, for its features, "
        "or a classifier's .onnx or .tflite file, for recognition. One of each at most.",
    ),
    click.option(
        "--judge-labels",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The classifier's classes, a line each, synonyms behind commas. [default: see its TOML file]",
    ),
    click.option(
        "--classes",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="What is on each picture: a CSV or Parquet file with columns image and class. [default: the "
        "picture's folder, if that is called as a class; else what the judge sees in the original]",
    ),
    click.option(
        "--other-clip",
        "other_clips",
        multiple=True,
        metavar="MODEL[=WEIGHTS]",
        help="Another CLIP model to judge by (may be repeated).",
    ),
)


@dataclass(frozen=True)
class NamedEyes:
    """Networks that look beside the streams' own CLIP: named and checked here, loaded when all is well.

    Attributes:
        folder: of a judge by features.
        classifier: file of a judge by classes.
        labels: of these.
        classes: table of what is on each picture.
        clips: ``MODEL`` or ``MODEL=WEIGHTS`` by what it is called in results.
    """

    folder: Path | None
    classifier: Path | None
    labels: Path | None
    classes: Path | None
    clips: dict[str, str]

    @classmethod
    def of(cls, options: dict[str, Any]) -> NamedEyes:
        """Take them out of ``options``."""
        judges, labels, classes = (options.pop(name) for name in ("judges", "judge_labels", "classes"))
        folders = [path for path in judges if path.is_dir()]
        files = [path for path in judges if path not in folders]
        for kind, found in (("folder", folders), ("classifier", files)):
            if len(found) > 1:
                raise ConfigError(f"--judge takes one {kind}, found {found[0]} and {found[1]}")
        for option, value in (("--judge-labels", labels), ("--classes", classes)):
            if value and not files:
                raise ConfigError(f"{option} belongs to a classifier: name its file with --judge")
        clips = _clip_names(options.pop("other_clips"))
        return cls(next(iter(folders), None), next(iter(files), None), labels, classes, clips)

    def load(self, device: str) -> Eyes:
        """Load what is named."""
        from clip_feature_codec.devices import pick_device
        from clip_feature_codec.embed import load_embedder
        from clip_feature_codec.evaluate.instruments import Eyes
        from clip_feature_codec.evaluate.metrics.classifier import Classifier
        from clip_feature_codec.evaluate.metrics.judge import Judge
        from clip_feature_codec.evaluate.true_classes import read_class_names

        clips = {name: text.partition("=") for name, text in self.clips.items()}
        return Eyes(
            class_names=read_class_names(self.classes) if self.classes else None,
            classifier=Classifier.load(self.classifier, self.labels) if self.classifier else None,
            judge=Judge.load(self.folder, pick_device(device)) if self.folder else None,
            clips={name: load_embedder(m, w or None, device) for name, (m, _, w) in clips.items()},
        )


def _clip_names(given: tuple[str, ...]) -> dict[str, str]:
    """What ``MODEL`` or ``MODEL=WEIGHTS`` is called in results."""
    names: dict[str, str] = {}
    for text in given:
        model, _, weights = text.partition("=")
        name = encodable("=".join(Path(part).stem for part in (model, weights) if part))
        if name in names:
            raise ConfigError(f"--other-clip {text}: another one is called {name!r} already: rename its file")
        names[name] = text
    return names
