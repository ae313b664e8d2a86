"""What a TOML file says of a codec that is a pair of programs (see docs/external-codecs.md)."""

from __future__ import annotations

import math
import shlex
import string
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clip_feature_codec.errors import ConfigError

TIMEOUT = 60.0
"""Seconds that a program may take, unless its description says otherwise."""

_FIELDS = {
    "encode": {"input", "bitstream", "max_bytes", "width", "height"},
    "decode": {"bitstream", "output", "max_bytes", "width", "height"},
}
_NEEDED = {"encode": {"input", "bitstream"}, "decode": {"bitstream", "output"}}


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

    @classmethod
    def load(cls, path: Path) -> Description:
        """Read and check a file.

        Raises:
            ConfigError: it cannot be read, or does not say what it must.
        """
        try:
            return _checked(tomllib.loads(path.read_text("utf-8")))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a TOML file: {error}") from None
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


def _checked(table: dict[str, Any]) -> Description:
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
