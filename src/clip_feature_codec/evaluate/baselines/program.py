"""Programs as codecs: a TOML file says how to call them (see docs/external-codecs.md)."""

from __future__ import annotations

import itertools
import math
import os
import shlex
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from clip_feature_codec.errors import CodecError, ConfigError, ImageError
from clip_feature_codec.evaluate.baselines.baseline import Baseline, Settings
from clip_feature_codec.evaluate.baselines.best_files import Curve, FileSearch
from clip_feature_codec.images import load_image

TIMEOUT = 60.0
"""Seconds that a program may take, unless its description says otherwise."""

OUTPUTS = ("PNG", "PPM", "BMP", "TIFF", "JPEG", "WEBP", "AVIF")
"""Formats, as Pillow calls them, in which a decoder may write its picture."""

_FIELDS = {
    "encode": {"input", "bitstream", "max_bytes", "width", "height"},
    "decode": {"bitstream", "output", "max_bytes", "width", "height"},
}
_NEEDED = {"encode": {"input", "bitstream"}, "decode": {"bitstream", "output"}}

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


@dataclass(frozen=True)
class Description:
    """What a TOML file says of a codec.

    Attributes:
        name: as in results.
        encode, decode: commands, split as a shell would, with fields in braces.
        title: as written in reports; by default the name.
        version: command whose first line of output is shown.
        parameters: values to try for each field that is the codec's own.
        rising: the parameter of which larger values give larger files.
        timeout: seconds that a command may take.
        suffix: of the compressed file's name, for programs that go by it.
    """

    name: str
    encode: list[str]
    decode: list[str]
    title: str
    version: list[str]
    parameters: dict[str, list[str | int | float]] = field(default_factory=dict)
    rising: str | None = None
    timeout: float = TIMEOUT
    suffix: str = ".bin"


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
        try:
            return cls(_description(tomllib.loads(path.read_text("utf-8"))))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a TOML file: {error}") from None
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


def _description(table: dict[str, Any]) -> Description:
    """Check what a file says.

    Raises:
        ConfigError: something is missing, unknown, or of another type.
    """
    known = {"name", "title", "version", "encode", "decode", "parameters", "rising", "timeout", "suffix"}
    if unknown := sorted(set(table) - known):
        raise ConfigError(f"unknown entry {unknown[0]!r}: there are {', '.join(sorted(known))}")
    name = _text(table, "name")
    if not name or name == "all":
        raise ConfigError("name must be a word that is not 'all'")
    parameters = _parameters(table)
    rising = table.get("rising")
    if rising is not None and rising not in parameters:
        raise ConfigError(f"rising must be the name of a parameter, found {rising!r}")
    if rising is not None and not all(type(value) in (int, float) for value in parameters[rising]):
        raise ConfigError(f"the values of {rising!r}, which rises, must be numbers")
    timeout = table.get("timeout", TIMEOUT)
    if type(timeout) not in (int, float) or not 0 < timeout < math.inf:
        raise ConfigError(f"timeout must be a number of seconds above 0, found {timeout!r}")
    suffix = _text(table, "suffix", ".bin")
    if "/" in suffix:
        raise ConfigError(f"suffix must be the ending of a file's name, found {suffix!r}")
    return Description(
        name=name,
        title=_text(table, "title", name),
        encode=_command(table, "encode", set(parameters)),
        decode=_command(table, "decode", set()),
        version=_split("version", _text(table, "version", "")),
        parameters=parameters,
        rising=rising,
        timeout=float(timeout),
        suffix=suffix,
    )


def _parameters(table: dict[str, Any]) -> dict[str, list[str | int | float]]:
    parameters = table.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ConfigError("parameters must be a table of lists")
    for key, values in parameters.items():
        if key in _FIELDS["encode"] | _FIELDS["decode"]:
            raise ConfigError(f"no parameter can be called {key!r}: that field has a meaning of its own")
        if (
            not isinstance(values, list)
            or not values
            or not all(type(v) in (str, int, float) for v in values)
        ):
            raise ConfigError(f"parameter {key!r} must be a list of numbers or texts")
    return parameters


def _text(table: dict[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be a text" + (", and it is missing" if value is None else ""))
    return value


def _command(table: dict[str, Any], key: str, parameters: set[str]) -> list[str]:
    parts = _split(key, _text(table, key))
    try:
        used = {
            name for part in parts for _, name, _, _ in string.Formatter().parse(part) if name is not None
        }
    except ValueError as error:
        raise ConfigError(f"{key} has a brace without its other one: {error}") from None
    if unknown := sorted(used - _FIELDS[key] - parameters):
        fields = ", ".join(sorted(_FIELDS[key] | parameters))
        raise ConfigError(f"{key} has an unknown field {{{unknown[0]}}}: there are {fields}")
    if missing := sorted((_NEEDED[key] | parameters) - used):
        raise ConfigError(f"{key} does not use {{{missing[0]}}}")
    if not parts or "{" in parts[0]:
        raise ConfigError(f"{key} must begin with a program")
    return parts


def _split(key: str, command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{key} cannot be split into words: {error}") from None


def _uses(parts: Sequence[str], name: str) -> bool:
    return any(name == each for part in parts for _, each, _, _ in string.Formatter().parse(part))
