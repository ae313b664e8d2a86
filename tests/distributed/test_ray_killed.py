"""However often its processes are killed, and a machine of it, a cluster makes what one process makes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ray_samples import Killer, encode, make_photos, rows, titles_of

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.distributed.transcoding import RayTranscoding
from clip_feature_codec.store import transcoding
from clip_feature_codec.store.opening import open_store
from clip_feature_codec.store.transcoding import transcode_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, mini: FeatureCodec) -> Path:
    """``photos``, and ``here``, what one process makes of them."""
    folder = tmp_path_factory.mktemp("work")
    encode(make_photos(folder / "photos", 400), folder / "here", mini, ray=False)
    return folder


def test_ten_workers_are_killed(cluster: Any, work: Path, mini: FeatureCodec, tmp_path: Path) -> None:
    photos = work / "photos"
    with Killer([cluster.head_node, *cluster.worker_nodes], count=10, pause=2.0) as killer:
        out, kills = work / "there", 0
        for number in range(20):  # until there were ten kills; each time a new store
            found = encode(photos, out, mini, ray=True)
            assert rows(out) == rows(work / "here")
            assert (found.added, len(found.failures)) == (401, 1)
            kills = len(killer.killed)
            if kills >= 10:
                break
            out = work / f"there{number}"
    assert kills == 10


def test_a_machine_is_killed_and_another_comes(cluster: Any, work: Path, mini: FeatureCodec) -> None:
    lost: list[Any] = []

    def progress(stage: str, done: int, total: int, failed: int = 0, /) -> None:
        if done > 30 and not lost:
            lost.append(cluster.worker_nodes.copy().pop())
            cluster.remove_node(lost[0], allow_graceful=False)
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    found = encode(work / "photos", work / "moved", mini, ray=True, progress=progress)
    assert len(lost) == 1
    assert (found.added, len(found.failures)) == (401, 1)
    assert rows(work / "moved") == rows(work / "here")


def test_transcoding_while_workers_are_killed(
    cluster: Any, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, rate = open_store(work / "here"), Rate(max_bytes=64)
    here = transcode_store(store, work / "small", rate, packed=True)
    monkeypatch.setattr("clip_feature_codec.distributed.transcoding.STREAMS_AT_ONCE", 4)
    with Killer([cluster.head_node, *cluster.worker_nodes], count=3, pause=0.5) as killer:
        there = transcode_store(
            store, work / "small-there", rate, packed=True, elsewhere=RayTranscoding(work / "small-there")
        )
    assert killer.killed
    assert there == here
    assert rows(work / "small-there") == rows(work / "small")
    assert transcoding.STREAMS_AT_ONCE == 256


def test_the_command_is_killed_and_run_again(cluster: Any, work: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-c", "from clip_feature_codec.cli.main import main; main()"]
    line += ["encode", str(work / "photos")]
    line += ["-o", str(tmp_path / "out"), "--batch-size", "3", "--ray", cluster.address, "--quiet"]
    for seconds in (8, 14):
        with subprocess.Popen(line, start_new_session=True) as process:
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
    done = subprocess.run([*line, "--json", "-"], capture_output=True, text=True, timeout=600)
    assert (done.returncode, json.loads(done.stdout)["pictures"]) == (1, 401), done.stderr
    assert "1 of 402 pictures failed" in done.stderr
    assert rows(tmp_path / "out") == rows_seen_from(work / "here", tmp_path / "out")


def test_embedders_take_the_gpus_that_a_cluster_has(cluster: Any, work: Path, mini: FeatureCodec) -> None:
    """As far as Ray is concerned: there is none here, and so the model runs on the CPU of that machine."""
    node = cluster.add_node(num_cpus=1, num_gpus=1, object_store_memory=80 << 20)
    others = [one for one in (cluster.head_node, *cluster.worker_nodes) if one is not node]
    seen: list[set[str]] = [set(), set()]

    def progress(stage: str, done: int, total: int, failed: int = 0, /) -> None:
        for place, nodes in zip(seen, ([node], others), strict=True):
            place.update(title for one in nodes for title in titles_of(one) if "_Apply" in title)

    encode(work / "photos", work / "gpus", mini, ray=True, device="auto", progress=progress)
    cluster.remove_node(node)
    assert rows(work / "gpus") == rows(work / "here")
    assert (bool(seen[0]), seen[1]) == (True, set())


def rows_seen_from(folder: Path, other: Path) -> list[tuple[str, str, bytes]]:
    """Rows with their sources as seen from another store's folder."""
    return [
        (name, os.path.relpath(folder.resolve() / source, other.resolve()), blob)
        for name, source, blob in rows(folder)
    ]
