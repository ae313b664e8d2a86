"""What a folder may hold, and what becomes of it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import torch
from encode_samples import PhotoFolder, contents, cosines
from PIL import Image

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.errors import ConfigError, StoreError
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture


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
    pillow_heif.from_pillow(photo).save(folder / "IMG_0001.HEIC", quality=90)
    (folder / "jxl.jxl").write_bytes(imagecodecs.jpegxl_encode(np.asarray(photo)))
    photo.save(folder / "a.png.really_a.jpg", "PNG")
    photo.save(folder / "webp.of_another.ending", "WEBP")
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

    result = encode_source(folder, tmp_path / "store", embedder, batch_size=8, workers=workers)

    assert {Path(path).name for path, _ in result.failures} == broken
    assert all(path in reason and "\n" not in reason for path, reason in result.failures)
    assert (result.added, result.unchanged) == (len(good), 0)
    store = FeatureStore.open(tmp_path / "store")
    sources = {Path(store.source_place(entry)).resolve().relative_to(folder) for entry in store.entries}
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
    store = encode_source(folder, tmp_path / "store", embedder, workers=0).store
    streams = [store.stream_path(entry).relative_to(store.folder).as_posix() for entry in store.entries]
    assert streams == ["X.clp", "a/x.clp", "b/x.clp", "x.jpg.clp", "x.png.clp"]
    assert [Path(store.source_place(entry)).relative_to(store.folder / ".." / "photos").as_posix()
            for entry in store.entries] == insides  # fmt: skip
    assert (cosines(store, embedder) > 0.99).all()


def test_a_store_inside_its_picture_folder_is_no_input(
    photo_folder: PhotoFolder, embedder: ClipEmbedder
) -> None:
    folder = photo_folder(4)
    encode_source(folder, folder / "out" / "store", embedder, workers=0)
    make_picture(50).save(folder / "out" / "store" / "samples.png")  # a training leaves such things there
    result = encode_source(folder, folder / "out" / "store", embedder, workers=0)
    assert (result.added, result.unchanged, len(result.store)) == (0, 4, 4)


def test_folders_without_a_readable_picture_are_refused(tmp_path: Path, embedder: ClipEmbedder) -> None:
    out = tmp_path / "store"
    with pytest.raises(StoreError, match="nowhere is not a folder"):
        encode_source(tmp_path / "nowhere", out, embedder)
    folder = tmp_path / "photos"
    folder.mkdir()
    with pytest.raises(StoreError, match=r"no pictures there.*\.jpg"):
        encode_source(folder, out, embedder)
    (folder / "a.jpg").touch()
    for codec in (None, FeatureCodec.fit(np.eye(2, embedder.dim, dtype=np.float32), embedder.space)):
        with pytest.raises(StoreError, match=r"none of 1 pictures can be read.*a\.jpg"):
            encode_source(folder, out, embedder, codec, workers=0)
        assert contents(out) == {}


def test_a_batch_of_none_is_refused(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    with pytest.raises(ConfigError, match="batch size"):
        encode_source(photo_folder(1), tmp_path / "store", embedder, batch_size=0)


def test_workers_do_not_matter_and_batches_only_to_rounding(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    folder = photo_folder(11)
    (folder / "broken.jpg").touch()
    alone, two, other = (tmp_path / name for name in ("alone", "two", "other"))
    encode_source(folder, alone, embedder, batch_size=4, workers=0)
    encode_source(folder, two, embedder, batch_size=4, workers=2)
    encode_source(folder, other, embedder, batch_size=3, workers=0)
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
    store = encode_source(photo_folder(3), tmp_path / "store", embedder, codec, workers=0).store
    assert FeatureStore.open(store.folder).codec.tables_sha256 == codec.tables_sha256


def test_torchs_global_generator_is_left_alone(
    photo_folder: PhotoFolder, tmp_path: Path, embedder: ClipEmbedder
) -> None:
    before = torch.get_rng_state()
    encode_source(photo_folder(2), tmp_path / "store", embedder, workers=1)
    assert torch.equal(torch.get_rng_state(), before)
