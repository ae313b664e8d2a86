"""A judge by classes: a classifier in an ONNX or LiteRT file, with the names of what it knows."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.errors import ModelError
from clip_feature_codec.evaluate.metrics.labels import Labels
from clip_feature_codec.evaluate.metrics.networks import file_label
from clip_feature_codec.evaluate.metrics.runtimes import SUFFIXES, Input, Runtime, load_runtime

_BATCH_SIZE = 32

_GREY_LEVELS = 255.0


@dataclass(frozen=True)
class Convention:
    """How a classifier wants its pictures: what a TOML file beside it says, and its own file does not.

    Attributes:
        labels: file of labels, from the TOML file's folder on.
        size: side of its square input in pixels, where its file leaves it open.
        mean, std: an input is (level / 255 - mean) / std, by channel: red, green, blue.
        crop: ``center`` gives it the middle square, ``squash`` the whole picture.
    """

    labels: str | None = None
    size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    crop: Literal["center", "squash"] = "center"

    @classmethod
    def read(cls, path: Path) -> Convention:
        """Read the TOML file; all of it is by default where there is none.

        Raises:
            ModelError: it is no TOML, or an entry is unknown or makes no sense.
        """
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return cls()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: not a TOML file: {error}") from None
        known = [field.name for field in fields(cls)]
        for key, value in table.items():
            if key not in known:
                raise ModelError(f"{path}: unknown entry {key!r}: there are {', '.join(known)}")
            if not _ALLOWED[key](value):
                raise ModelError(f"{path}: {key}: found {value!r}, expected {_EXPECTED[key]}")
        if ("mean" in table) != ("std" in table):
            raise ModelError(f"{path}: mean and std go together: one of them is missing")
        return cls(**table)


def _three_numbers(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(one) in (int, float) for one in value)


_ALLOWED: dict[str, Callable[[Any], bool]] = {
    "labels": lambda value: isinstance(value, str),
    "size": lambda value: type(value) is int and 1 <= value <= 4096,
    "mean": _three_numbers,
    "std": lambda value: _three_numbers(value) and all(one > 0 for one in value),
    "crop": lambda value: value in ("center", "squash"),
}
_EXPECTED = {
    "labels": "the name of a file",
    "size": "pixels of its input's side, 1 to 4096",
    "mean": "three numbers, of levels from 0 to 1",
    "std": "three numbers above 0, of levels from 0 to 1",
    "crop": "'center' or 'squash'",
}


class Classifier:
    """A classifier that did not take part in coding, ready to look at pictures: made by `load`.

    Attributes:
        name: of its file.
        weights: name and SHA-256 (its beginning) of each of its files.
        classes: how many things it knows, its background class left out.
        labels: what they are called; None where that is not known.
    """

    def __init__(
        self, runtime: Runtime, convention: Convention, labels: Labels | None, name: str, weights: str
    ) -> None:
        self.name, self.weights, self.labels = name, weights, labels
        self._runtime, self._convention = runtime, convention
        self._channels_first, self._side = _form(runtime.input, convention)
        black = np.zeros((runtime.input.shape[0] or 1, self._side, self._side, 3), np.uint8)
        outputs = self._run(black).shape[1]
        self._skipped = _background(outputs, labels)
        self.classes = outputs - self._skipped

    @classmethod
    def load(cls, path: Path, labels: Path | None = None) -> Classifier:
        """Load an ``.onnx`` or ``.tflite`` file, and the TOML file of its name beside it, if there is one.

        Args:
            path: the network. Input and output are read off it: 8-bit levels or floats, either order of axes.
            labels: a line for each class; by default the file that the TOML file names.

        Raises:
            ModelError: a file is missing or is something else, or how floats are scaled is said nowhere.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise ModelError(f"{path}: no classifier: its name must end in {' or '.join(SUFFIXES)}")
        described = path.with_suffix(".toml")
        convention = Convention.read(described)
        if labels is None and convention.labels is not None:
            labels = described.parent / convention.labels
        if not path.is_file():
            raise ModelError(f"{path}: there is no such file")
        names = None if labels is None else Labels.read(labels)
        files = [path, *([described] if described.is_file() else []), *([labels] if labels else [])]
        try:
            return cls(load_runtime(path), convention, names, path.name, ", ".join(map(file_label, files)))
        except ModelError as error:
            text = str(error)
            raise ModelError(text if text.startswith(str(path)) else f"{path}: {text}") from error

    def prepare(self, picture: Image.Image) -> NDArray[np.uint8]:
        """A picture as the network takes it, but for its scale: RGB (side, side, 3), resized bilinearly."""
        if self._convention.crop == "center":
            side = min(picture.size)
            left, top = ((whole - side) // 2 for whole in picture.size)
            picture = picture.crop((left, top, left + side, top + side))
        return np.asarray(picture.resize((self._side, self._side), Image.Resampling.BILINEAR))

    def __call__(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Scores of each class (N, C), the greater the likelier, of what `prepare` made of N pictures."""
        step = self._runtime.input.shape[0] or _BATCH_SIZE
        found = [np.zeros((0, self.classes), np.float32)]
        for start in range(0, len(prepared), step):
            batch = np.stack(prepared[start : start + step])
            missing = step - len(batch) if self._runtime.input.shape[0] else 0  # a batch's size may be fixed
            padded = np.concatenate([batch, np.repeat(batch[:1], missing, axis=0)])
            found.append(self._run(padded)[: len(batch), self._skipped :])
        return np.concatenate(found)

    def _run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """All outputs (N, O) of pictures (N, H, W, 3)."""
        batch = _scaled(pixels, self._runtime.input, self._convention)
        if self._channels_first:
            batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        try:
            scores = self._runtime.run(batch)
        except Exception as error:  # what runs it raises nearly anything
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ModelError(f"it cannot be run: {reason}") from error
        flat = scores.reshape(len(scores), -1) if scores.ndim > 1 else scores.reshape(1, -1)
        if len(flat) != len(pixels) or flat.shape[1] < 2 or not np.isfinite(flat).all():
            raise ModelError(f"no classifier: for {len(pixels)} pictures it gives {scores.shape}")
        return flat


def _form(taken: Input, convention: Convention) -> tuple[bool, int]:
    """Whether channels come first, and the side of the square input."""
    shape = taken.shape
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise ModelError(
            f"no classifier of pictures: its input is {shape}, expected (N, H, W, 3) or (N, 3, H, W)"
        )
    first = shape[3] != 3
    sides = {side for side in (shape[2:] if first else shape[1:3]) if side is not None}
    sides = sides or ({convention.size} if convention.size else set())
    if len(sides) != 1:
        found = " × ".join(map(str, sorted(sides))) or "open"
        raise ModelError(f"its input's size is {found}: one side must be given, as size in its TOML file")
    (side,) = sides
    if convention.size not in (None, side):
        raise ModelError(f"its input is {side} pixels wide, its TOML file says {convention.size}")
    if taken.dtype.kind == "f" and convention.mean is None:
        raise ModelError(
            "it takes floats and does not say how they are scaled: write a TOML file of its name beside it, "
            "such as mean = [0.485, 0.456, 0.406] and std = [0.229, 0.224, 0.225], of levels from 0 to 1"
        )
    return first, side


def _scaled(pixels: NDArray[np.uint8], taken: Input, convention: Convention) -> NDArray[Any]:
    """Levels (N, H, W, 3) as the network's numbers; 8-bit ones as they are, counted from -128 if signed."""
    if convention.mean is None or convention.std is None:
        return pixels if taken.dtype == np.uint8 else (pixels.astype(np.int16) - 128).astype(taken.dtype)
    mean, std = (np.asarray(values, np.float32) for values in (convention.mean, convention.std))
    values = (pixels.astype(np.float32) / _GREY_LEVELS - mean) / std
    if taken.dtype.kind == "f":
        return values.astype(taken.dtype)
    limits = np.iinfo(taken.dtype)
    quantised = np.rint(values / (taken.scale or 1.0) + taken.zero).clip(limits.min, limits.max)
    return np.asarray(quantised, taken.dtype)


def _background(outputs: int, labels: Labels | None) -> int:
    """How many of the first outputs are no things: one where there is a background class."""
    if labels is None or outputs == len(labels):
        return 0
    if outputs == len(labels) + 1:
        return 1
    lines = len(labels) + labels.with_background
    raise ModelError(f"it knows {outputs} classes, and the file of labels has {lines} lines")
