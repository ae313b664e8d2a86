"""What transformers' image processors do to a picture before an image tower sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.embed.configuration import read_json
from clip_feature_codec.errors import ModelError
from clip_feature_codec.images import middle_of_strip

_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_BICUBIC = int(Image.Resampling.BICUBIC)


def preprocessing_of(config: Path | None, model_type: str, side: int) -> dict[str, Any]:
    """The preprocessing that a ``preprocessor_config.json`` describes, JSON-able, in one form for all.

    What a file leaves out has the default of transformers' `CLIPImageProcessor` or `SiglipImageProcessor`.

    Args:
        config: the file; None: the defaults at the tower's size, as diffusers takes them.
        model_type: of the tower.
        side: of the square pictures that the tower takes, in pixels.

    Raises:
        ModelError: it is none that is known here.
    """
    siglip = model_type.startswith("siglip")
    usual: dict[str, Any] = {
        "size": {"height": side, "width": side} if siglip else {"shortest_edge": side},
        "do_center_crop": not siglip,
        "crop_size": {"height": side, "width": side},
        "resample": _BICUBIC,
        "rescale_factor": 1 / 255,
        "image_mean": [0.5] * 3 if siglip else _CLIP_MEAN,
        "image_std": [0.5] * 3 if siglip else _CLIP_STD,
    }
    given = {} if config is None else read_json(config)
    asked = {name: usual[name] if given.get(name) is None else given[name] for name in usual}
    try:
        return {
            "kind": "transformers",
            "resize": _size(asked["size"], square=siglip) if given.get("do_resize", True) else None,
            "crop": _size(asked["crop_size"], square=True) if asked["do_center_crop"] else None,
            "resample": int(asked["resample"]),
            "scale": float(asked["rescale_factor"]) if given.get("do_rescale", True) else 1.0,
            "mean": [float(value) for value in asked["image_mean"]],
            "std": [float(value) for value in asked["image_std"]],
        }
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{config}: this preprocessing is not known here ({error})") from None


def _size(value: Any, *, square: bool) -> int | list[int]:
    """A size: of the shortest edge, or [height, width]; older files have one number for either."""
    if isinstance(value, int):
        return [value, value] if square else value
    if "shortest_edge" in value:
        return int(value["shortest_edge"])
    return [int(value["height"]), int(value["width"])]


class TowerPreprocess:
    """A tower's own preprocessing of one picture; travels to worker processes.

    Pictures are resized by Pillow and cropped as torchvision does, so that a tower in open_clip's format sees
    the same.

    Args:
        config: from `preprocessing_of`.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._mean, self._std = (np.array(config[name], np.float32) for name in ("mean", "std"))

    def __call__(self, picture: Image.Image) -> NDArray[np.float32]:
        """Turn an RGB picture of any size into float32 (3, S, S)."""
        crop = self._config["crop"]
        picture = self._resized(middle_of_strip(picture) if crop else picture)
        if crop:
            picture = _cropped(picture, *crop)
        pixels = np.asarray(picture, np.float32) * np.float32(self._config["scale"])
        normal: NDArray[np.float32] = (pixels - self._mean) / self._std
        return np.ascontiguousarray(normal.transpose(2, 0, 1))

    def _resized(self, picture: Image.Image) -> Image.Image:
        size = self._config["resize"]
        if size is None:
            return picture
        if isinstance(size, int):
            short, long = sorted(picture.size)
            other = int(size * long / short)
            wanted = (size, other) if picture.width == short else (other, size)
        else:
            wanted = (size[1], size[0])
        return picture.resize(wanted, Image.Resampling(self._config["resample"]))


def _cropped(picture: Image.Image, height: int, width: int) -> Image.Image:
    """The middle of a picture; outside of it is black."""
    top, left = round((picture.height - height) / 2), round((picture.width - width) / 2)
    return picture.crop((left, top, left + width, top + height))
