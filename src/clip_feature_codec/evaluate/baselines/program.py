"""Programs as codecs: how they are run."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import signal
import string
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from clip_feature_codec.errors import CodecError, ConfigError, ImageError
from clip_feature_codec.evaluate.baselines.baseline import Baseline, Settings
from clip_feature_codec.evaluate.baselines.best_files import Curve, FileSearch
from clip_feature_codec.evaluate.baselines.program_description import Description
from clip_feature_codec.images import load_image

OUTPUTS = ("PNG", "PPM", "BMP", "TIFF", "JPEG", "WEBP", "AVIF")
"""Formats, as Pillow calls them, in which a decoder may write its picture."""

# Linux first charges a program with the memory of the process that starts it (ru_maxrss), which here may
# be gigabytes. Hence a small process starts it, and writes down what it took.
_LAUNCHER = """
import os, sys
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)))
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""


class ProgramError(CodecError):
    """A program that is to be compared fails, takes too long, or writes nothing."""


class Program(Baseline):
    """A codec of two programs, one that encodes a PNG file and one that decodes to one.

    Its file is what the first one writes, whole; a decoded picture of another size is brought to the
    original's with Lanczos. It runs where POSIX's process groups are (Linux, macOS).
    """

    kind = "external"

    def __init__(self, description: Description) -> None:
        self._description = description
        self.name, self.title = description.name, description.title
        self.parameters = {
            "encode": description.encode,
            "decode": description.decode,
            "parameters": description.parameters,
            "rising": description.rising,
        }
        self.version = self._ask_version()

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read a description and ask the program for its version.

        Raises:
            ConfigError: the file cannot be read or does not say what it must, or a program is not installed.
        """
        description = Description.load(path)
        try:
            return cls(description)
        except CodecError as error:
            raise ConfigError(f"{path}: {error}") from None

    def search(self, original: Image.Image, limits: Sequence[int]) -> list[Settings | None]:
        """See `Baseline.search`."""
        with tempfile.TemporaryDirectory(prefix="clip-codec-") as name:
            folder = Path(name)
            _write_input(original, folder)
            files = FileSearch(
                encode=lambda settings: self._encode(folder, original.size, settings),
                size=len,
                decode=lambda data: self._decode(folder, data, original.size),
                original=original,
            )
            found = [files.best([[curve] for curve in self._curves(limit)], limit) for limit in limits]
        return [finds[0].settings if finds else None for finds in found]

    def encode(self, original: Image.Image, settings: Settings) -> bytes:
        """See `Baseline.encode`."""
        with tempfile.TemporaryDirectory(prefix="clip-codec-") as name:
            _write_input(original, Path(name))
            return self._encode(Path(name), original.size, settings, measure=True)

    def payload(self, data: bytes) -> int:
        """See `Baseline.payload`."""
        return len(data)

    def decode(self, data: bytes, size: tuple[int, int]) -> Image.Image:
        """See `Baseline.decode`."""
        with tempfile.TemporaryDirectory(prefix="clip-codec-") as name:
            return self._decode(Path(name), data, size, measure=True)

    def describe(self, settings: Settings) -> str:
        """See `Baseline.describe`."""
        return ", ".join(f"{name} {value}" for name, value in settings.items()) or "its only setting"

    def _curves(self, limit: int) -> list[Curve]:
        """Every combination of parameters; those that differ in the rising one only are one curve."""
        chosen = dict(self._description.parameters)
        if _uses(self._description.encode, "max_bytes"):
            chosen["max_bytes"] = [limit]
        rising = self._description.rising
        steps = [{}] if rising is None else [{rising: value} for value in sorted(chosen.pop(rising))]
        combinations = itertools.product(*chosen.values())
        return [[dict(zip(chosen, values, strict=True)) | step for step in steps] for values in combinations]

    def _encode(
        self, folder: Path, size: tuple[int, int], settings: Settings, measure: bool = False
    ) -> bytes:
        bitstream = folder / f"file{self._description.suffix}"
        bitstream.unlink(missing_ok=True)
        values = settings | {"input": folder / "input.png", "bitstream": bitstream}
        self._run("encode", values, size, folder, measure)
        data = bitstream.read_bytes() if bitstream.is_file() else b""
        if not data:
            raise ProgramError(f"{self.name}: encode wrote no file: it must write to {{bitstream}}")
        return data

    def _decode(self, folder: Path, data: bytes, size: tuple[int, int], measure: bool = False) -> Image.Image:
        bitstream, output = folder / f"file{self._description.suffix}", folder / "output.png"
        bitstream.write_bytes(data)
        output.unlink(missing_ok=True)
        values = {"bitstream": bitstream, "output": output, "max_bytes": len(data)}
        self._run("decode", values, size, folder, measure)
        if not output.is_file():
            raise ProgramError(f"{self.name}: decode wrote no file: it must write to {{output}}")
        try:
            with Image.open(output, formats=OUTPUTS) as opened:
                picture = load_image(opened)
        except (OSError, ImageError) as error:
            raise ProgramError(f"{self.name}: what decode wrote is no picture: {error}") from None
        return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)

    def _run(self, step: str, values: Settings, size: tuple[int, int], folder: Path, measure: bool) -> None:
        filled = values | {"width": size[0], "height": size[1]}
        parts = self._description.encode if step == "encode" else self._description.decode
        command = [part.format_map(filled) for part in parts]
        peak = folder / "peak"
        if measure:
            command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(peak), *command]
        code, said = _call(command, self._description.timeout, f"{self.name}: {step}")
        if code != 0:
            raise ProgramError(f"{self.name}: {step} failed with status {code}: {said or 'it said nothing'}")
        self.peak_bytes = int(peak.read_text()) if measure else None

    def _ask_version(self) -> str:
        for command in (self._description.encode, self._description.decode):
            if shutil.which(command[0]) is None:
                raise ConfigError(f"the program {command[0]} is not installed")
        if not self._description.version:
            return "version not given"
        code, said = _call(self._description.version, self._description.timeout, "version", first=True)
        if code != 0:
            raise ConfigError(f"{shlex.join(self._description.version)} failed with status {code}: {said}")
        return said


def _call(command: list[str], timeout: float, what: str, first: bool = False) -> tuple[int, str]:
    """Run a program without a shell: its status, and the last line of what it says, or the first one."""
    try:
        with subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            finally:
                if process.poll() is None:  # with all that it has started
                    os.killpg(process.pid, signal.SIGKILL)
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{what} took more than {timeout:g} seconds") from None
    except OSError as error:
        raise ProgramError(f"{what} cannot be run: {command[0]}: {error.strerror}") from None
    said = (errors.strip() or output) if not first else (output.strip() or errors)
    lines = [line.strip() for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return process.returncode, lines[0 if first else -1] if lines else ""


def _write_input(original: Image.Image, folder: Path) -> None:
    original.save(folder / "input.png", compress_level=1)


def _uses(parts: Sequence[str], name: str) -> bool:
    return any(name == each for part in parts for _, each, _, _ in string.Formatter().parse(part))
