from __future__ import annotations

import io
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_folder
from clip_feature_codec.errors import ConfigError, SpaceMismatchError, StoreError
from clip_feature_codec.images import load_image
from clip_feature_codec.store import feature_store, manifest
from clip_feature_codec.store.feature_store import FeatureStore, exclusive
from samples import make_picture

PhotoFolder = Callable[..., Path]

# Forks processes from a clean one that has done the slow imports already, instead of from this one.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["clip_feature_codec.encode"])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in the processes that the tests start: the last bits of a sum may depend on it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store but the lock; strays and unfinished work would show up, too."""
    found = {p.relative_to(store).as_posix(): p for p in store.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != ".lock"}


def cosines(store: FeatureStore, embedder: ClipEmbedder) -> np.ndarray:
    """Between each decoded vector and that of its picture's file as it is now."""
    pictures = [load_image(store.source_path(entry)) for entry in store.entries]
    own = np.concatenate([embedder.embed_images([picture]) for picture in pictures])
    cosines: np.ndarray = np.sum(store.vectors() * own, axis=1)
    return cosines


# ---------------------------------------------------------------- what a folder may hold


def fill_with_oddities(folder: Path) -> None:
    photo = make_picture(7, (60, 40))
    grey = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21
    turned = Image.Exif()
    turned[0x0112] = 6
    (folder / "deep" / "er").mkdir(parents=True)
    photo.save(folder / "a.jpg")
    photo.save(folder / "b.png")
    photo.save(folder / "c.webp")
    photo.save(folder / "d.avif")
    photo.save(folder / "deep" / "e.tiff")
    photo.save(folder / "deep" / "f.tif")
    photo.quantize(16).save(
        folder / "deep" / "er" / "g.gif", save_all=True, append_images=[photo.quantize(8)]
    )
    photo.save(folder / "h.bmp")
    photo.save(folder / "turned.jpg", exif=turned)
    photo.convert("L").save(folder / "grey.png")
    photo.convert("LA").save(folder / "grey_alpha.png")
    photo.convert("P").save(folder / "palette.png", transparency=3)
    photo.convert("1").save(folder / "black_and_white.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(grey).save(folder / "sixteen_bits.png")
    Image.fromarray(grey).save(folder / "sixteen_bits.tif")
    Image.merge("RGBA", (*photo.split(), photo.convert("L"))).save(folder / "alpha.png")
    Image.new("RGB", (1, 1), "red").save(folder / "one_pixel.png")
    make_picture(8, (3000, 1)).save(folder / "line.png")
    photo.save(folder / "SHOUTED.JPEG")
    photo.save(folder / "été 12:30 \n.png")
    photo.save(os.fsdecode(os.fsencode(folder / "latin") + b"\xe9.png"))
    (folder / "linked.png").symlink_to(folder / "b.png")


def fill_with_broken_files(folder: Path) -> set[str]:
    whole = io.BytesIO()
    make_picture(7, (60, 40)).save(whole, "JPEG")
    (folder / "broken.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture at all")
    (folder / "dangling.png").symlink_to(folder / "nothing.png")
    os.mkfifo(folder / "pipe.gif")
    return {"broken.jpg", "empty.png", "text.jpg", "dangling.png", "pipe.gif"}


def fill_with_what_is_passed_over(folder: Path) -> None:
    (folder / "notes.txt").write_text("no picture, and not called like one")
    (folder / "folder.jpg").mkdir()
    (folder / ".thumbnails").mkdir()
    make_picture(1).save(folder / ".thumbnails" / "x.png")
    make_picture(1).save(folder / ".hidden.png")


@pytest.mark.parametrize("workers", [0, 1])
def test_every_format_and_oddity_is_encoded_and_broken_files_are_listed(
    tmp_path: Path, embedder: ClipEmbedder, workers: int
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    fill_with_oddities(folder)
    good = {p.relative_to(folder) for p in folder.rglob("*.*")}
    broken = fill_with_broken_files(folder)
    fill_with_what_is_passed_over(folder)

    result = encode_folder(folder, tmp_path / "store", embedder, batch_size=8, workers=workers)

    assert {Path(path).name for path, _ in result.failures} == broken
    assert all(path in reason and "\n" not in reason for path, reason in result.failures)
    assert (result.added, result.unchanged) == (len(good), 0)
    store = FeatureStore.open(tmp_path / "store")
    sources = {store.source_path(entry).resolve().relative_to(folder) for entry in store.entries}
    assert sources | {Path("linked.png")} == good
    assert (cosines(store, embedder) > 0.99).all()
    sizes = {entry.name: (entry.width, entry.height) for entry in store.entries}
    assert (sizes["a"], sizes["turned"], sizes["one_pixel"]) == ((60, 40), (40, 60), (1, 1))
    assert not (tmp_path / "store" / ".encode").exists()


def test_pictures_of_one_name_do_not_collide(tmp_path: Path, embedder: ClipEmbedder) -> None:
    folder = tmp_path / "photos"
    insides = ["X.JPG", "a/x.jpg", "b/x.png", "x.jpg", "x.png"]
    for seed, inside in enumerate(insides):
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        make_picture(seed).save(folder / inside)
    store = encode_folder(folder, tmp_path / "store", embedder, workers=0).store
    streams = [store.stream_path(entry).relative_to(store.folder).as_posix() for entry in store.entries]
    assert streams == ["X.clp", "a/x.clp", "b/x.clp", "x.jpg.clp", "x.png.clp"]
    assert [store.source_path(entry).relative_to(store.folder / ".." / "photos").as_posix()
            for entry in store.entries] == insides  # fmt: skip
    assert (cosines(store, embedder) > 0.99).all()


def test_a_store_inside_its_picture_folder_is_no_input(
    photo_folder: PhotoFolder, embedder: ClipEmbedder
) -> None:
    folder = photo_folder(4)
    encode_folder(folder, folder / "out" / "store", embedder, workers=0)
    make_picture(50).save(folder / "out" / "store" / "samples.png")  # a training leaves such things there
    result = encode_folder(folder, folder / "out" / "store", embedder, workers=0)
    assert (result.added, result.unchanged, len(result.store)) == (0, 4, 4)


def test_folders_without_a_readable_picture_are_refused(tmp_path: Path, embedder: ClipEmbedder) -> None:
    out = tmp_path / "store"
    with pytest.raises(StoreError, match="nowhere is not a folder"):
        encode_folder(tmp_path / "nowhere", out, embedder)
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(StoreError, match=r"no pictures there.*\.jpg"):
        encode_folder(folder, out, embedder)
    (folder / "a.jpg").touch()
    for codec in (None, FeatureCodec.fit(np.eye(2, embedder.dim, dtype=np.float32), embedder.space)):
        with pytest.raises(StoreError, match=r"none of 1 pictures can be read.*a\.jpg"):
            encode_folder(folder, out, embedder, codec, workers=0)
        assert contents(out) == {}


def test_a_batch_of_none_is_refused(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    with pytest.raises(ConfigError, match="batch size"):
        encode_folder(photo_folder(1), tmp_path / "store", embedder, batch_size=0)


# ---------------------------------------------------------------- once more


def test_the_second_run_does_nothing(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = photo_folder(5), tmp_path / "store"
    encode_folder(folder, out, embedder, workers=0)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.name != ".lock"}
    monkeypatch.delattr(ClipEmbedder, "embed_batch")
    result = encode_folder(folder, out, embedder, workers=0)
    assert (result.added, result.unchanged, result.failures) == (0, 5, [])
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.name != ".lock"} == before


def test_new_pictures_are_added_with_the_stores_tables(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(5), tmp_path / "store"
    encode_folder(folder, out, embedder, workers=0)
    before = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.clp")}
    make_picture(90).save(folder / "a first one.png")
    make_picture(91).save(folder / "z last.jpg")
    other = FeatureCodec.fit(np.eye(8, embedder.dim, dtype=np.float32), embedder.space)

    result = encode_folder(folder, out, embedder, other, workers=0)

    assert (result.added, result.unchanged) == (2, 5)
    after = contents(out)
    lines = after.pop("manifest.jsonl")
    assert lines.startswith(before.pop("manifest.jsonl"))
    assert lines.count(b"\n") == 7
    assert after.keys() - before.keys() == {"a first one.clp", "z last.clp"}
    assert {name: after[name] for name in before} == before
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert (cosines(FeatureStore.open(out), embedder) > 0.98).all()


def test_changed_pictures_are_coded_again_under_the_same_name(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(5), tmp_path / "store"
    first = encode_folder(folder, out, embedder, workers=0).store
    before = contents(out)
    make_picture(77, (20, 50)).save(folder / "p001.png")
    result = encode_folder(folder, out, embedder, workers=0)
    assert (result.added, result.unchanged) == (1, 4)
    store = FeatureStore.open(out)
    assert [entry.name for entry in store.entries] == [entry.name for entry in first.entries]
    assert {name for name, data in contents(out).items() if data != before[name]} == {
        "manifest.jsonl",
        "p001.clp",
    }
    assert next(e for e in store.entries if e.name == "p001").height == 50
    assert (cosines(store, embedder) > 0.98).all()


def test_a_picture_that_is_broken_now_keeps_its_stream_and_is_listed(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(4), tmp_path / "store"
    encode_folder(folder, out, embedder, workers=0)
    before = contents(out)
    (folder / "p000.png").write_bytes(b"")
    for _ in range(2):
        result = encode_folder(folder, out, embedder, workers=0)
        assert (result.added, result.unchanged, len(result.failures)) == (0, 3, 1)
        assert contents(out) == before


def test_a_lost_stream_is_written_again(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder, out = photo_folder(4), tmp_path / "store"
    encode_folder(folder, out, embedder, workers=0)
    (out / "p000.clp").unlink()
    assert encode_folder(folder, out, embedder, workers=0).added == 1
    assert (cosines(FeatureStore.open(out), embedder) > 0.99).all()


def test_a_picture_that_changes_meanwhile_costs_no_other(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = photo_folder(4), tmp_path / "store"
    embed_batch = ClipEmbedder.embed_batch

    def embed_and_change(self: ClipEmbedder, pixels: torch.Tensor) -> np.ndarray:
        make_picture(66, (30, 30)).save(folder / "p001.png")
        return embed_batch(self, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(ClipEmbedder, "embed_batch", embed_and_change)
        result = encode_folder(folder, out, embedder, workers=0)
    assert (result.added, len(result.store)) == (4, 4)
    result = encode_folder(folder, out, embedder, workers=0)
    assert (result.added, result.unchanged) == (1, 3)
    assert (cosines(result.store, embedder) > 0.98).all()


def test_workers_do_not_matter_and_batches_only_to_rounding(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder = photo_folder(11)
    (folder / "broken.jpg").touch()
    alone, two, other = (tmp_path / name for name in ("alone", "two", "other"))
    encode_folder(folder, alone, embedder, batch_size=4, workers=0)
    encode_folder(folder, two, embedder, batch_size=4, workers=2)
    encode_folder(folder, other, embedder, batch_size=3, workers=0)
    assert contents(alone) == contents(two)
    first, second = FeatureStore.open(alone), FeatureStore.open(other)
    assert [e.name for e in first.entries] == [e.name for e in second.entries]
    steps = (
        first.codec.semantic.quantizer.step
    )  # two neighbouring codes at most, should a value lie between them
    assert (np.abs(first.vectors() - second.vectors()) <= 1.1 * steps).all()


def test_given_tables_are_used_for_a_new_store(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    codec = FeatureCodec.fit(embedder.embed_images([make_picture(i) for i in range(9)]), embedder.space)
    store = encode_folder(photo_folder(3), tmp_path / "store", embedder, codec, workers=0).store
    assert FeatureStore.open(store.folder).codec.tables_sha256 == codec.tables_sha256


def test_torchs_global_generator_is_left_alone(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    before = torch.get_rng_state()
    encode_folder(photo_folder(2), tmp_path / "store", embedder, workers=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_store_of_another_clip_space_is_refused_with_both_names(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, tiny_clip: Path
) -> None:
    other_clip = tmp_path / "other_clip"
    shutil.copytree(tiny_clip, other_clip)
    config = other_clip / "open_clip_config.json"
    config.write_text(config.read_text().replace("0.25", "0.5"))
    other = ClipEmbedder.load(str(other_clip), device="cpu")
    folder, out = photo_folder(2), tmp_path / "store"
    encode_folder(folder, out, embedder, workers=0)
    before = contents(out)
    make_picture(9).save(folder / "new.png")
    for store, codec in ((out, None), (tmp_path / "new", FeatureStore.open(out).codec)):
        with pytest.raises(SpaceMismatchError) as caught:
            encode_folder(folder, store, other, codec, workers=0)
        assert embedder.space.label in str(caught.value)
        assert other.space.label in str(caught.value)
    assert contents(out) == before


# ---------------------------------------------------------------- killed


def encode_in_a_process(folder: Path, out: Path, clip: Path, workers: int, kill: tuple[str, int]) -> None:
    """Encode, and die of SIGKILL at a moment: before, within or after a write or append, and which one."""
    multiprocessing.set_start_method(
        "fork", force=True
    )  # a worker must be this process's own, to end with it
    torch.set_num_threads(1)
    moments: Counter[str] = Counter()

    def die_at(moment: str, last_act: Callable[[], None] = lambda: None) -> None:
        moments[moment] += 1
        if (moment, moments[moment]) == kill:
            last_act()
            os.kill(os.getpid(), signal.SIGKILL)

    replace, append = Path.replace, manifest.append_to_manifest

    def watched_replace(self: Path, target: Path) -> Path:
        die_at("before write")
        result = replace(self, target)
        die_at("after write")
        return result

    def watched_append(path: Path, entries: list[manifest.Entry]) -> None:
        die_at("before append")
        append(path, entries)
        die_at("within append", lambda: os.truncate(path, path.stat().st_size - 40))
        die_at("after append")

    Path.replace = watched_replace  # type: ignore[method-assign, assignment]
    feature_store.append_to_manifest = watched_append  # type: ignore[assignment]
    embedder = ClipEmbedder.load(str(clip), device="cpu")
    encode_folder(folder, out, embedder, batch_size=3, workers=workers)


def start(*arguments: object) -> multiprocessing.process.BaseProcess:
    process = PROCESSES.Process(target=encode_in_a_process, args=arguments)
    process.start()
    return process


# Ten pictures and a broken one in batches of three: the plan is the first write, the batches' vectors are the
# second to the fifth, codec.json is the sixth and the streams are the rest; there are four appends.
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
        (("before append", 1), 0),
        (("within append", 1), 0),
        (("within append", 3), 0),
        (("after append", 4), 0),
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

    killed = encode_folder(folder, tmp_path / "killed", embedder, batch_size=3, workers=0)
    whole = encode_folder(folder, tmp_path / "whole", embedder, batch_size=3, workers=0)

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not (tmp_path / "killed" / ".encode").exists()
    assert killed.failures == whole.failures
    assert killed.added + killed.unchanged == whole.added == 10


def test_killed_over_and_over_at_random_it_gets_there(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder, tiny_clip: Path
) -> None:
    folder, out = photo_folder(40), tmp_path / "killed"
    rng = random.Random(5)
    kills = 0
    while kills < 4:
        goal = count_files(out) + rng.randrange(1, 15)
        process = start(folder, out, tiny_clip, 1, ("never", 0))
        while process.is_alive() and count_files(out) < goal:
            time.sleep(0.001)
        process.kill()
        process.join()
        if process.exitcode == 0:
            shutil.rmtree(out)  # it was quicker: once more from the start
        else:
            kills += 1
    encode_folder(folder, out, embedder, batch_size=3, workers=0)
    encode_folder(folder, tmp_path / "whole", embedder, batch_size=3, workers=0)
    assert contents(out) == contents(tmp_path / "whole")


def count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


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
    embed_batch = ClipEmbedder.embed_batch

    def counted(self: ClipEmbedder, pixels: torch.Tensor) -> np.ndarray:
        embedded.append(len(pixels))
        return embed_batch(self, pixels)

    monkeypatch.setattr(ClipEmbedder, "embed_batch", counted)
    assert encode_folder(folder, tmp_path / "store", embedder, batch_size=3, workers=0).added == 10
    assert embedded == [3, 1]


@pytest.mark.parametrize("moment", [("before write", 6), ("after append", 2)])
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
    result = encode_folder(folder, tmp_path / "store", embedder, batch_size=3, workers=0)
    assert result.failures == []
    assert result.added + result.unchanged == 10
    store = FeatureStore.open(tmp_path / "store")
    assert {store.source_path(e).name for e in store.entries} == {p.name for p in folder.rglob("*.png")}
    assert (cosines(store, embedder) > 0.98).all()
    assert encode_folder(folder, tmp_path / "store", embedder, workers=0).unchanged == 10


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
        encode_folder(folder, out, embedder, workers=0)
    process.kill()
    process.join()
    assert encode_folder(folder, out, embedder, workers=0).added == 2
