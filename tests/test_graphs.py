"""Networks as ONNX graphs: what they give is what torch gives, and they never run with other weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from clip_feature_codec import ClipCodec, graphs
from clip_feature_codec.bundle import Bundle
from clip_feature_codec.codec.bitstream import Stream
from clip_feature_codec.decoders.checkpoint import load_decoder
from clip_feature_codec.decoders.diffusion import DiffusionDecoder
from clip_feature_codec.decoders.graphs import GraphDecoder
from clip_feature_codec.decoders.options import PaintOptions
from clip_feature_codec.decoders.running import load_checkpoint
from clip_feature_codec.embed import ClipEmbedder, differentiable_embedder_for, load_embedder
from clip_feature_codec.embed.onnx.embedder import GraphEmbedder
from clip_feature_codec.errors import ConfigError, ModelError
from clip_feature_codec.graphs import Graphs
from clip_feature_codec.names import CLIP_FOLDER, DECODER_FOLDER, GRAPHS_FILE, WEIGHTS_FILE
from clip_feature_codec.packs import DEFAULT_PACK, pack_folder
from clip_feature_codec.reconstruct import paint
from samples import make_picture

PACK = pack_folder(DEFAULT_PACK)
DECODER = f"{DECODER_FOLDER}/{WEIGHTS_FILE}"
assert PACK is not None
PICTURES = [make_picture(seed, size) for seed, size in enumerate([(48, 36), (64, 64), (300, 200), (1, 1)])]
TEXTS = [
    "a red bus",
    "a photo of a cat on a bench, seen from above, in the rain and in the dark",
    "",
    "naïve café",
]


@pytest.fixture(scope="module")
def ours() -> GraphEmbedder:
    found = load_embedder(DEFAULT_PACK, device="cpu")
    assert isinstance(found, GraphEmbedder)
    return found


@pytest.fixture(scope="module")
def theirs() -> ClipEmbedder:
    return ClipEmbedder.load(DEFAULT_PACK, device="cpu")


@pytest.fixture(scope="module")
def decoders() -> tuple[GraphDecoder, DiffusionDecoder]:
    file = PACK / DECODER
    ours = load_checkpoint(file, "cpu")
    assert isinstance(ours, GraphDecoder)
    return ours, load_decoder(file)


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the pack, somewhere else."""
    return Path(shutil.copytree(PACK, tmp_path / "pack"))


# ---------------------------------------------------------------- equality


def test_both_kinds_of_the_model_are_one_space(ours: GraphEmbedder, theirs: ClipEmbedder) -> None:
    assert ours.space == theirs.space
    assert (ours.dim, ours.device) == (theirs.dim, theirs.device)


def test_pictures_have_the_same_vectors(ours: GraphEmbedder, theirs: ClipEmbedder) -> None:
    for picture in PICTURES:
        assert np.array_equal(ours.preprocess(picture), theirs.preprocess(picture))
    found, expected = ours.embed_images(PICTURES), theirs.embed_images(PICTURES)
    assert found.dtype == np.float32
    assert (found * expected).sum(1).min() > 0.99999
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(ours.embed_images(PICTURES[:1]) - found[:1]).max() < 1e-5
    assert ours.embed_images([]).shape == (0, ours.dim)
    pixels = torch.from_numpy(np.stack([ours.preprocess(picture) for picture in PICTURES]))
    assert np.array_equal(ours.embed_batch(pixels), found)


def test_any_number_of_threads_gives_the_same_vectors(
    ours: GraphEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    threaded = load_embedder(DEFAULT_PACK, device="cpu")
    assert np.array_equal(threaded.embed_images(PICTURES), ours.embed_images(PICTURES))
    assert np.array_equal(threaded.embed_text(TEXTS), ours.embed_text(TEXTS))


def test_texts_have_the_same_vectors(ours: GraphEmbedder, theirs: ClipEmbedder) -> None:
    found, expected = ours.embed_text(TEXTS), theirs.embed_text(TEXTS)
    assert (found * expected).sum(1).min() > 0.99999
    assert ours.embed_text("a red bus").shape == (1, ours.dim)
    assert ours.embed_text([]).shape == (0, ours.dim)
    with pytest.raises(ConfigError, match="texts: found bytes"):
        ours.embed_text([b"a red bus"])  # type: ignore[list-item]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("told", [False, True])
def test_the_u_net_predicts_the_same(
    decoders: tuple[GraphDecoder, DiffusionDecoder], rows: int, told: bool
) -> None:
    ours, theirs = decoders
    rng = np.random.default_rng(rows)
    side, layout_side = ours.image_size, ours.layout_side
    x = rng.normal(size=(rows, 3, side, side)).astype(np.float32)
    z = rng.normal(size=(rows, ours.space.dim)).astype(np.float32)
    layout = rng.uniform(-1, 1, (rows, 4, layout_side, layout_side)).astype(np.float32) if told else None
    for t in (0, 500, 999):
        expected = theirs.denoiser(
            torch.from_numpy(x), torch.from_numpy(z), t, None if layout is None else torch.from_numpy(layout)
        )
        assert np.abs(ours.denoiser(x, z, t, layout) - expected.numpy()).max() < 1e-3


def test_the_upsampler_adds_the_same(decoders: tuple[GraphDecoder, DiffusionDecoder]) -> None:
    canvases = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    ours, theirs = decoders
    vectors = np.random.default_rng(1).normal(size=(3, ours.space.dim)).astype(np.float32)
    found = ours.enlarged(canvases, vectors)
    expected = theirs.enlarged(torch.from_numpy(canvases), vectors)
    assert np.abs(found - expected.numpy()).max() < 1e-3


@pytest.fixture(scope="module")
def streams() -> list[Stream]:
    """Pictures with both layers, with a vector alone and with a layout alone."""
    codec = ClipCodec.load(device="cpu")
    blobs = codec.encode_many(PICTURES[:3], max_bytes=140)
    blobs += codec.encode_many(PICTURES[:1], layers="semantic") + codec.encode_many(
        PICTURES[1:2], layers="layout"
    )
    return codec.features.parse_all(blobs)


@pytest.mark.parametrize(
    "options",
    [
        PaintOptions(),
        PaintOptions(fidelity=0.5, seed=3),
        PaintOptions(fidelity=1.0),
        PaintOptions(sampler="ddim", eta=1.0, steps=12, guidance=1.0),
    ],
    ids=str,
)
def test_pictures_are_the_same_to_two_levels(
    decoders: tuple[GraphDecoder, DiffusionDecoder], streams: list[Stream], options: PaintOptions
) -> None:
    codec = Bundle.find(DEFAULT_PACK).codec
    found, expected = (
        [np.asarray(picture, np.int16) for picture in paint(streams, codec, decoder, options)]
        for decoder in decoders
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs).max() <= 2


def test_both_decoders_are_one_identity(decoders: tuple[GraphDecoder, DiffusionDecoder]) -> None:
    ours, theirs = decoders
    assert ours.identity() == theirs.identity()
    assert (ours.space, ours.layout_side, ours.image_size, ours.has_fidelity) == (
        theirs.space,
        theirs.layout_side,
        theirs.image_size,
        theirs.has_fidelity,
    )


# ---------------------------------------------------------------- which of the two runs


def test_a_gpu_and_learning_go_through_torch(theirs: ClipEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(differentiable_embedder_for(theirs.space, "cpu"), ClipEmbedder)
    monkeypatch.setattr(graphs, "is_cpu", lambda name: name == "cpu")
    assert Graphs.find(PACK / DECODER, "cuda") is None
    assert Graphs.find(PACK / DECODER, "cpu") is not None
    assert GraphEmbedder.find(DEFAULT_PACK, None, "cuda") is None


def test_weights_without_graphs_go_through_torch(pack: Path) -> None:
    other = pack / DECODER_FOLDER / "other.safetensors"
    shutil.copy(pack / DECODER, other)
    assert isinstance(load_checkpoint(other, "cpu"), DiffusionDecoder)  # the graphs are another file's
    (pack / DECODER_FOLDER / GRAPHS_FILE).unlink()
    assert isinstance(load_checkpoint(pack / DECODER, "cpu"), DiffusionDecoder)
    (pack / CLIP_FOLDER / GRAPHS_FILE).unlink()
    assert isinstance(load_embedder(str(pack / CLIP_FOLDER), device="cpu"), ClipEmbedder)


@pytest.mark.parametrize("kept", ["as it is", "file by file", "by hash"])
def test_a_pack_works_from_anywhere_and_through_links(
    pack: Path, tmp_path: Path, ours: GraphEmbedder, kept: str
) -> None:
    folder = pack
    if kept != "as it is":  # as some installers link packages, and as the cache of a model hub is
        folder, blobs = tmp_path / "links", tmp_path / "blobs"
        blobs.mkdir()
        for number, file in enumerate(path for path in pack.rglob("*") if path.is_file()):
            place = folder / file.relative_to(pack)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.rename(blobs / str(number)) if kept == "by hash" else file)
    embedder = load_embedder(str(folder / CLIP_FOLDER), device="cpu")
    assert isinstance(embedder, GraphEmbedder)
    assert embedder.space.model == str((folder / CLIP_FOLDER).resolve())
    assert np.array_equal(embedder.embed_images(PICTURES), ours.embed_images(PICTURES))
    assert isinstance(load_checkpoint(folder / DECODER, "cpu"), GraphDecoder)


# ---------------------------------------------------------------- refusals


def use(pack: Path) -> None:
    """All that a pack can do."""
    embedder = load_embedder(str(pack / CLIP_FOLDER), device="cpu")
    embedder.embed_images(PICTURES[:1])
    embedder.embed_text("a bus")
    load_checkpoint(pack / DECODER, "cpu")


FILES = sorted(
    path.relative_to(PACK).as_posix()
    for path in PACK.rglob("*")
    if path.suffix in (".onnx", ".safetensors", ".gz")
)


@pytest.mark.parametrize("name", FILES)
def test_files_that_do_not_belong_together_are_refused(pack: Path, name: str) -> None:
    use(pack)
    file = pack / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    for change in (lambda: file.write_bytes(content), lambda: file.write_bytes(content[:-5]), file.unlink):
        change()
        with pytest.raises(ModelError) as caught:
            use(pack)
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"format": "clip-feature-codec graphs", "version": 2}']
)
def test_a_list_of_graphs_that_is_none_is_refused(pack: Path, content: bytes) -> None:
    for folder in (pack / DECODER_FOLDER, pack / CLIP_FOLDER):
        (folder / GRAPHS_FILE).write_bytes(content)
    for load in (
        lambda: load_embedder(str(pack / CLIP_FOLDER), device="cpu"),
        lambda: load_checkpoint(pack / DECODER, "cpu"),
    ):
        with pytest.raises(ModelError, match=GRAPHS_FILE):
            load()


def test_what_is_no_graph_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"x\.onnx cannot be run by ONNX Runtime") as caught:
        graphs.Graph(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
