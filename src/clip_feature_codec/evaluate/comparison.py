"""What an evaluation compares: budgets, steps, seeds, baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.baselines.baseline import Baseline
from clip_feature_codec.evaluate.baselines.known import load_baselines
from clip_feature_codec.evaluate.codecs import LAYOUT_ALONE


@dataclass(frozen=True)
class Comparison:
    """What is compared, beside the store's own streams and decoder; what cannot be is refused right away.

    Attributes:
        budgets: bytes that files may have; none: as many as each picture's stream in the store has.
        steps: network evaluations of our decoder, a series for each; none: those of the paint options.
        seeds: how many times each of our streams is decoded, from seed `PaintOptions.seed` on.
        baselines: their names; ``all`` for every one there is, ``layout`` for our layout layer alone.
        externals: files that describe other codecs' programs.
        loaded: the baselines, ready for use, but for our layout layer alone.

    Raises:
        ConfigError: a number is out of range or given twice, or a baseline is unknown or cannot be used.
    """

    budgets: Sequence[int] = ()
    steps: Sequence[int] = ()
    seeds: int = 1
    baselines: Sequence[str] = ()
    externals: Sequence[Path] = ()
    loaded: Sequence[Baseline] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, numbers in (("budgets", self.budgets), ("steps", self.steps), ("seeds", (self.seeds,))):
            if any(number < 1 for number in numbers) or len(set(numbers)) < len(numbers):
                given = ", ".join(map(str, numbers))
                raise ConfigError(f"{name}: found {given}, expected different numbers of at least 1")
        names = [name for name in self.baselines if name != LAYOUT_ALONE]
        object.__setattr__(self, "loaded", load_baselines(names, self.externals))

    @property
    def layout_alone(self) -> bool:
        """Whether our layout layer alone is one of the baselines."""
        return bool({LAYOUT_ALONE, "all"} & set(self.baselines))
