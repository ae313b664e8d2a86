"""Killed at any moment and started again, an encoding ends as if made in one go."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from encode_samples import PhotoFolder, contents, cosines

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.errors import StoreError
from clip_feature_codec.store.feature_store import FeatureStore
from clip_feature_codec.store.locking import exclusive
from clip_feature_codec.store.manifest import Manifest
from samples import make_picture

# Forks processes from a clean one that has done the slow imports already, instead of from this one.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["clip_feature_codec.encode", "clip_feature_codec.embed.openclip.embedder"])


def encode_in_a_process(
    folder: Path,
    out: Path,
    clip: Path,
    workers: int,
    kill: tuple[str, int],
    tables: Path | None = None,
    packed: bool = False,
) -> None:
    """Encode, and die of SIGKILL at a moment: before or after a write or commit, and which one."""
    multiprocessing.set_start_method(
        "fork", force=True
    )  # a worker must be this process's own, to end with it
    moments: Counter[str] = Counter()

    def die_at(moment: str) -> None:
        moments[moment] += 1
        if (moment, moments[moment]) == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    replace, commit = Path.replace, Manifest._commit

    def watched_replace(self: Path, target: Path) -> Path:
        die_at("before write")
        result = replace(self, target)
        die_at("after write")
        return result

    def watched_commit(self: Manifest) -> None:
        if not self.is_new:  # in memory
            die_at("before commit")
        commit(self)
        if not self.is_new:
            die_at("after commit")

    Path.replace = watched_replace  # type: ignore[method-assign, assignment]
    Manifest._commit = watched_commit  # type: ignore[method-assign]
    embedder = ClipEmbedder.load(str(clip), device="cpu")
    codec = FeatureCodec.load(tables) if tables else None
    encode_source(folder, out, embedder, codec, batch_size=3, workers=workers, packed=packed)


def start(*arguments: object) -> multiprocessing.process.BaseProcess:
    process = PROCESSES.Process(target=encode_in_a_process, args=arguments)
    process.start()
    return process


# Ten pictures and a broken one in batches of three: the plan is the first write, the batches' vectors are the
# second to the fifth, codec.json is the sixth, the manifest the seventh, and the streams are the rest; there
# are four commits.
@pytest.mark.parametrize(
    ("kill", "workers"),
    [
        (("before write", 1), 0),
        (("after write", 1), 1),
        (("after write", 3), 1),
        (("before write", 5), 0),
        (("before write", 6), 0),
        (("after write", 6), 0),
        (("before write", 8), 0),
        (("after write", 11), 1),
        (("before write", 16), 0),
        (("before commit", 1), 0),
        (("before commit", 3), 0),
        (("after commit", 4), 0),
    ],
)
def test_killed_at_any_moment_and_started_again_it_ends_as_if_made_in_one_go(
    photo_folder: PhotoFolder,
    tmp_path: Path,
    embedder: ClipEmbedder,
    tiny_clip: Path,
    kill: tuple[str, int],
    workers: int,
) -> None:
    folder = photo_folder(10)
    (folder / "p004x.jpg").write_text("no picture")
    process = start(folder, tmp_path / "killed", tiny_clip, workers, kill)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "killed" / ".encode").exists()

    killed = encode_source(folder, tmp_path / "killed", embedder, batch_size=3, workers=0)
    whole = encode_source(folder, tmp_path / "whole", embedder, batch_size=3, workers=0)

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not (tmp_path / "killed" / ".encode").exists()
    assert killed.failures == whole.failures
    assert killed.added + killed.unchanged == whole.added == 10


# With tables that are known, codec.json is the second write, and the streams of each batch follow it at once.
@pytest.mark.parametrize(
    "kill",
    [
        ("before write", 2),
        ("after write", 4),
        ("before commit", 1),
        ("before commit", 2),
        ("after commit", 3),
        ("before write", 11),
    ],
)
def test_killed_with_tables_that_are_known_it_ends_as_if_made_in_one_go(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, tiny_clip: Path, kill: tuple[str, int]
) -> None:
    folder, tables = photo_folder(10), tmp_path / "codec.json"
    (folder / "p004x.jpg").write_text("no picture")
    codec = FeatureCodec.fit(embedder.embed_images([make_picture(i) for i in range(9)]), embedder.space)
    codec.save(tables)
    process = start(folder, tmp_path / "killed", tiny_clip, 0, kill, tables)
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    killed = encode_source(folder, tmp_path / "killed", embedder, codec, batch_size=3, workers=0)
    whole = encode_source(folder, tmp_path / "whole", embedder, codec, batch_size=3, workers=0)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert killed.failures == whole.failures
    assert killed.added + killed.unchanged == whole.added == 10


@pytest.mark.parametrize(
    ("kills", "packed"),
    [
        (2, True),
        pytest.param(10, True, marks=pytest.mark.slow),
        pytest.param(4, False, marks=pytest.mark.slow),
    ],
)
def test_killed_over_and_over_at_random_it_gets_there(
    photo_folder: PhotoFolder,
    tmp_path: Path,
    embedder: ClipEmbedder,
    tiny_clip: Path,
    kills: int,
    packed: bool,
) -> None:
    folder, out = photo_folder(40), tmp_path / "killed"
    rng = random.Random(5)
    while kills:
        process = start(folder, out, tiny_clip, 1, ("never", 0), None, packed)
        while process.is_alive() and not (out / ".encode").exists():
            time.sleep(0.001)
        process.join(rng.random())
        process.kill()
        process.join()
        if process.exitcode == 0:
            shutil.rmtree(out)  # it was quicker: once more from the start
        else:
            kills -= 1
    encode_source(folder, out, embedder, batch_size=3, workers=0, packed=packed)
    encode_source(folder, tmp_path / "whole", embedder, batch_size=3, workers=0, packed=packed)
    assert rows(out) == rows(tmp_path / "whole")


def rows(store: Path) -> dict[str, bytes]:
    """What is in a store, whatever its shards are called."""
    found = contents(store)
    return {name: data for name, data in found.items() if not name.endswith(".parquet")}


def test_what_was_embedded_before_the_kill_is_not_embedded_again(
    photo_folder: PhotoFolder,
    tmp_path: Path,
    embedder: ClipEmbedder,
    tiny_clip: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = photo_folder(10)
    start(folder, tmp_path / "store", tiny_clip, 0, ("after write", 3)).join(120)
    embedded = []
    embed_measured = ClipEmbedder.embed_measured

    def counted(self: ClipEmbedder, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        embedded.append(len(pixels))
        return embed_measured(self, pixels)

    monkeypatch.setattr(ClipEmbedder, "embed_measured", counted)
    assert encode_source(folder, tmp_path / "store", embedder, batch_size=3, workers=0).added == 10
    assert embedded == [3, 1]


@pytest.mark.parametrize("moment", [("before write", 6), ("after commit", 2)])
def test_a_folder_that_changes_between_kill_and_restart(
    photo_folder: PhotoFolder,
    tmp_path: Path,
    embedder: ClipEmbedder,
    tiny_clip: Path,
    moment: tuple[str, int],
) -> None:
    folder = photo_folder(10)
    start(folder, tmp_path / "store", tiny_clip, 0, moment).join(120)
    make_picture(80).save(folder / "p000.png")  # changed
    (folder / "p006.png").unlink()
    make_picture(81).save(folder / "a new one.png")
    result = encode_source(folder, tmp_path / "store", embedder, batch_size=3, workers=0)
    assert result.failures == []
    assert result.added + result.unchanged == 10
    store = FeatureStore.open(tmp_path / "store")
    assert {Path(store.source_place(e)).name for e in store.entries} == {
        p.name for p in folder.rglob("*.png")
    }
    assert (cosines(store, embedder) > 0.98).all()
    assert encode_source(folder, tmp_path / "store", embedder, workers=0).unchanged == 10


def hold(folder: Path, ready: multiprocessing.synchronize.Event) -> None:
    with exclusive(folder):
        ready.set()
        time.sleep(600)


def test_of_two_processes_the_second_is_refused_until_the_first_has_ended(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(2), tmp_path / "store"
    ready = PROCESSES.Event()
    process = PROCESSES.Process(target=hold, args=(out, ready))
    process.start()
    assert ready.wait(120)
    with pytest.raises(StoreError, match="another process"):
        encode_source(folder, out, embedder, workers=0)
    process.kill()
    process.join()
    assert encode_source(folder, out, embedder, workers=0).added == 2
