from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from clip_feature_codec.bundle import Bundle, bundle_of, bundles_near, find_pack
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.errors import BitstreamError, ConfigError, StoreError
from clip_feature_codec.names import CLIP_FOLDER, CODEC_FILE, DECODER_FILE, OLD_MANIFEST_FILE
from clip_feature_codec.packs import DEFAULT_PACK, pack_folder, pack_names

SPACE = ClipSpace("some-model", "some-weights", "ab" * 32, 8, {})
VECTORS = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)


def save_codec(folder: Path, shift: float = 0.0) -> FeatureCodec:
    """Tables that differ by ``shift``, in ``folder``."""
    codec = FeatureCodec.fit(VECTORS + shift, SPACE)
    codec.save(folder / CODEC_FILE)
    return codec


def stream_of(codec: FeatureCodec) -> bytes:
    return codec.encode(Layers(VECTORS[:1]))[0]


def found(stream: Path) -> list[str]:
    return [bundle.name for bundle in bundles_near(stream)]


@pytest.mark.parametrize("as_text", [False, True])
def test_a_pack_a_folder_and_a_file_are_found(tmp_path: Path, as_text: bool):
    codec = save_codec(tmp_path)
    for source in (tmp_path, tmp_path / CODEC_FILE):
        bundle = Bundle.find(str(source) if as_text else source)
        assert (bundle.codec_file, bundle.codec.tables_sha256) == (tmp_path / CODEC_FILE, codec.tables_sha256)
        assert (bundle.decoder, bundle.clip) == (None, None)
    pack = Bundle.find(DEFAULT_PACK)
    assert (pack.name, pack.codec.space.pretrained) == (DEFAULT_PACK, "pack")
    assert pack.decoder == pack_folder(DEFAULT_PACK) / "decoder/model.safetensors"
    assert pack.clip == pack_folder(DEFAULT_PACK) / CLIP_FOLDER


@pytest.mark.parametrize("source", [None, 3, b"mini", ["mini"], np.zeros(3)])
def test_what_is_no_name_is_refused(source: object):
    with pytest.raises(ConfigError, match=r"source: found .+, expected a pack's name"):
        Bundle.find(source)


def test_the_decoder_beside_the_tables_comes_before_the_pack_s(tmp_path: Path):
    shutil.copy(pack_folder(DEFAULT_PACK) / CODEC_FILE, tmp_path)
    bundle = Bundle.find(tmp_path)
    assert bundle.decoder == pack_folder(DEFAULT_PACK) / "decoder/model.safetensors"
    (tmp_path / "decoder").mkdir()
    for name in ("decoder.safetensors", "decoder/model.safetensors", DECODER_FILE):
        (tmp_path / name).touch()
        assert bundle.decoder == tmp_path / name


def test_a_pack_s_space_says_where_its_clip_model_is(tmp_path: Path):
    codec = save_codec(tmp_path)
    (tmp_path / CLIP_FOLDER).mkdir()
    assert Bundle.find(tmp_path).codec.space == SPACE  # a folder of that name is not enough
    (tmp_path / CLIP_FOLDER / "open_clip_config.json").write_text("{}")
    found = Bundle.find(tmp_path)
    assert (found.codec.space.model, found.codec.space.pretrained) == (str(tmp_path), "pack")
    assert found.codec.tables_sha256 == codec.tables_sha256
    assert (found.clip, found.decoder) == (tmp_path / CLIP_FOLDER, None)
    assert find_pack(str(tmp_path)).pack == str(tmp_path)
    assert (find_pack("ViT-B-32"), find_pack(str(tmp_path / CLIP_FOLDER))) == (None, None)


def test_tables_are_looked_for_up_to_the_store_and_then_in_the_packs(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "store", tmp_path / "store/deep"):
        save_codec(folder)
    packs = pack_names()
    assert packs[0] == DEFAULT_PACK
    inner = [str(tmp_path / "store/deep" / CODEC_FILE), str(tmp_path / "store" / CODEC_FILE)]
    stream = tmp_path / "store/deep/er/x.clp"
    assert found(stream)[:3] == [*inner, str(tmp_path / CODEC_FILE)]
    (tmp_path / "store" / OLD_MANIFEST_FILE).touch()
    assert found(stream) == [*inner, *packs]
    assert [bundle.name for bundle in bundles_near(None)] == packs


def test_the_tables_are_those_of_the_stream(tmp_path: Path):
    """Fault 3: the first codec.json above was taken, whatever it held."""
    folders = [tmp_path, tmp_path / "a", tmp_path / "a/b"]
    codecs = [save_codec(folder, shift) for shift, folder in enumerate(folders)]
    (tmp_path / "a/b" / CODEC_FILE).write_text("{}")  # somebody else's file
    for folder, codec in zip(folders[:2], codecs, strict=False):
        bundle, stream = bundle_of(stream_of(codec), bundles_near(tmp_path / "a/b/c/x.clp"))
        assert bundle.codec_file == folder / CODEC_FILE
        np.testing.assert_array_equal(bundle.codec.vectors([stream]), codec.vectors([stream]))
    with pytest.raises(BitstreamError, match="other tables than") as caught:
        bundle_of(stream_of(codecs[2]), bundles_near(tmp_path / "a/b/c/x.clp"))
    tried = [
        f"{folder / CODEC_FILE} ({codec.codec_id.hex()})"
        for folder, codec in zip(folders, codecs, strict=True)
    ]
    tried[2] = f"{tmp_path / 'a/b' / CODEC_FILE} (unreadable)"
    assert [name for name in [*tried, "mini (", "--codec"] if name not in str(caught.value)] == []


def test_of_tables_with_one_codec_id_those_of_the_stream_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second = (save_codec(tmp_path / str(i), i) for i in range(2))
    blob = stream_of(second)
    monkeypatch.setattr(FeatureCodec, "codec_id", second.codec_id)  # a chance of one in 65,536
    candidates = [Bundle.find(tmp_path / str(i)) for i in range(2)]
    assert bundle_of(blob, candidates)[0] is candidates[1]
    del first


def test_a_damaged_stream_is_told_from_a_foreign_one(tmp_path: Path):
    blob = stream_of(save_codec(tmp_path))
    candidates = [Bundle.find(DEFAULT_PACK), Bundle.find(tmp_path)]
    for bad, reason in (
        (blob[:-1] + bytes([blob[-1] ^ 1]), rf"checksum: .*\(tables: {tmp_path / CODEC_FILE}\)"),
        (b"", "length"),
        (b"these are other bytes", "magic"),
    ):
        with pytest.raises(BitstreamError, match=reason):
            bundle_of(bad, candidates)


def test_tables_that_cannot_be_read_are_said_to_be(tmp_path: Path):
    (tmp_path / CODEC_FILE).write_text("[")
    with pytest.raises(StoreError, match="found no JSON"):
        _ = Bundle.find(tmp_path).codec
