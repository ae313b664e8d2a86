from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from clip_feature_codec.cli.search import search as command
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.names import INDEX_FOLDER
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.search.nearest import SearchIndex
from clip_feature_codec.store.writing import NewPicture
from samples import make_picture

Search = Callable[..., Result]


@pytest.fixture
def search() -> Search:
    """Runs ``clip-codec search`` with the given arguments, on the CPU."""

    def invoke(*args: object, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(command, [*map(str, args), "--device", "cpu"], input=stdin)

    return invoke


def table(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.stdout.splitlines()]


def nearest(store: Path, query: np.ndarray) -> list[tuple[str, float]]:
    """(name, cosine) of all pictures by the decoded vectors, best first."""
    opened = FeatureStore.open(store)
    cosines = opened.vectors().astype(np.float64) @ (query / np.linalg.norm(query))
    names = [entry.name for entry in opened.entries]
    return [(names[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]


def test_words_give_a_table_of_the_nearest(work: Path, embedder: ClipEmbedder, search: Search) -> None:
    expected = nearest(work / "store", embedder.embed_text(["a red bus"])[0])
    head, *rows = table(search(work / "store", "a", "red", "bus", "-k", 3))
    assert head == ["rank", "cosine", "name", "source"]
    assert [(row[0], row[2]) for row in rows] == [(str(i + 1), expected[i][0]) for i in range(3)]
    assert [float(row[1]) for row in rows] == pytest.approx([c for _, c in expected[:3]], abs=6e-5)
    assert [Path(row[3]).is_file() for row in rows] == [True] * 3
    assert table(search(work / "store", "a red bus", "-k", 3))[1:] == rows


def test_json_has_all_of_it_and_leaves_standard_output_to_itself(
    work: Path, embedder: ClipEmbedder, search: Search
) -> None:
    expected = nearest(work / "store", embedder.embed_text(["sky"])[0])
    record = json.loads(search(work / "store", "sky", "--json", "-", "--quiet").stdout)
    assert [(r["rank"], r["name"]) for r in record["results"]] == [
        (i + 1, name) for i, (name, _) in enumerate(expected)
    ]
    assert [r["cosine"] for r in record["results"]] == pytest.approx([c for _, c in expected], abs=1e-6)
    assert Path(record["results"][0]["source"]) == next(
        p.resolve() for p in (work / "photos").rglob("*.png") if p.stem in expected[0][0]
    )
    assert (record["query"], record["pictures"], record["failures"]) == ({"text": "sky"}, 4, [])
    assert record["clip_space"] == embedder.space.fingerprint
    search(work / "store", "sky", "--json", work / "result.json", "--quiet")
    assert json.loads((work / "result.json").read_text()) == record


@pytest.mark.parametrize("query", ["photos/p1.png", "store/p1.clp", "copy"])
@pytest.mark.parametrize("piped", [False, True])
def test_a_picture_and_its_stream_find_the_picture(
    query: str, piped: bool, work: Path, search: Search
) -> None:
    if query == "copy":  # away from its store, whose tables it still has
        shutil.copy(work / "store/p1.clp", work / "copy")
    stdin = (work / query).read_bytes() if piped else None
    _, first, *_ = table(search(work / "store", "--image", "-" if piped else work / query, stdin=stdin))
    assert first[2] == "p1"
    assert float(first[1]) > 0.999


def test_a_stream_of_other_tables_of_the_same_space_is_a_query(
    work: Path, tmp_path: Path, embedder: ClipEmbedder, search: Search
) -> None:
    own = FeatureStore.open(work / "store")
    other = FeatureCodec.fit(own.vectors() + 0.01, own.codec.space)
    other.save(tmp_path / "other/codec.json")
    stream = tmp_path / "other/q.clp"
    stream.write_bytes(other.encode(Layers(own.vectors()[2:3]))[0])
    assert table(search(work / "store", "--image", stream))[1][2] == own.entries[2].name
    away = shutil.copy(stream, tmp_path / "away.clp")
    result = search(work / "store", "--image", away)
    assert (result.exit_code, "away.clp: codec id" in result.stderr) == (2, True)
    found = search(work / "store", "--image", away, "--codec", tmp_path / "other")
    assert table(found)[1][2] == own.entries[2].name


def test_a_stream_of_another_space_is_refused_with_both_names(
    work: Path, tmp_path: Path, search: Search
) -> None:
    other = ClipSpace("other-model", "other-weights", "cd" * 32, 32, {"size": 32})
    tables = FeatureCodec.fit(np.eye(32, dtype=np.float32), other)
    tables.save(tmp_path / "other/codec.json")
    (tmp_path / "other/q.clp").write_bytes(tables.encode(Layers(np.ones((1, 32), np.float32)))[0])
    result = search(work / "store", "--image", tmp_path / "other/q.clp")
    own = FeatureStore.open(work / "store").codec.space
    assert (result.exit_code, result.stdout) == (2, "")
    assert other.label in result.stderr
    assert own.label in result.stderr


def test_another_model_and_an_index_of_another_space_are_refused_with_both_names(
    work: Path, tmp_path: Path, search: Search
) -> None:
    own = FeatureStore.open(work / "store").codec.space
    result = search(work / "store", "sky", "--model", "mini")
    assert (result.exit_code, "mini/pack" in result.stderr, own.label in result.stderr) == (2, True, True)
    other = ClipSpace("other-model", "other-weights", "cd" * 32, 32, {"size": 32})
    store = FeatureStore.create(tmp_path / "other", FeatureCodec.fit(np.eye(32, dtype=np.float32), other))
    store.add(tmp_path, [NewPicture("x.jpg", 4, 3, 1, 1)], Layers(np.ones((1, 32), np.float32)))
    SearchIndex.open(store)
    shutil.rmtree(work / "store" / INDEX_FOLDER, ignore_errors=True)
    shutil.copytree(store.folder / INDEX_FOLDER, work / "store" / INDEX_FOLDER)
    result = search(work / "store", "sky")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert [text for text in (other.label, own.label, INDEX_FOLDER) if text not in result.stderr] == []


def test_the_index_is_kept_and_follows_the_store(work: Path, embedder: ClipEmbedder, search: Search) -> None:
    table(search(work / "store", "sky"))
    index = work / "store" / INDEX_FOLDER / "index.json"
    before = index.read_bytes()
    table(search(work / "store", "sky"))
    assert index.read_bytes() == before
    index.write_bytes(before[:-3])
    result = search(work / "store", "sky")
    assert len(table(result)) == 5
    assert json.loads(index.read_bytes())["fitted"] == 4


def test_previews_of_the_results_make_a_sheet(work: Path, search: Search) -> None:
    table(search(work / "store", "sky", "--sheet", work / "two.png", "-k", 2))
    table(search(work / "store", "sky", "--sheet", work / "four.png"))
    with Image.open(work / "two.png") as two, Image.open(work / "four.png") as four:
        assert four.width > two.width
        assert np.asarray(four.convert("L")).std() > 10


def test_duplicates_are_listed_by_group(work: Path, embedder: ClipEmbedder, search: Search) -> None:
    photos = work / "photos"
    shutil.copy(photos / "p0.png", photos / "again.png")
    shutil.copy(photos / "deep/p2.png", photos / "other.png")
    shutil.rmtree(work / "store")
    shutil.move(photos, work / "more/photos")
    for i in range(20, 30):
        make_picture(i).save(work / "more/photos" / f"q{i}.png")
    from clip_feature_codec.encode import encode_source

    store = work / "store"
    encode_source(work / "more/photos", store, embedder, workers=0)
    head, *rows = table(
        search(store, "--duplicates", "--threshold", 0.9999999, "--sheet", work / "sheet.png")
    )
    assert head == ["group", "cosine", "name", "source"]
    assert [(row[0], row[2]) for row in rows] == [
        ("1", "again"),
        ("1", "p0"),
        ("2", "deep/p2"),
        ("2", "other"),
    ]
    assert (work / "sheet.png").is_file()
    result = search(store, "--duplicates", "--threshold", 0.9999999, "--json", "-", "-k", 1, "--quiet")
    ((first, second),) = json.loads(result.stdout)["groups"]
    assert (first["name"], first["nearest"], second["name"], first["cosine"]) == ("again", "p0", "p0", 1.0)


def test_a_store_without_duplicates_says_so(work: Path, search: Search) -> None:
    result = search(work / "store", "--duplicates", "--threshold", 1)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "0 groups" in result.stderr


def test_damaged_streams_are_listed_and_the_rest_is_searched(work: Path, search: Search) -> None:
    (work / "store/p1.clp").write_bytes(b"\xc7")
    for args in (("sky",), ("--duplicates",)):
        result = search(work / "store", *args, "--json", work / "result.json", "--quiet")
        assert result.exit_code == 1
        listed, last = result.stderr.splitlines()
        assert listed.startswith("failed: ")
        assert "p1.clp" in listed
        assert last == "error: 1 of 4 pictures failed; the rest is done"
        (failure,) = json.loads((work / "result.json").read_text())["failures"]
        assert failure["image"].endswith("p1.clp")
    assert {"p0", "deep/p2", "p3"} == {
        row.split()[2] for row in search(work / "store", "sky").stdout.splitlines()[1:]
    }


def test_a_store_of_damaged_streams_is_nothing_that_could_be_searched(work: Path, search: Search) -> None:
    for stream in (work / "store").rglob("*.clp"):
        stream.unlink()
    result = search(work / "store", "sky", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr.count("failed: ")) == (2, "", 4)


def test_an_empty_store_is_refused(work: Path, search: Search) -> None:
    with sqlite3.connect(work / "store/manifest.sqlite") as manifest:
        manifest.execute("DELETE FROM pictures")
    result = search(work / "store", "sky")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "no pictures in this store" in result.stderr


def test_names_cannot_reach_the_terminal_as_commands(
    work: Path, embedder: ClipEmbedder, search: Search
) -> None:
    with sqlite3.connect(work / "store/manifest.sqlite") as manifest:
        manifest.execute(
            "UPDATE pictures SET source = replace(source, 'photos/p0.png', ?)", ["photos/\x1b[2Jp0\u202e.png"]
        )
    out = search(work / "store", "sky").stdout
    assert "\x1b" not in out
    assert "photos/?[2Jp0?.png" in out


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("store", "give one of them"),
        ("store sky --image photos/p0.png", "give one of them"),
        ("store sky --duplicates", "give one of them"),
        ("store --image photos/p0.png --duplicates", "give one of them"),
        ("store EMPTY", "empty"),
        ("store photos/p0.png", "photos/p0.png is a file, and no word: give it to --image"),
        ("store sky --threshold 0.9", "--threshold"),
        ("store --duplicates --threshold 2", "--threshold"),
        ("store sky -k 0", "--count"),
        ("store sky --sheet sheet.txt", "sheet.txt"),
        ("store --image nothing.png", "'nothing.png' does not exist"),
        ("store --image store/codec.json", "codec.json: not a picture"),
        ("store --image photos", "'photos' is a directory"),
        ("photos sky", "photos is not a store"),
        ("nothing sky", "'nothing' does not exist"),
        ("store sky --model no-such-model", "'no-such-model'"),
    ],
)
def test_what_makes_no_sense_ends_in_one_line(
    args: str, expected: str, work: Path, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    result = search(*[" " if arg == "EMPTY" else arg for arg in args.split()])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    assert expected in result.stderr
