"""What Linux desktops must know of ``.clp`` files: their MIME type, and who draws their thumbnails."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from clip_feature_codec.codec.bitstream import MAGIC, VERSION
from clip_feature_codec.errors import OutputError, reason
from clip_feature_codec.files import write_atomic
from clip_feature_codec.names import CLP_MIME

_NAME = "clip-feature-codec"
# The first byte, and of the second the version and the reserved bit. That is little to go by: where another
# type claims such a file with more certainty (50 is usual), it is right.
_MIME_TYPES = f"""\
<?xml version="1.0" encoding="UTF-8"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="{CLP_MIME}">
    <comment>CLIP feature picture</comment>
    <generic-icon name="image-x-generic"/>
    <magic priority="20">
      <match type="byte" value="{MAGIC:#04x}" offset="0">
        <match type="byte" value="{VERSION << 5:#04x}" mask="0xe2" offset="1"/>
      </match>
    </magic>
    <glob pattern="*.clp"/>
  </mime-type>
</mime-info>
"""
_THUMBNAILER = """\
[Thumbnailer Entry]
TryExec={python}
Exec={command} -m clip_feature_codec.thumbnailer %i %o %s
MimeType={mime};
"""


def data_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Where a person's own data are, by the XDG base directory specification."""
    named = environment.get("XDG_DATA_HOME", "")
    return Path(named) if named.startswith("/") else Path.home() / ".local" / "share"


def files_for(home: Path, python: str = sys.executable) -> dict[Path, str]:
    """The files that desktops read, and what is in them.

    Args:
        home: see `data_home`.
        python: the interpreter that draws thumbnails: this one, with the package where it is now.
    """
    entry = _THUMBNAILER.format(python=python, command=shlex.quote(python).replace("%", "%%"), mime=CLP_MIME)
    return {
        home / "mime" / "packages" / f"{_NAME}.xml": _MIME_TYPES,
        home / "thumbnailers" / f"{_NAME}.thumbnailer": entry,
    }


def install(home: Path) -> list[Path]:
    """Make the MIME type and the thumbnailer known in a person's data folder.

    Returns:
        The files that were written.

    Raises:
        OutputError: they cannot be written, or the desktop's own program fails over them.
    """
    files = files_for(home)
    try:
        for path, text in files.items():
            write_atomic(path, text.encode("utf-8"))
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be written: {reason(error)}") from None
    _update(home)
    return list(files)


def remove(home: Path) -> list[Path]:
    """Take out what `install` wrote.

    Returns:
        The files that were there.

    Raises:
        OutputError: they cannot be deleted, or the desktop's own program fails.
    """
    found = [path for path in files_for(home) if path.exists()]
    try:
        for path in found:
            path.unlink()
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be deleted: {reason(error)}") from None
    if found:
        _update(home)
    return found


def _update(home: Path) -> None:
    """Have shared-mime-info read its packages anew; without it, there is no desktop that could ask."""
    program = shutil.which("update-mime-database")
    if program is None:
        return
    done = subprocess.run([program, home / "mime"], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise OutputError(f"{program} ended with {done.returncode}: {' '.join(done.stderr.split())}")
