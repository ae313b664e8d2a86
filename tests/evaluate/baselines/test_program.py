"""Programs as codecs, with small Python scripts in their place."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clip_feature_codec.errors import ConfigError
from clip_feature_codec.evaluate.baselines.known import load_baselines
from clip_feature_codec.evaluate.baselines.program import Program, ProgramError
from clip_feature_codec.evaluate.metrics.pixels import psnr
from samples import make_picture

SHIPPED = Path(__file__).parents[3] / "benchmarks" / "external"

# A thumbnail's raw pixels, of which so many bits are left, behind two bytes that say how many of each.
ENCODER = """
import sys, zlib
import numpy as np
from PIL import Image

source, target, side, bits, width, height = sys.argv[1:]
picture = Image.open(source)
if (picture.mode, picture.format, picture.size) != ("RGB", "PNG", (int(width), int(height))):
    sys.exit("not the input that was promised")
pixels = np.asarray(picture.resize((int(side), int(side))))
cut = pixels >> (8 - int(bits)) << (8 - int(bits))
open(target, "wb").write(bytes([int(side), int(bits)]) + zlib.compress(cut.tobytes(), 9))
"""
DECODER = """
import sys, zlib
from PIL import Image

data = open(sys.argv[1], "rb").read()
Image.frombytes("RGB", (data[0], data[0]), zlib.decompress(data[2:])).save(sys.argv[2], "PPM")
"""
LAZY = "import sys; open(sys.argv[2], 'wb').write(b'x' * min(50, int(sys.argv[3])))"
GREY = "import sys; from PIL import Image; Image.new('L', (9, 5), 70).save(sys.argv[2])"
ARGUMENTS = {
    "encode": "{input} {bitstream} {side} {bits} {width} {height}",
    "decode": "{bitstream} {output}",
}


class Descriptions:
    """Writes descriptions of codecs whose programs are Python scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.entries = {
            "name": "raw",
            "encode": self.program("encode", ENCODER),
            "decode": self.program("decode", DECODER),
            "version": f"'{sys.executable}' -c 'print(1.5); print(2)'",
            "parameters": {"side": [2, 6], "bits": [8, 1, 3]},
            "rising": "bits",
        }

    def program(self, step: str, code: str, arguments: str | None = None) -> str:
        """The command that runs ``code``."""
        path = self.folder / f"a {step}.py"
        path.write_text(code)
        return f"'{sys.executable}' '{path}' {ARGUMENTS[step] if arguments is None else arguments}"

    def write(self, **changes: object) -> Path:
        """A description; what is None is left out."""
        entries = {key: value for key, value in (self.entries | changes).items() if value is not None}
        parameters = entries.pop("parameters", None)
        lines = [f"{key} = {json.dumps(value)}" for key, value in entries.items()]
        if isinstance(parameters, dict):
            lines += ["[parameters]", *(f"{key} = {json.dumps(value)}" for key, value in parameters.items())]
        elif parameters is not None:
            lines.append(f"parameters = {json.dumps(parameters)}")
        path = self.folder / "raw.toml"
        path.write_text("\n".join(lines))
        return path

    def codec(self, **changes: object) -> Program:
        return Program.load(self.write(**changes))


@pytest.fixture
def descriptions(tmp_path: Path) -> Descriptions:
    return Descriptions(tmp_path)


def test_a_program_is_a_codec(descriptions: Descriptions):
    (codec,) = load_baselines([], [descriptions.write()])
    picture = make_picture(0, (48, 36))
    found = codec.search(picture, [1000, 60, 30, 5])
    assert found[0] == {"side": 6, "bits": 8}
    assert found[3] is None
    values = []
    for settings, limit in zip(found[:3], (1000, 60, 30), strict=True):
        assert settings is not None
        blob = codec.encode(picture, settings)
        assert len(blob) == codec.payload(blob) <= limit
        assert blob == codec.encode(picture, settings)
        shown = codec.decode(blob, picture.size)
        assert (shown.mode, shown.size) == ("RGB", picture.size)
        values.append(psnr(shown, picture))
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1] + 3
    assert (codec.name, codec.title, codec.kind, codec.counts) == ("raw", "raw", "external", "file")
    assert codec.version == "1.5"
    assert codec.describe({"side": 6, "bits": 8}) == "side 6, bits 8"


def test_a_codec_that_takes_a_limit_is_told_it(descriptions: Descriptions):
    codec = descriptions.codec(
        encode=descriptions.program("encode", LAZY, "{input} {bitstream} {max_bytes}"),
        decode=descriptions.program("decode", GREY),
        parameters=None,
        rising=None,
    )
    picture = make_picture(0, (48, 36))
    found = codec.search(picture, [20, 70])
    assert found == [{"max_bytes": 20}, {"max_bytes": 70}]
    assert [len(codec.encode(picture, settings or {})) for settings in found] == [20, 50]
    shown = codec.decode(b"x", (48, 36))
    assert (shown.mode, shown.size, shown.getpixel((3, 3))) == ("RGB", (48, 36), (70, 70, 70))


def test_nothing_is_left_behind(descriptions: Descriptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    codec, picture = descriptions.codec(), make_picture(0)
    codec.search(picture, [100])
    codec.decode(codec.encode(picture, {"side": 6, "bits": 8}), picture.size)
    with pytest.raises(ProgramError):
        codec.decode(b"rubbish", picture.size)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_memory_is_the_programs_and_not_ours(descriptions: Descriptions):
    ours = np.ones(300_000_000, dtype=np.uint8)
    peaks = []
    for megabytes in (1, 120):
        code = f"x = b'x' * {megabytes}_000_000; import sys; open(sys.argv[2], 'wb').write(b'x')"
        codec = descriptions.codec(encode=descriptions.program("encode", code))
        codec.encode(make_picture(0), {"side": 2, "bits": 1})
        peaks.append(codec.peak_bytes or 0)
    assert 1e6 < peaks[0] < 60e6
    assert 115e6 < peaks[1] - peaks[0] < 125e6
    assert ours[-1] == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('one\\ntwo\\n')", "raw: encode failed with status 1: two"),
        ("pass", "raw: encode wrote no file"),
        ("import sys; open(sys.argv[2], 'wb')", "raw: encode wrote no file"),
        ("import os; os.kill(os.getpid(), 9)", "raw: encode failed with status"),
    ],
)
def test_a_program_that_fails_is_an_error_of_one_line(code: str, message: str, descriptions: Descriptions):
    codec = descriptions.codec(encode=descriptions.program("encode", code))
    with pytest.raises(ProgramError, match=message):
        codec.search(make_picture(0), [99])
    with pytest.raises(ProgramError, match=message) as error:
        codec.encode(make_picture(0), {"side": 1, "bits": 1})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [("pass", "decode wrote no file"), ("import sys; open(sys.argv[2], 'w').write('x')", "is no picture")],
)
def test_a_decoder_must_write_a_picture(code: str, message: str, descriptions: Descriptions):
    codec = descriptions.codec(decode=descriptions.program("decode", code))
    with pytest.raises(ProgramError, match=message):
        codec.decode(b"x", (5, 5))


def test_a_program_that_hangs_is_ended(descriptions: Descriptions, tmp_path: Path):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    codec = descriptions.codec(encode=descriptions.program("encode", code), timeout=2)
    begun = time.monotonic()
    with pytest.raises(ProgramError, match="encode took more than 2 seconds"):
        codec.encode(make_picture(0), {"side": 1, "bits": 1})
    assert time.monotonic() - begun < 20
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):  # whoever adopts it may take a moment to bury it
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    pytest.fail("the program lived on")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "name must be a text, and it is missing"),
        ({"name": "all"}, "name must be a word"),
        ({"name": "webp"}, "'webp' is taken"),
        ({"encode": None}, "encode must be a text, and it is missing"),
        ({"encode": "no-such-program {input} {bitstream} {side} {bits}"}, "no-such-program is not installed"),
        ({"encode": "true {input} {bitstream} {side}"}, r"encode does not use \{bits\}"),
        ({"encode": "true {input} {side} {bits}"}, r"encode does not use \{bitstream\}"),
        ({"encode": "true {input} {bitstream} {side} {bits} {effort}"}, r"unknown field \{effort\}"),
        ({"encode": "true {input.name} {bitstream} {side} {bits}"}, r"unknown field \{input.name\}"),
        ({"encode": "true {input"}, "encode has a brace"),
        ({"encode": "true 'un"}, "encode cannot be split into words"),
        ({"encode": "{input} {bitstream} {side} {bits}"}, "encode must begin with a program"),
        ({"decode": "true {bitstream} {input}"}, r"decode has an unknown field \{input\}"),
        ({"decode": "true {bitstream}"}, r"decode does not use \{output\}"),
        ({"parameters": 3}, "parameters must be a table"),
        ({"parameters": {"side": [1], "bits": []}}, "'bits' must be a list"),
        ({"parameters": {"side": [True], "bits": [1]}}, "'side' must be a list"),
        ({"parameters": {"side": [1], "input": [1]}}, "'input'"),
        ({"rising": "effort"}, "rising must be the name of a parameter"),
        ({"parameters": {"side": [1], "bits": ["low", "high"]}}, "'bits', which rises, must be numbers"),
        ({"timeout": 0}, "timeout must be"),
        ({"timeout": "long"}, "timeout must be"),
        ({"suffix": "/x"}, "suffix must be"),
        ({"qualities": [1]}, "unknown entry 'qualities'"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    changes: dict[str, object], message: str, descriptions: Descriptions
):
    path = descriptions.write(**changes)
    with pytest.raises(ConfigError, match=message) as error:
        load_baselines([], [path])
    assert str(path) in str(error.value)


def test_a_file_that_is_no_description_is_refused(descriptions: Descriptions, tmp_path: Path):
    (tmp_path / "bad.toml").write_bytes(b"name = \xff")
    (tmp_path / "worse.toml").write_text("name = = 3")
    for name, message in (
        ("bad", "not a TOML file"),
        ("worse", "not a TOML file"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            Program.load(tmp_path / f"{name}.toml")
    with pytest.raises(ConfigError, match="'raw' is taken"):
        load_baselines([], [descriptions.write(), descriptions.write()])


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_descriptions_work(path: Path):
    try:
        codec = Program.load(path)
    except ConfigError as error:
        if "is not installed" not in str(error):
            raise
        pytest.skip(str(error))
    picture = make_picture(4, (64, 48))
    (settings,) = codec.search(picture, [400])
    assert settings is not None
    blob = codec.encode(picture, settings)
    assert len(blob) <= 400
    assert (psnr(codec.decode(blob, picture.size), picture) or 99.0) > 20
    assert any(digit in codec.version for digit in "0123456789")


def test_something_is_shipped():
    assert len(list(SHIPPED.glob("*.toml"))) >= 2
