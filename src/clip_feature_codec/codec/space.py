"""Which CLIP space a vector lives in: the identity that streams, stores and decoders must share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from clip_feature_codec.errors import ConfigError, SpaceMismatchError, StoreError

_UNKNOWN = "unknown: "


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
        weights_sha256: SHA-256 of the weights, in hex; ``unknown: `` and a name where they are not at hand.
        dim: length of a vector.
        preprocessing: what happens to a picture before the tower (size, mean, std, interpolation, ...),
            JSON-able. Tuples become lists, so that a space equals its own round trip through JSON.
        same_as: fingerprints of spaces that somebody has said to be the same, where this one's weights are
            unknown.
        proven: other models that were found to have the same vectors, in another format perhaps.

    Raises:
        ConfigError: a field is of the wrong type or ``preprocessing`` is not JSON-able.
    """

    model: str
    pretrained: str
    weights_sha256: str
    dim: int
    preprocessing: dict[str, Any]
    same_as: tuple[str, ...] = ()
    proven: tuple[SameSpace, ...] = field(default=(), compare=False)

    @classmethod
    def named(cls, name: str, dim: int) -> ClipSpace:
        """The space of a model that is not at hand: vectors are taken to lie in it if they bear its name.

        Args:
            name: of the model and of its weights, as open_clip calls them: ``ViT-L-14/openai``.
            dim: length of a vector.

        Raises:
            ConfigError: the name is not of this form, or ``dim`` is no positive integer.
        """
        model, slash, pretrained = name.rpartition("/")
        if not (model and slash and pretrained):
            raise ConfigError(
                f"CLIP space: found the name {name!r}, expected MODEL/WEIGHTS such as ViT-L-14/openai"
            )
        return cls(model, pretrained, f"{_UNKNOWN}{name}", dim, {})

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
        listed = isinstance(self.same_as, list | tuple) and all(isinstance(one, str) for one in self.same_as)
        if not listed or (self.same_as and self.is_known):
            expected = "none beside known weights" if listed else "a list of fingerprints"
            raise ConfigError(f"CLIP space, same_as: found {self.same_as!r}, expected {expected}")
        object.__setattr__(self, "same_as", tuple(self.same_as))

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
    def is_known(self) -> bool:
        """Whether the weights are known, and not only what somebody calls them."""
        return not self.weights_sha256.startswith(_UNKNOWN)

    def said_to_be(self, other: ClipSpace) -> ClipSpace:
        """This space, whose weights are unknown, once somebody has said that it is ``other``.

        What it is written into keeps that; nothing that is coded changes.

        Raises:
            ConfigError: the weights are known, or the dimension is another one.
        """
        if self.is_known or self.dim != other.dim:
            why = (
                "its weights are known" if self.is_known else f"its dimension is {self.dim}, not {other.dim}"
            )
            raise ConfigError(f"CLIP space {self.label} cannot be said to be {other.label}: {why}")
        return replace(self, same_as=tuple(sorted({*self.same_as, other.fingerprint})))

    @property
    def label(self) -> str:
        """Name for messages, such as ``ViT-B-32/laion2b_s34b_b79k (space 0123456789abcdef)``."""
        known = "" if self.is_known else ", weights unknown"
        return f"{self.model}/{self.pretrained} (space {self.fingerprint}{known})"

    def is_same(self, other: ClipSpace) -> bool:
        """Whether vectors are the same: by fingerprint, or as is said of a space or was found out of it.

        A space whose weights are unknown is the same as another of its name and dimension.
        """
        mine, others = (
            {space.fingerprint, *space.same_as, *(found.fingerprint for found in space.proven)}
            for space in (self, other)
        )
        return not mine.isdisjoint(others)

    def require_same(self, other: ClipSpace, what: str) -> None:
        """Refuse ``what``, which speaks of ``other``, where this space is expected.

        Raises:
            SpaceMismatchError: they are not the same (`is_same`); both labels are in the message.
        """
        if not self.is_same(other):
            advice = "use one model for all"
            if not (self.is_known and other.is_known):
                advice += ", or say that they are the same (fit --same-as)"
            raise SpaceMismatchError(
                f"{what}: found CLIP space {other.label}, expected {self.label}; {advice}"
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON-able dictionary."""
        known: dict[str, Any] = {"same_as": list(self.same_as)} if self.same_as else {}
        if self.proven:
            known["proven"] = [asdict(found) for found in self.proven]
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
            return cls(
                **{name: data[name] for name in names},
                same_as=data.get("same_as", ()),
                proven=tuple(SameSpace(**found) for found in data.get("proven", ())),
            )
        except TypeError:
            raise StoreError("CLIP space, proven: found no list of records, expected one") from None
        except ConfigError as error:
            raise StoreError(str(error)) from None
