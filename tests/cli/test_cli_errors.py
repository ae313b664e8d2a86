from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.decoders.checkpoint import save_decoder
from clip_feature_codec.embed import ClipEmbedder
from samples import make_decoder, make_store

QUICK = ("--steps", 1, "--size", 16, "--device", "cpu")
Run = Callable[..., Result]


def refused(result: Result, *expected: str) -> None:
    """One line on standard error that holds all that is expected, nothing else, exit status 2."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert [text for text in expected if text not in result.stderr] == [], result.stderr


def files(folder: Path) -> dict[Path, bytes]:
    """Every file in a folder, hidden ones too, but for the lock that writers leave behind."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def damage(stream: Path) -> None:
    """Turn over one bit in the last byte."""
    blob = stream.read_bytes()
    stream.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("encode photos", "'-o'"),
        ("encode nothing -o out", "'nothing' does not exist"),
        ("encode photos -o store/p0.clp", "store/p0.clp is a file"),
        ("encode photos -o -", "a store, a folder"),
        ("encode photos/p0.png -o store --codec store", "store is a folder"),
        ("encode photos/p0.png -o x.clp --model ViT-B-32", "--codec"),
        ("encode photos/p0.png -o - --json - --codec store", "standard output"),
        ("encode store/p0.clp -o x.clp --codec store", "store/p0.clp: not a picture"),
        ("encode store -o out --model MODEL", "store: no pictures"),
        ("encode photos -o out --model ViT-B-32", "pretrained tag"),
        ("encode photos -o out --model no-such-model", "'no-such-model'"),
        ("encode photos -o out --codec nothing", "'nothing' does not exist"),
        ("encode photos -o out --batch-size 0 --model MODEL", "--batch-size"),
        ("decode nothing.clp -o x.png", "'nothing.clp' does not exist"),
        ("decode store/p0.clp", "'-o'"),
        ("decode store/p0.clp -o photos", "photos is a folder"),
        ("decode store/p0.clp -o x.txt", "x.txt"),
        ("decode store/p0.clp -o x.png --size 0", "--size"),
        ("decode store/p0.clp -o x.png --eta 2", "--eta"),
        ("decode store/p0.clp -o x.png --steps 101 --quiet", "1 to 100"),
        ("decode store/p0.clp -o x.png --guidance nan --quiet", "guidance"),
        ("decode store/p0.clp -o x.png --seed -1", "--seed"),
        ("decode store/p0.clp -o x.png --fidelity 2", "--fidelity"),
        ("decode store/p0.clp -o x.png --fidelity 1", "trained without zero_terminal_snr"),
        ("decode store/p0.clp -o x.png --device tpu", "'tpu'"),
        ("decode store/p0.clp -o x.png --decoder nothing.pt", "'nothing.pt' does not exist"),
        ("decode store/p0.clp -o x.png --decoder photos", "photos: no decoder in this folder"),
        ("decode store/p0.clp -o x.png --weights store/codec.json", "store/codec.json: not a decoder"),
        ("decode store/p0.clp -o x.png --codec photos", "photos is neither a pack"),
        ("decode store/p0.clp -o x.png --codec photos/p0.png", "photos/p0.png: found no JSON"),
        ("decode photos/p0.png -o x.png --codec store", "photos/p0.png: "),
        ("decode photos -o out", "photos is not a store"),
        ("decode store -o store/p0.clp", "store/p0.clp is a file"),
        ("decode store -o -", "a folder of pictures"),
        ("decode store -o out --codec store", "--codec"),
        ("info nothing", "'nothing' does not exist"),
        ("info photos", "photos is not a store"),
        ("info photos/p0.png --codec store", "photos/p0.png: magic"),
        ("info store --codec store", "--codec"),
        ("info store/p0.clp --verify", "--verify is for a store"),
        ("train", "'STORE'"),
        ("train store/p0.clp", "'store/p0.clp' is a file"),
        ("train photos --clip-w 0 --device cpu", "photos is not a store"),
        ("train store --ch-mult 1,x", "'1,x'"),
        ("train store --out-size 30 --force", "out_size is 30"),
        ("train store --epochs many", "'--epochs': 'many' is not a whole number"),
        ("eval", "'STORE'"),
        ("eval store --budgets many", "'many'"),
        ("eval store --budgets 64,64", "64, 64"),
        ("eval store --budgets 0", "budgets"),
        ("eval store --steps 1,x", "'1,x'"),
        ("eval store --baselines gif", "'gif'"),
        ("eval store --external photos/p0.png", "photos/p0.png"),
        ("eval store --judge photos", "config.json"),
        ("eval store --judge photos/p0.png", ".onnx or .tflite"),
        ("eval store --judge photos --judge store", "one folder"),
        ("eval store --judge photos --judge-labels store/codec.json", "belongs to a classifier"),
        ("eval store --classes store/codec.json", "--classes belongs to a classifier"),
        ("eval store --other-clip nothing", "'nothing'"),
        ("eval store --table rows.txt", "rows.txt"),
        ("eval store --table photos/p0.png/rows.csv", "photos/p0.png is a file"),
        ("eval nothing", "'nothing' does not exist"),
        ("eval photos", "photos is not a store"),
        ("eval store/p0.clp", "'store/p0.clp' is a file"),
        ("eval store --require beauty", "'beauty'"),
        ("eval store --require lpips", "alexnet"),
        ("eval store --grid grid.txt", "grid.txt"),
        ("eval store --html - --json -", "standard output"),
        ("eval store --json photos", "'photos' is a directory"),
        ("demo -o photos/p0.png", "'photos/p0.png' is a file"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_ends_in_one_line_and_writes_nothing(
    command: str, expected: str, finished: Path, tiny_clip: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    before = files(finished)
    monkeypatch.chdir(finished)
    args = [str(tiny_clip) if arg == "MODEL" else arg for arg in command.split()]
    refused(run(*args), expected)
    assert files(finished) == before


def test_a_foreign_stream_is_refused_by_name(work: Path, tmp_path: Path, embedder: ClipEmbedder, run: Run):
    make_store(tmp_path / "other", embedder, count=2)
    stream = tmp_path / "other/store/p0.clp"
    message = (f"{stream}: codec id", "other tables")
    refused(run("decode", stream, "-o", tmp_path / "x.png", "--codec", work / "store", *QUICK), *message)
    refused(run("info", stream, "--codec", work / "store"), *message)
    assert not (tmp_path / "x.png").exists()


def test_a_decoder_of_another_clip_space_is_refused_with_both_names(work: Path, tmp_path: Path, run: Run):
    other = ClipSpace("other-model", "other-weights", "cd" * 32, 32, {"size": 32})
    own = FeatureCodec.load(work / "store/codec.json").space
    save_decoder(tmp_path / "other.pt", make_decoder(other))
    weights = ("--weights", tmp_path / "other.pt")
    for result in (
        run("decode", work / "store/p0.clp", "-o", tmp_path / "x.png", *weights, *QUICK),
        run("decode", work / "store", "-o", tmp_path / "out", *weights, *QUICK),
        run("eval", work / "store", "--json", tmp_path / "x.json", *weights, *QUICK),
    ):
        refused(result, other.label, own.label, "other.pt")
    assert not [name for name in ("x.png", "out", "x.json") if (tmp_path / name).exists()]


def test_a_store_without_a_decoder_says_what_to_do(work: Path, tmp_path: Path, run: Run):
    (work / "store/diffusion_unet_final.pt").unlink()
    for args in (("decode", work / "store/p0.clp", "-o", tmp_path / "x.png"), ("eval", work / "store")):
        refused(run(*args, *QUICK), "diffusion_unet_final.pt", "train", "--decoder")


@pytest.mark.parametrize("keep", [0, 5, 20])
def test_a_damaged_stream_is_named_and_nothing_is_written(keep: int, work: Path, tmp_path: Path, run: Run):
    stream = work / "store/deep/p2.clp"
    stream.write_bytes(stream.read_bytes()[:keep])
    before = files(tmp_path)
    refused(run("decode", stream, "-o", tmp_path / "x.png", *QUICK), str(stream))
    refused(run("info", stream), str(stream))
    assert files(tmp_path) == before


def test_pictures_that_cannot_be_read_are_listed_and_the_rest_is_done(
    work: Path, tmp_path: Path, tiny_clip: Path, run: Run
):
    (work / "photos/empty.jpg").touch()
    (work / "photos/deep/torn.png").write_bytes((work / "photos/p1.png").read_bytes()[:200])
    command = ("encode", work / "photos", "-o", tmp_path / "new", "--model", tiny_clip, "--workers", 0)
    result = run(*command, "--json", tmp_path / "result.json", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    *listed, last = result.stderr.splitlines()
    assert [line.startswith("failed: ") for line in listed] == [True, True]
    assert ["torn.png" in listed[0], "empty.jpg" in listed[1]] == [True, True]
    assert last == "error: 2 of 6 pictures failed; the rest is done"
    assert len(list((tmp_path / "new").rglob("*.clp"))) == 4
    record = json.loads((tmp_path / "result.json").read_text())
    assert [Path(failure["image"]).name for failure in record["failures"]] == ["torn.png", "empty.jpg"]


def test_when_no_picture_can_be_read_nothing_could_be_done(
    tmp_path: Path, work: Path, tiny_clip: Path, run: Run
):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.png").write_bytes(b"no picture")
    for tables in ((), ("--codec", work / "store")):
        command = ("encode", tmp_path / "bad", "-o", tmp_path / "new", "--model", tiny_clip, "--workers", 0)
        result = run(*command, *tables, "--quiet")
        assert (result.exit_code, "a.png" in result.stderr) == (2, True), result.output


def test_damaged_streams_of_a_store_are_listed_and_the_rest_is_decoded(work: Path, tmp_path: Path, run: Run):
    damage(work / "store/p1.clp")
    (work / "store/deep/p2.clp").unlink()
    result = run("decode", work / "store", "-o", tmp_path / "out", *QUICK, "--quiet")
    assert result.exit_code == 1
    *listed, last = result.stderr.splitlines()
    assert [line.startswith("failed: ") for line in listed] == [True, True]
    assert str(work / "store/deep/p2.clp") in listed[0]
    assert str(work / "store/p1.clp") in listed[1]
    assert last == "error: 2 of 4 pictures failed; the rest is done"
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == ["p0.png", "p3.png"]


def test_a_store_of_damaged_streams_is_nothing_that_could_be_done(work: Path, tmp_path: Path, run: Run):
    for stream in (work / "store").rglob("*.clp"):
        damage(stream)
    result = run("decode", work / "store", "-o", tmp_path / "out", *QUICK, "--quiet")
    assert (result.exit_code, result.stderr.count("failed: ")) == (2, 4)
    result = run("eval", work / "store", *QUICK, "--quiet", "--json", tmp_path / "x.json")
    refused(result, "no picture could be measured")
    assert not (tmp_path / "x.json").exists()


def test_eval_measures_what_is_left_and_lists_the_rest(work: Path, run: Run):
    damage(work / "store/p1.clp")
    (work / "photos/deep/p2.png").unlink()
    result = run("eval", work / "store", *QUICK, "--quiet", "--json", "-")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert [row["image"] for row in record["rows"]] == ["p0", "p3"]
    assert [Path(failure["stream"]).name for failure in record["failures"]] == ["p2.clp", "p1.clp"]
    assert "p2.png" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: 2 of 4 pictures failed; the rest is done"


def test_a_store_keeps_its_tables(work: Path, tmp_path: Path, embedder: ClipEmbedder, run: Run):
    other = make_store(tmp_path / "other", embedder, count=2)
    before = files(work)
    refused(run("encode", work / "photos", "-o", work / "store", "--codec", other, "--quiet"), "--codec")
    assert files(work) == before


def test_debug_shows_the_traceback_and_ends_with_the_same_status(work: Path, tmp_path: Path, run: Run):
    stream = work / "store/p0.clp"
    damage(stream)
    result = run("decode", stream, "-o", tmp_path / "x.png", "--debug", *QUICK)
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"error: {stream}: checksum")


def test_what_nobody_expected_is_one_line_too(work: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    def fail(path: Path) -> FeatureCodec:
        raise RuntimeError("first line\n  second line")

    monkeypatch.setattr(FeatureCodec, "load", fail)
    refused(run("info", work / "store"), "unexpected RuntimeError: first line second line", "--debug")


def test_an_output_that_cannot_be_written_is_named(work: Path, run: Run):
    (work / "file").touch()
    decoded = run("decode", work / "store/p0.clp", "-o", work / "file/x.png", *QUICK, "--quiet")
    refused(decoded, str(work / "file"))
    informed = run("info", work / "store", "--json", work / "file/x.json")
    assert (informed.exit_code, str(work / "file") in informed.stderr) == (2, True)


def test_a_picture_of_too_many_pixels_is_refused_before_a_model_is_loaded(
    work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> ClipEmbedder:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(ClipEmbedder, "load", fail)
    header = struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0)
    (work / "big.bmp").write_bytes(b"BM" + header)
    result = run("encode", work / "big.bmp", "-o", work / "x.clp", "--codec", work / "store")
    refused(result, "big.bmp", "50000×50000 pixels")
