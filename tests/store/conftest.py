from __future__ import annotations

from pathlib import Path

import pytest
from search_samples import make_store, unit_vectors

from clip_feature_codec.store.feature_store import FeatureStore


@pytest.fixture
def searched(tmp_path: Path) -> FeatureStore:
    """A store with forty streams and no pictures."""
    return make_store(tmp_path / "store", unit_vectors(40))
