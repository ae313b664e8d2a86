"""What a cluster makes is what one process makes, though its processes are killed on the way."""

from __future__ import annotations

import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray_samples import BATCH, Killer, encode, make_photos, rows, run

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.distributed import pipeline
from clip_feature_codec.distributed.blocks import StoreReader
from clip_feature_codec.distributed.cluster import connected
from clip_feature_codec.errors import ClusterError, StoreError
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.packed import bulk

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, mini: FeatureCodec) -> Path:
    """``photos``, and ``here``, what one process makes of them."""
    folder = tmp_path_factory.mktemp("work")
    encode(make_photos(folder / "photos", 30), folder / "here", mini, ray=False)
    return folder


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "a:99999999"])
def test_a_cluster_that_is_not_there_is_told_at_once(address: str) -> None:
    """Before any test here is connected to one."""
    with pytest.raises(ClusterError, match=f"Ray cluster '{address}': cannot be reached: "):
        connected(address).__enter__()


def test_a_folder_though_a_worker_is_killed(cluster: Any, work: Path, mini: FeatureCodec) -> None:
    with Killer([cluster.head_node, *cluster.worker_nodes]) as killer:
        found = encode(work / "photos", work / "there", mini, ray=True)
    assert rows(work / "there") == rows(work / "here")
    assert [place for place, _ in found.failures] == [str(work / "photos/d0/p000x.png")]
    assert (len(killer.killed), found.added, found.unchanged) == (1, 31, 0)
    assert not (work / "there/.encode").exists()
    again = encode(work / "photos", work / "there", mini, ray=True)
    assert (again.added, again.unchanged, len(again.failures)) == (0, 31, 1)
    assert rows(work / "there") == rows(work / "here")


def test_tars_and_tables_that_are_fitted(cluster: Any, work: Path, tmp_path: Path) -> None:
    for number in range(2):
        with tarfile.open(tmp_path / f"x-{number}.tar", "w") as tar:
            tar.add(work / f"photos/d{number}", "")
    source = str(tmp_path / "x-{0..1}.tar")
    here = encode(source, tmp_path / "here", None, ray=False)
    there = encode(source, tmp_path / "there", None, ray=True)
    assert (tmp_path / "there/codec.json").read_bytes() == (tmp_path / "here/codec.json").read_bytes()
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert (there.added, there.failures) == (here.added, here.failures) == (31, here.failures)
    assert len(here.failures) == 1


class StoppedError(Exception):
    pass


def test_what_was_sealed_before_it_was_stopped_is_not_done_again(
    cluster: Any, work: Path, mini: FeatureCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "SHARD_ROWS", 2 * BATCH)
    photos = shutil.copytree(work / "photos", tmp_path / "photos")

    def stop(stage: str, done: int, total: int, failed: int = 0, /) -> None:
        if done > 3 * BATCH:
            raise StoppedError

    with pytest.raises(StoppedError):
        encode(photos, tmp_path / "there", mini, ray=True, progress=stop)
    sealed = len(open_store(tmp_path / "there").entries)
    assert 2 * BATCH - 1 <= sealed < 31
    assert (tmp_path / "there/.encode").exists()
    found = encode(photos, tmp_path / "there", mini, ray=True)
    assert (found.added, found.unchanged) == (31 - sealed, sealed)
    assert rows(tmp_path / "there") == rows(work / "here")


@pytest.mark.parametrize("more", [["--preview"], pytest.param([], marks=pytest.mark.slow)])
def test_a_store_is_decoded(cluster: Any, work: Path, tmp_path: Path, more: list[str]) -> None:
    for name, where in (("here", []), ("there", ["--ray", "auto"])):
        line = ["decode", work / "here", "-o", tmp_path / name, "--size", "16", "--steps", "1", *more, *where]
        assert run(*line).exit_code == 0
    files = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.png"))
    assert len(files) == 31
    for file in files:
        assert (tmp_path / "there" / file).read_bytes() == (tmp_path / "here" / file).read_bytes()


def test_a_store_is_transcoded_and_what_is_damaged_is_listed(
    cluster: Any, work: Path, tmp_path: Path
) -> None:
    run("unpack", work / "here", "-o", tmp_path / "loose")
    (tmp_path / "loose/d0/p002.clp").write_bytes(b"damaged")
    told = []
    for name, more in (("here", ["--packed"]), ("there", ["--ray", "auto"])):
        result = run("transcode", tmp_path / "loose", "-o", tmp_path / name, "--max-bytes", "64", *more)
        assert result.exit_code == 1
        told.append([line for line in result.stderr.splitlines() if line.startswith(("failed", "error"))])
    assert told[0] == told[1]
    assert "p002.clp: SHA-256 differs" in told[0][0]
    assert rows(tmp_path / "there") == rows(tmp_path / "here")


def test_one_line_says_what_cannot_be(cluster: Any, work: Path, tmp_path: Path) -> None:
    photos, out = work / "photos", tmp_path / "out"
    picture, stream = photos / "d0/p000.png", tmp_path / "x.clp"
    run("encode", picture, "-o", stream)
    refused = {
        ("encode", picture, "-o", out, "--ray", "auto"): "--ray is for a folder",
        ("encode", photos, "-o", out, "--embedder-cores", "2"): "--ray",
        ("encode", photos, "-o", out, "--ray", "auto", "--workers", "2"): "--workers",
        ("encode", photos, "-o", out, "--ray", "auto", "--device", "cuda"): "no GPU in the Ray cluster",
        ("encode", photos, "-o", out, "--ray", "auto", "--embedder-cores", "64"): "found 2 cores",
        ("encode", photos, "-o", out, "--ray", "auto", "--max-bytes", "7"): "max bytes: found 7",
        ("transcode", stream, "-o", tmp_path / "y.clp", "--ray", "auto"): "--ray is for a store",
        ("decode", stream, "-o", tmp_path / "y.png", "--ray", "auto"): "--ray is for a store",
        ("decode", work / "here", "-o", out, "--name", "d0/p000", "--ray", "auto"): "--name",
    }
    for line, expected in refused.items():
        result = run(*line, "--quiet")
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), (line, result.output)
        assert expected in result.stderr, line


def test_an_error_of_another_process_is_raised_here(cluster: Any, tmp_path: Path) -> None:
    nowhere = partial(StoreReader, tmp_path / "nowhere", 3)
    with pytest.raises(StoreError, match="nowhere is not a store"):
        list(pipeline.run([1, 2], pipeline.Stage(nowhere)))
    reading = partial(Path.read_bytes, tmp_path / "no file")
    with pytest.raises(FileNotFoundError, match="no file"):
        list(pipeline.run([1, 2], pipeline.Stage(reading)))
    assert list(pipeline.run([3, 1, 2], pipeline.Stage(partial(getattr, range(9), "index")))) == [3, 1, 2]


def test_a_store_that_was_changed_meanwhile_is_not_read(work: Path) -> None:
    with pytest.raises(StoreError, match="was changed while it was read"):
        StoreReader(work / "here", 30)
