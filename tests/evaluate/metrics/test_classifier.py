"""Judges by classes see pictures as their files and the TOML beside them say, in either format."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from networks import describe, labels, means, write_onnx, write_tflite
from PIL import Image

from clip_feature_codec.errors import ModelError
from clip_feature_codec.evaluate.metrics.classifier import Classifier
from samples import make_picture

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def pictures(count: int) -> list[Image.Image]:
    return [make_picture(seed, (20 + seed, 31 - seed)) for seed in range(count)]


def scores(classifier: Classifier, shown: list[Image.Image]) -> np.ndarray:
    return classifier([classifier.prepare(picture) for picture in shown])


def middle(picture: Image.Image, side: int = 8) -> np.ndarray:
    """The middle square, resized step by step."""
    width, height = picture.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    square = picture.crop((left, top, left + short, top + short))
    return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR))


def test_litert_in_8_bits_takes_levels_as_they_are(tmp_path: Path):
    classifier = Classifier.load(write_tflite(tmp_path / "net.tflite"), labels(tmp_path))
    shown = pictures(3)
    expected = [(np.floor(means(middle(picture)) + 0.5) - 128) / 128 for picture in shown]
    np.testing.assert_allclose(scores(classifier, shown), expected, atol=1 / 128)
    assert classifier.classes == 3
    assert classifier.name == "net.tflite"
    assert "net.tflite (sha256 " in classifier.weights
    assert "labels.txt (sha256 " in classifier.weights


@pytest.mark.parametrize("network", ["net.onnx", "net.tflite"])
def test_floats_are_scaled_as_the_toml_file_says(tmp_path: Path, network: str):
    path = tmp_path / network
    write_onnx(path) if network.endswith("onnx") else write_tflite(path, quantised=False)
    described = describe(path, mean=MEAN, std=STD, labels=labels(tmp_path).name)
    classifier = Classifier.load(path)
    shown = pictures(5)
    expected = [(means(middle(picture)) / 255 - MEAN) / STD for picture in shown]
    np.testing.assert_allclose(scores(classifier, shown), expected, rtol=1e-4, atol=1e-5)
    assert classifier.labels is not None
    assert described.name in classifier.weights


@pytest.mark.parametrize(
    ("shape", "dtype", "levels"),
    [
        (("N", 8, 8, 3), "UINT8", lambda x: x),
        ((1, 3, 8, 8), "UINT8", lambda x: x),
        ((4, 8, 8, 3), "UINT8", lambda x: x),
        (("N", 3, 8, 8), "INT8", lambda x: x - 128),
    ],
)
def test_the_order_of_axes_and_the_size_of_a_batch_are_read_off_the_file(
    tmp_path: Path, shape: tuple[object, ...], dtype: str, levels
):
    classifier = Classifier.load(write_onnx(tmp_path / "net.onnx", shape, dtype))
    shown = pictures(6)
    expected = [levels(means(middle(picture))) for picture in shown]
    np.testing.assert_allclose(scores(classifier, shown), expected, rtol=1e-5)
    assert classifier([]).shape == (0, 3)


def test_half_precision_is_fed_what_it_takes(tmp_path: Path):
    path = write_onnx(tmp_path / "net.onnx", dtype="FLOAT16")
    describe(path, mean=MEAN, std=STD)
    (shown,) = pictures(1)
    expected = (means(middle(shown)) / 255 - MEAN) / STD
    np.testing.assert_allclose(scores(Classifier.load(path), [shown])[0], expected, atol=2e-3)


def test_the_whole_picture_is_seen_where_the_toml_file_says_so(tmp_path: Path):
    path = write_onnx(tmp_path / "net.onnx", dtype="UINT8")
    describe(path, crop="squash")
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste((0, 0, 255), (30, 0, 60, 30))
    squashed = scores(Classifier.load(path), [wide])[0]
    assert squashed[0] == pytest.approx(170, abs=3)
    describe(path, crop="center")
    assert scores(Classifier.load(path), [wide])[0].tolist() == pytest.approx([0, 0, 255])


def test_a_size_that_the_file_leaves_open_is_given(tmp_path: Path):
    path = write_onnx(tmp_path / "net.onnx", ("N", 3, "H", "W"), "UINT8")
    with pytest.raises(ModelError, match=r"net\.onnx: .*size in its TOML file"):
        Classifier.load(path)
    describe(path, size=12)
    assert Classifier.load(path).prepare(Image.new("RGB", (40, 50))).shape == (12, 12, 3)


@pytest.mark.parametrize(
    ("text", "classes"),
    [("background\nred\ngreen\nblue", 3), ("red\ngreen\nblue", 3), ("background\nred\ngreen\nblue\n\n", 3)],
)
def test_a_background_class_is_no_class(tmp_path: Path, text: str, classes: int):
    path = write_onnx(tmp_path / "net.onnx", dtype="UINT8", background=True)
    classifier = Classifier.load(path, labels(tmp_path, text))
    assert classifier.classes == classes
    assert classifier.labels is not None
    assert classifier.labels.classes_of("Green") == {1}
    assert scores(classifier, [Image.new("RGB", (9, 9), (0, 90, 0))]).argmax() == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "mean = "),
        ({"mean": MEAN}, "go together"),
        ({"mean": MEAN, "std": [0, 1, 1]}, "std: found"),
        ({"mean": MEAN, "std": STD, "size": 9}, "8 pixels"),
        ({"mean": MEAN, "std": STD, "crop": "left"}, "'left'"),
        ({"mean": MEAN, "std": STD, "labels": "none.txt"}, r"none\.txt"),
        ({"bias": 3}, "'bias'"),
    ],
)
def test_what_a_toml_file_must_say_is_said(tmp_path: Path, entries: dict[str, object], message: str):
    path = write_onnx(tmp_path / "net.onnx")
    if entries:
        describe(path, **entries)
    with pytest.raises(ModelError, match=message) as caught:
        Classifier.load(path)
    assert "net." in str(caught.value) or "none.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize("content", [b"", b"TFL3" * 40, b"\x08\x07\x12\x04junk", bytes(2000)])
def test_what_is_no_network_is_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"net\{suffix}") as caught:
        Classifier.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_another_kind_of_file_are_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"gone\.onnx"):
        Classifier.load(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match=r"\.onnx or \.tflite"):
        Classifier.load(tmp_path / "net.pth")


@pytest.mark.parametrize(("text", "message"), [("red\ngreen", "3 classes"), ("", "nothing in it")])
def test_labels_of_another_network_are_refused(tmp_path: Path, text: str, message: str):
    path = write_onnx(tmp_path / "net.onnx", dtype="UINT8", background=False)
    if text:
        text += "\nblue\nwhite"
    with pytest.raises(ModelError, match=message):
        Classifier.load(path, labels(tmp_path, text))


def test_a_network_that_takes_no_pictures_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match=r"expected \(N, H, W, 3\)"):
        Classifier.load(write_onnx(tmp_path / "net.onnx", ("N", 8, 8, 4)))


@pytest.mark.slow
def test_a_real_classifier_knows_its_classes():
    """Looks at a photograph of a cat with the network that CLIP_CODEC_JUDGE names, labels beside it."""
    path = os.environ.get("CLIP_CODEC_JUDGE")
    if path is None:
        pytest.fail("set CLIP_CODEC_JUDGE to an ImageNet classifier with imagenet_labels.txt beside it")
    from skimage.data import chelsea

    classifier = Classifier.load(Path(path), Path(path).with_name("imagenet_labels.txt"))
    assert classifier.labels is not None
    first = scores(classifier, [Image.fromarray(chelsea())])[0].argsort()[::-1][:5]
    assert any("cat" in classifier.labels.names[i] for i in first)
