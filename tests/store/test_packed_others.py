"""Others read a packed store of 10,000 pictures: DuckDB, Polars and Hugging Face's datasets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import polars
import pytest
from datasets import Dataset, load_dataset
from packed_samples import codec, streams

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.store.packed import PackedStore
from clip_feature_codec.store.writing import NewPicture

COUNT = 10_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> PackedStore:
    """A finished store of made streams."""
    store = PackedStore.create(tmp_path_factory.mktemp("many") / "packed", codec())
    blobs = streams(1000)
    pictures = [NewPicture(f"{i // 100:03}/p{i:05}.jpg", 4 + i % 2, 4, i, 10**18 + i) for i in range(COUNT)]
    for start in range(0, COUNT, 1000):
        store.put(store.folder.parent / "photos", pictures[start : start + 1000], blobs)
    store.finish()
    return PackedStore.open(store.folder)


def shards(store: PackedStore) -> str:
    return str(store.folder / "data" / "*.parquet")


def test_duckdb_reads_it(many: PackedStore) -> None:
    query = """
        SELECT count(*), sum(octet_length(stream)), sum(semantic_bytes), count(*) FILTER (aspect > 1),
            max(source_mtime)::VARCHAR
        FROM read_parquet(?)
    """
    (row,) = duckdb.execute(query, [shards(many)]).fetchall()
    sums = many.totals()
    assert row[:4] == (COUNT, sums.bytes, sums.semantic_bytes, COUNT // 2)
    assert row[4].startswith("2001-09-09")
    source = "source_before || name || source_after"
    named = f"SELECT stream, hex(sha256), {source} FROM read_parquet(?) WHERE name = '012/p01234'"
    ((stream, digest, source),) = duckdb.execute(named, [shards(many)]).fetchall()
    entry = many.named("012/p01234")
    assert entry is not None
    assert (stream, digest.lower(), source) == (many.blob(entry), entry.sha256, entry.source)


def test_polars_reads_it(many: PackedStore) -> None:
    rows = (
        polars.scan_parquet(shards(many)).filter(polars.col("bytes") > 0).select("name", "stream").collect()
    )
    assert rows["name"].to_list() == [entry.name for entry in many.entries]
    vectors = many.codec.vectors(many.codec.parse_all(rows["stream"].to_list()[:50]))
    assert (vectors == many.vectors(many.entries[:50])).all()


@pytest.fixture
def data_set(many: PackedStore, tmp_path: Path) -> Dataset:
    files = sorted(map(str, (many.folder / "data").glob("*.parquet")))
    return load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))


def test_datasets_reads_it(many: PackedStore, data_set: Dataset) -> None:
    assert data_set.num_rows == COUNT
    row, entry = data_set[1234], many.entries[1234]
    assert (row["name"], row["stream"], row["sha256"].hex()) == (entry.name, many.blob(entry), entry.sha256)
    assert (row["width"], row["source_bytes"]) == (entry.width, entry.source_bytes)


def test_tables_are_found_by_the_codec_id_that_is_noted_in_each_shard(many: PackedStore) -> None:
    from pyarrow import parquet

    for path in (many.folder / "data").iterdir():
        noted = parquet.read_schema(path).metadata
        assert noted[b"codec_id"].decode() == FeatureCodec.load(many.folder / "codec.json").codec_id.hex()


def test_what_search_reads_of_a_packed_store_loads_no_pandas(many: PackedStore) -> None:
    """pyarrow imports it, which takes half a second, as soon as it is given a value of Python's."""
    code = """
import sys
from pathlib import Path
from clip_feature_codec.store.opening import open_store
store = open_store(Path(sys.argv[1]))
print(store.entries[1234].source.endswith("012/p01234.jpg"), store.totals().pictures)
print("pyarrow" in sys.modules, "pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, many.folder], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.split() == ["True", str(COUNT), "True", "False"]
