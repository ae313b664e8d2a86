"""Encoding tars and Parquet files: the same rows whatever is killed, and what is changed in between."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from encode_samples import contents
from test_killed import start

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_source, job
from clip_feature_codec.errors import StoreError
from clip_feature_codec.sources import storage, tar
from clip_feature_codec.sources.original import read_original
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.pruning import missing_pictures, prune_store
from samples import make_picture


def jpeg(seed: int) -> bytes:
    encoded = io.BytesIO()
    make_picture(seed, (40 + 3 * seed, 30 + seed)).save(encoded, "JPEG")
    return encoded.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of three tars with 5, 4 and 3 pictures, one of which is broken, and captions."""
    numbers = iter(range(12))
    for shard, count in enumerate((5, 4, 3)):
        files = {f"{number:03}.jpg": jpeg(number) for number in islice(numbers, count)}
        files |= {f"{shard}.txt": b"a caption"} | ({"broken.jpg": b"no picture"} if shard == 1 else {})
        write_tar(tmp_path / f"shards/s{shard}.tar", files)
    return tmp_path / "shards"


def names(store: Path) -> list[str]:
    return [entry.name for entry in open_store(store).entries]


@pytest.mark.parametrize("packed", [False, True])
def test_a_tar_gives_the_streams_of_a_folder_of_its_pictures(
    tmp_path: Path, embedder: ClipEmbedder, packed: bool
) -> None:
    files = {f"{number:03}.jpg": jpeg(number) for number in range(10)}
    whole = write_tar(tmp_path / "x/t.tar", files)
    (tmp_path / "folder/t").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "folder/t" / name).write_bytes(content)
    for source, out in ((whole, "one"), (tmp_path / "folder", "two")):
        result = encode_source(
            source, tmp_path / out, embedder, batch_size=3, workers=0 if out == "one" else 2, packed=packed
        )
        assert (result.added, result.unchanged, result.failures) == (10, 0, [])
    one, two = open_store(tmp_path / "one"), open_store(tmp_path / "two")
    assert [(e.name, e.sha256, e.width, e.source_bytes) for e in one.entries] == [
        (e.name, e.sha256, e.width, e.source_bytes) for e in two.entries
    ]
    assert [entry.source for entry in one.entries] == [f"../x/t.tar/{name}" for name in files]
    assert {entry.source_mtime_ns for entry in one.entries} == {whole.stat().st_mtime_ns}
    assert [read_original(one.source_place(entry)) for entry in one.entries] == list(files.values())


def test_what_was_encoded_to_its_end_is_found_done_without_being_opened(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "store"
    first = encode_source(shards, out, embedder, batch_size=2, workers=0)
    assert (first.added, first.unchanged, len(first.failures)) == (12, 0, 1)
    assert first.skipped_inside == {".txt": 3}
    before = contents(out)
    monkeypatch.setattr(tar, "open_file", None)
    again = encode_source(shards, out, embedder, batch_size=2, workers=0)
    assert (again.added, again.unchanged, again.failures) == (0, 12, first.failures)
    assert first.failures[0][1].startswith(f"{shards}/s1.tar/broken.jpg: not a picture")
    assert contents(out) == before


@pytest.mark.parametrize(
    "kill",
    [("after write", 2), ("after commit", 1), ("before commit", 4)],
)
def test_killed_at_any_moment_the_same_rows_come_out(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder, tiny_clip: Path, kill: tuple[str, int]
) -> None:
    process = start(shards, tmp_path / "killed", tiny_clip, 0, kill)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    killed = encode_source(shards, tmp_path / "killed", embedder, batch_size=3, workers=2)
    whole = encode_source(shards, tmp_path / "whole", embedder, batch_size=3, workers=0)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert killed.failures == whole.failures
    assert killed.added + killed.unchanged == whole.added == 12


def test_a_changed_archive_is_coded_again_and_sync_takes_out_what_is_gone(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    out = tmp_path / "store"
    encode_source(shards, out, embedder, batch_size=2, workers=0)
    write_tar(shards / "s0.tar", {"000.jpg": jpeg(40), "new.jpg": jpeg(41)})
    os.utime(shards / "s0.tar", ns=(1, 10**18))
    (shards / "s2.tar").unlink()
    result = encode_source(shards, out, embedder, batch_size=2, workers=0)
    assert (result.added, result.unchanged) == (2, 4)
    assert len(names(out)) == 13
    result = encode_source(shards, out, embedder, batch_size=2, workers=0, sync=True)
    assert (result.added, result.unchanged, result.removed) == (0, 6, 7)
    assert names(out) == ["s0/000", *(f"s1/{i:03}" for i in range(5, 9)), "s0/new"]
    assert encode_source(shards, out, embedder, workers=0, sync=True).removed == 0


def test_sync_keeps_what_lay_behind_a_place_where_an_archive_is_damaged_now(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    out, whole = tmp_path / "store", (shards / "s0.tar").read_bytes()
    encode_source(shards, out, embedder, batch_size=2, workers=0)
    before = set(names(out))
    (shards / "s0.tar").write_bytes(whole[: whole.index(jpeg(2)) + 100])
    (shards / "s2.tar").unlink()
    for _ in range(2):  # the second run finds all done
        result = encode_source(shards, out, embedder, batch_size=2, workers=0, sync=True)
        assert any("s0.tar: the tar is damaged from here on" in reason for _, reason in result.failures)
    assert set(names(out)) == {name for name in before if not name.startswith("s2/")}
    (shards / "s0.tar").write_bytes(whole)
    result = encode_source(shards, out, embedder, batch_size=2, workers=0, sync=True)
    assert (len(result.failures), result.removed) == (1, 0)


def test_an_archive_of_the_same_size_is_another_one_by_its_time(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    out = tmp_path / "store"
    files = {"a.jpg": jpeg(0).ljust(4096, b"\0"), "b.jpg": jpeg(1).ljust(4096, b"\0")}
    tar = write_tar(tmp_path / "t.tar", files)
    encode_source(tar, out, embedder, workers=0)
    before = {entry.name: entry.sha256 for entry in open_store(out).entries}
    status = tar.stat()
    write_tar(tar, {"a.jpg": files["a.jpg"], "b.jpg": jpeg(7).ljust(4096, b"\0")})
    os.utime(tar, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert tar.stat().st_size == status.st_size
    assert encode_source(tar, out, embedder, workers=0).added == 2
    after = {entry.name: entry.sha256 for entry in open_store(out).entries}
    assert (after["t/a"], len(after)) == (before["t/a"], 2)
    assert after["t/b"] != before["t/b"]


def test_sync_of_some_archives_leaves_others_alone(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    out = tmp_path / "store"
    encode_source(shards, out, embedder, workers=0)
    assert encode_source(f"{shards}/s{{0..1}}.tar", out, embedder, workers=0, sync=True).removed == 0
    assert len(names(out)) == 12


def test_prune_takes_out_what_lay_in_an_archive_that_is_gone_and_it_comes_back(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    out = tmp_path / "store"
    encode_source(shards, out, embedder, workers=0)
    assert missing_pictures(open_store(out)) == []
    away = (shards / "s0.tar").rename(tmp_path / "away.tar")
    assert [entry.name for entry in prune_store(out)] == [f"s0/{i:03}" for i in range(5)]
    away.rename(shards / "s0.tar")
    assert encode_source(shards, out, embedder, workers=0).added == 5


def test_an_archive_that_breaks_off_on_its_way_is_read_again(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, opened = tmp_path / "store", storage.open_file

    def broken(place: str):
        if place.endswith("s0.tar"):
            raise ConnectionResetError("the line is dead")
        return opened(place)

    monkeypatch.setattr(tar, "open_file", broken)
    result = encode_source(shards, out, embedder, workers=0, sync=True)
    assert (result.added, result.removed) == (7, 0)
    reason = f"{shards}/s0.tar: cannot be read: the line is dead"
    assert (f"{shards}/s0.tar", reason) in result.failures
    monkeypatch.undo()
    result = encode_source(shards, out, embedder, workers=0)
    assert (result.added, result.unchanged) == (5, 7)


@pytest.mark.parametrize("archived", [True, False])
def test_tables_are_fitted_on_a_sample_where_there_is_more(
    shards: Path, tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch, archived: bool
) -> None:
    source = shards
    if not archived:
        source = tmp_path / "photos"
        source.mkdir()
        for number in range(12):
            (source / f"{number:03}.jpg").write_bytes(jpeg(number))
    fitted: list[int] = []
    fit = job.FeatureCodec.fit

    def watched(rows: np.ndarray, space: object) -> object:
        fitted.append(len(rows))
        return fit(rows, space)

    monkeypatch.setattr(job.FeatureCodec, "fit", watched)
    monkeypatch.setattr(job, "SAMPLE", 6)
    result = encode_source(source, tmp_path / "store", embedder, batch_size=2, workers=0)
    assert result.added == 12
    assert fitted[-1] == 6
    assert not (tmp_path / "store/.encode").exists()
    store = open_store(tmp_path / "store")
    assert [entry.name[-3:] for entry in store.entries] == [f"{number:03}" for number in range(12)]
    own = np.concatenate([embedder.embed_images([make_picture(i, (40 + 3 * i, 30 + i))]) for i in range(12)])
    assert (np.sum(store.vectors() * own, axis=1) > 0.9).all()


def test_archives_without_a_picture_are_refused(tmp_path: Path, embedder: ClipEmbedder) -> None:
    write_tar(tmp_path / "t.tar", {"a.txt": b"no picture"})
    with pytest.raises(StoreError, match="no picture in any of the archives"):
        encode_source(tmp_path / "t.tar", tmp_path / "store", embedder, workers=0)
    write_tar(tmp_path / "t.tar", {"a.jpg": b"no picture"})
    with pytest.raises(StoreError, match="none of 1 pictures can be read"):
        encode_source(tmp_path / "t.tar", tmp_path / "store", embedder, workers=0)
    assert multiprocessing.active_children() == []
