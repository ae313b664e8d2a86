from __future__ import annotations

import numpy as np
import pytest

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace

DIM = 64


@pytest.fixture(scope="session")
def space() -> ClipSpace:
    return ClipSpace("tiny", "test", "ab" * 32, DIM, {"size": 32, "mean": [0.5, 0.5, 0.5]})


@pytest.fixture(scope="session")
def codec(space: ClipSpace) -> FeatureCodec:
    """Fitted on channels of unlike means and spreads."""
    rng = np.random.default_rng(1)
    means, spreads = rng.normal(0, 1, DIM), rng.uniform(0.05, 1, DIM)
    return FeatureCodec.fit(rng.normal(means, spreads, size=(50, DIM)).astype(np.float32), space)
