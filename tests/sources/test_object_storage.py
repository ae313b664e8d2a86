"""Object storage: a real S3 server on the loopback interface, driven by commands; and fsspec's memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from source_samples import datasets_parquet, picture_bytes, read_all, webdataset_tar

from clip_feature_codec.cli.main import main
from clip_feature_codec.errors import ImageError, StoreError
from clip_feature_codec.sources.opening import open_source
from clip_feature_codec.sources.original import read_original
from clip_feature_codec.sources.protocol import SourcePicture
from clip_feature_codec.store.opening import open_store

BUCKET = "archive"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server with pictures, tars and a Parquet file in a bucket; the environment that leads to it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.items():
            patch.setenv(name, value)
        fill(tmp_path_factory.mktemp("bucket"))
        yield found
    server.stop()


def fill(folder: Path) -> None:
    import s3fs

    storage = s3fs.S3FileSystem()
    storage.mkdir(BUCKET)
    for number in range(5):
        name = f"photos/{'deep/' if number % 2 else ''}p{number}.jpg"
        storage.pipe(f"{BUCKET}/{name}", picture_bytes(number))
    storage.pipe({f"{BUCKET}/photos/notes.txt": b"no picture", f"{BUCKET}/photos/.hidden.jpg": b"x"})
    for shard in range(2):
        tar = webdataset_tar(folder / f"s{shard}.tar", range(3 * shard, 3 * shard + 3))
        storage.put_file(str(tar), f"{BUCKET}/shards/{tar.name}")
    storage.put_file(str(datasets_parquet(folder / "d.parquet", range(4))), f"{BUCKET}/tables/d.parquet")


def encode(source: str, store: Path, *options: str, apart: bool = False) -> dict[str, object]:
    """What the command says of an encoding of layouts alone: no network is to be loaded.

    Args:
        source, store, options: of the command line.
        apart: run it as a program of its own.
    """
    result = store.parent / "result.json"
    line = ["encode", source, "-o", str(store), "--json", str(result), "--layers", "layout", *options]
    if apart:
        program = "import sys; from clip_feature_codec.cli.main import main; sys.exit(main())"
        done = subprocess.run([sys.executable, "-c", program, *line], stderr=-1, text=True, check=False)
        code, said = done.returncode, done.stderr
    else:
        invoked = CliRunner().invoke(main, line)
        code, said = invoked.exit_code, invoked.output
    assert code == 0, said
    record: dict[str, object] = json.loads(result.read_text())
    return record


def test_everything_in_a_bucket_is_encoded_and_found_done_and_read_again(
    s3: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first = encode(f"s3://{BUCKET}/photos/", store, "--workers", "2", apart=True)
    assert (first["added"], first["skipped"]) == (5, ["notes.txt"])
    tars = encode(f"s3://{BUCKET}/shards/s{{0..1}}.tar", store)
    assert (tars["added"], tars["skipped_inside"]) == (6, {".txt": 6, ".json": 6})
    assert encode(f"s3://{BUCKET}/tables", store)["added"] == 4
    again = encode(f"s3://{BUCKET}/shards/*.tar", store, "--sync")
    assert (again["added"], again["unchanged"], again["removed"]) == (0, 6, 0)
    opened = open_store(store)
    places = {entry.name: opened.source_place(entry) for entry in opened.entries}
    assert places["deep/p1"] == f"s3://{BUCKET}/photos/deep/p1.jpg"
    assert places["s1/00004"] == f"s3://{BUCKET}/shards/s1.tar/00004.jpg"
    for entry in opened.entries:
        picture = read_original(opened.source_place(entry))
        assert isinstance(picture, bytes)
        assert len(picture) == entry.source_bytes
    assert read_original(places["s1/00004"]) == picture_bytes(4)


def test_what_changes_in_a_bucket_is_coded_again_and_what_goes_is_taken_out(
    s3: dict[str, str], tmp_path: Path
) -> None:
    import s3fs

    storage, store = s3fs.S3FileSystem(), tmp_path / "store"
    for number in range(3):
        storage.pipe(f"{BUCKET}/changing/{number}.jpg", picture_bytes(number))
    assert encode(f"s3://{BUCKET}/changing", store)["added"] == 3
    same_size = picture_bytes(1)[:-2] + b"\xff\xd9"
    storage.pipe(f"{BUCKET}/changing/1.jpg", bytes(same_size[:-3]) + b"\0\xff\xd9")  # within the same second
    storage.rm(f"{BUCKET}/changing/2.jpg")
    result = encode(f"s3://{BUCKET}/changing", store, "--sync")
    assert (result["added"], result["unchanged"], result["removed"]) == (1, 1, 1)


def test_a_bucket_or_a_server_that_is_not_there_is_said_in_a_line(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="s3://nowhere/x"):
        open_source("s3://nowhere/x/")
    with pytest.raises(StoreError, match=f"s3://{BUCKET}/no.tar: cannot be read"):
        open_source(f"s3://{BUCKET}/no.tar")
    with pytest.raises(ImageError, match=f"s3://{BUCKET}/photos/no.jpg: cannot be read"):
        read_original(f"s3://{BUCKET}/photos/no.jpg")


def test_storage_without_etags_tells_changes_by_time() -> None:
    import fsspec

    storage = fsspec.filesystem("memory")
    storage.pipe({"/m/a.jpg": picture_bytes(0), "/m/b/c.jpg": picture_bytes(1)})
    try:
        found, _ = read_all("memory://m")
        assert [picture.name for picture in found] == ["a.jpg", "b/c.jpg"]
        assert [picture.place for picture in found] == ["memory:///m/a.jpg", "memory:///m/b/c.jpg"]
        assert all(isinstance(picture, SourcePicture) and picture.mtime_ns > 10**18 for picture in found)
        storage.pipe("/m/a.jpg", picture_bytes(0))
        again, _ = read_all("memory://m")
        assert again[0].mtime_ns > found[0].mtime_ns
        assert again[1] == found[1]
    finally:
        storage.rm("/m", recursive=True)
