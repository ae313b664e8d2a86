"""Which CLIP space a vector lives in: the identity that streams, stores and decoders must share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from clip_feature_codec.errors import ConfigError, SpaceMismatchError, StoreError


def canonical_json(value: object) -> bytes:
    """JSON in ASCII with sorted keys and no spaces, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


@dataclass(frozen=True)
class SameSpace:
    """That another model gives the same vectors, as was found by embedding probe pictures with both.

    Attributes:
        fingerprint: of the other space.
        label: of the other space, for messages.
        least_cosine: of the two models' vectors of one picture.
        pictures: how many were embedded.

    Raises:
        ConfigError: a field is of the wrong type.
    """

    fingerprint: str
    label: str
    least_cosine: float
    pictures: int

    def __post_init__(self) -> None:
        kinds = {"fingerprint": str, "label": str, "least_cosine": float, "pictures": int}
        for name, kind in kinds.items():
            if type(getattr(self, name)) is not kind:
                raise ConfigError(
                    f"same space, {name}: found {getattr(self, name)!r}, expected {kind.__name__}"
                )


@dataclass(frozen=True)
class ClipSpace:
    """A CLIP image tower's output space.

    Attributes:
        model: open_clip's name of the architecture, or the name of a pack; a label.
        pretrained: tag, ``"pack"`` or file name, how to find the weights again; a label.
        weights_sha256: SHA-256 of the weights, in hex.
        dim: length of a vector.
        preprocessing: what happens to a picture before the tower (size, mean, std, interpolation, ...),
            JSON-able. Tuples become lists, so that a space equals its own round trip through JSON.
        same: other models that were found to have the same vectors, in another format perhaps.

    Raises:
        ConfigError: a field is of the wrong type or ``preprocessing`` is not JSON-able.
    """

    model: str
    pretrained: str
    weights_sha256: str
    dim: int
    preprocessing: dict[str, Any]
    same: tuple[SameSpace, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for name in ("model", "pretrained", "weights_sha256"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ConfigError(f"CLIP space, {name}: found {value!r}, expected a non-empty string")
        if not isinstance(self.dim, int) or isinstance(self.dim, bool) or self.dim < 1:
            raise ConfigError(f"CLIP space, dim: found {self.dim!r}, expected a positive integer")
        if not isinstance(self.preprocessing, dict):
            raise ConfigError(f"CLIP space, preprocessing: found {self.preprocessing!r}, expected an object")
        try:
            plain = json.loads(canonical_json(self.preprocessing))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"CLIP space, preprocessing: not JSON-able ({error})") from None
        object.__setattr__(self, "preprocessing", plain)

    @cached_property
    def fingerprint(self) -> str:
        """First 16 hex digits of the SHA-256 of what decides a vector's value; labels stay out."""
        decisive = {
            "dim": self.dim,
            "preprocessing": self.preprocessing,
            "weights_sha256": self.weights_sha256,
        }
        return hashlib.sha256(canonical_json(decisive)).hexdigest()[:16]

    @property
    def label(self) -> str:
        """Name for messages, such as ``ViT-B-32/laion2b_s34b_b79k (space 0123456789abcdef)``."""
        return f"{self.model}/{self.pretrained} (space {self.fingerprint})"

    def is_same(self, other: ClipSpace) -> bool:
        """Whether two models' vectors are the same: by fingerprint, or as one of them has on record."""
        ours, theirs = self.fingerprint, other.fingerprint
        on_record = {proof.fingerprint for proof in self.same}, {proof.fingerprint for proof in other.same}
        return ours == theirs or theirs in on_record[0] or ours in on_record[1]

    def require_same(self, other: ClipSpace, what: str) -> None:
        """Refuse ``what``, which speaks of ``other``, where this space is expected.

        Raises:
            SpaceMismatchError: they are not the same (`is_same`); both labels are in the message.
        """
        if not self.is_same(other):
            raise SpaceMismatchError(
                f"{what}: found CLIP space {other.label}, expected {self.label}; use one model for all"
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON-able dictionary."""
        known = {"same": [asdict(proof) for proof in self.same]} if self.same else {}
        return {
            "model": self.model,
            "pretrained": self.pretrained,
            "weights_sha256": self.weights_sha256,
            "dim": self.dim,
            "preprocessing": self.preprocessing,
            **known,
        }

    @classmethod
    def from_json(cls, data: object) -> ClipSpace:
        """Rebuild a space from `to_json`'s result; further keys are ignored.

        Raises:
            StoreError: ``data`` is not an object, or a field is missing or of the wrong type.
        """
        if not isinstance(data, dict):
            raise StoreError(f"CLIP space: found {type(data).__name__}, expected an object")
        names = ("model", "pretrained", "weights_sha256", "dim", "preprocessing")
        missing = [name for name in names if name not in data]
        if missing:
            raise StoreError(f"CLIP space: {missing[0]} is missing, expected {', '.join(names)}")
        try:
            same = tuple(SameSpace(**proof) for proof in data.get("same", ()))
            return cls(**{name: data[name] for name in names}, same=same)
        except TypeError:
            raise StoreError("CLIP space, same: found no list of records, expected one") from None
        except ConfigError as error:
            raise StoreError(str(error)) from None
