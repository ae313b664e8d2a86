"""Every exception the package raises on purpose, under one base class.

Each carries one plain sentence for the person at the keyboard. The commands print it as one line and
turn ``exit_code`` into the process's exit status: 1 when part of the work is done, 2 when none is.
"""

from __future__ import annotations

import errno


class CodecError(Exception):
    """Base class of all errors of this package."""

    exit_code = 2


class BitstreamError(CodecError):
    """A ``.clp`` stream is truncated, damaged, or written with another codec."""


class MissingLayerError(BitstreamError):
    """A stream has no layer of the kind that is asked for."""


class ImageError(CodecError):
    """A file cannot be read as a picture, or a picture cannot be written."""


class ModelError(CodecError):
    """A CLIP model or its weights cannot be found, read or built."""


class HubError(CodecError):
    """A repository on a model hub cannot be had, or does not hold what the hub says that it does."""


class CheckpointError(CodecError):
    """A decoder checkpoint is missing, unreadable, or not of the expected form."""


class SpaceMismatchError(CodecError):
    """Two things that must speak of one CLIP space speak of different ones."""


class StoreError(CodecError):
    """A store's folder, manifest or ``codec.json`` is missing or unusable."""


class ConfigError(CodecError):
    """An option's value makes no sense, alone or beside another."""


class BuildError(CodecError):
    """The compiled part of the package is missing: a checkout that was not installed."""


class OutputError(CodecError):
    """An output cannot be written, or would replace what must not be lost."""


class ClusterError(CodecError):
    """A Ray cluster cannot be reached, lacks what work on it needs, or cannot do it."""


class WorkerError(CodecError):
    """The processes that do the work end before it is done, whichever do it."""


class MissingExtraError(CodecError):
    """Something needs a package that comes with an extra, and that is not installed."""


class MetricError(CodecError):
    """A metric that was required cannot be computed here."""


class PartialFailureError(CodecError):
    """Some inputs failed and the rest is done.

    Attributes:
        failures: what failed, as (input's name, reason in one line), in input order.
    """

    exit_code = 1

    def __init__(self, message: str, failures: list[tuple[str, str]]) -> None:
        super().__init__(message)
        self.failures = failures


def reason(error: Exception) -> str:
    """Say in one line what another library's error is about, in the system's words where it has some."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def advice(error: OSError) -> str:
    """Say what to do about a file that cannot be written; nothing where there is no telling."""
    return _ADVICE.get(error.errno or 0, "")


_ADVICE = {
    errno.ENOSPC: "free some space there, and run the same command again",
    errno.EDQUOT: "free some of your space there, and run the same command again",
    errno.EROFS: "name a place outside of this read-only file system",
    errno.EACCES: "name another place, or ask for the right to write there",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
