"""A file is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clip_feature_codec.files import atomic_writer, encodable, printable, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_written_and_written_over(tmp_path: Path, durable: bool):
    path = tmp_path / "a" / "b" / "größe 写.bin"
    for content in (b"first, and longer", b"", b"last"):
        write_atomic(path, content, durable=durable)
        assert path.read_bytes() == content
        assert names(path.parent) == [path.name]


def test_nothing_has_the_name_before_the_block_ends(tmp_path: Path):
    path = tmp_path / "x"
    with atomic_writer(path) as file:
        file.write(b"part one, ")
        file.flush()
        assert not path.exists()
        file.write(b"part two")
    assert path.read_bytes() == b"part one, part two"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_writer(path) as file:  # noqa: PT012
        file.write(b"new, but")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_fault_17_errors_of_the_system_name_the_file(tmp_path: Path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space") as raised, atomic_writer(tmp_path / "x"):
        raise full
    assert raised.value.filename == str(tmp_path / "x")
    with pytest.raises(OSError, match="directory") as raised:
        write_atomic(tmp_path, b"data")
    assert raised.value.filename == str(tmp_path)


def test_a_link_is_followed(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/x").write_bytes(b"old")
    (tmp_path / "link").symlink_to("deep/x")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep/x").read_bytes() == b"new"
    assert names(tmp_path / "deep") == ["x"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(tmp_path / "pipe", b"data")
    assert os.read(reader, 100) == b"data"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["pipe"]


def test_an_error_in_taking_the_name_leaves_no_temporary_file(tmp_path: Path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path / "x", b"data")
    assert names(tmp_path) == ["x"]


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path):
    path = tmp_path / "x"
    with atomic_writer(path) as slow, atomic_writer(path) as fast:
        slow.write(b"slow" * 1000)
        fast.write(b"fast")
    assert path.read_bytes() == b"slow" * 1000
    assert names(tmp_path) == ["x"]


WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from clip_feature_codec.files import atomic_writer
with atomic_writer(Path(sys.argv[1])) as file:
    file.write(b"new" * 100_000)
    file.flush()
    print("half way", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("old", [b"old", None])
def test_kill_9_in_the_middle_leaves_what_was_there(tmp_path: Path, old: bytes | None):
    path = tmp_path / "x"
    if old is not None:
        path.write_bytes(old)
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half way\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
    assert (path.read_bytes() if path.exists() else None) == old
    strays = [name for name in names(tmp_path) if name != "x"]
    assert len(strays) == 1
    assert strays[0].startswith(".")
    assert strays[0].endswith(".tmp")
    write_atomic(path, b"again")
    assert path.read_bytes() == b"again"


@pytest.mark.parametrize(
    ("name", "encodable_name", "printable_name"),
    [
        ("plain.png", "plain.png", "plain.png"),
        ("日本 café.png", "日本 café.png", "日本 café.png"),
        ("caf\udce9.png", r"caf\xe9.png", "caf?.png"),
        ("\ud800", r"\ud800", "?"),
        ("a\nb\x1b[31m", "a\nb\x1b[31m", "a?b?[31m"),
    ],
)
def test_fault_20_any_name_is_text(name: str, encodable_name: str, printable_name: str):
    assert encodable(name) == encodable_name
    assert printable(name) == printable_name
    encodable(name).encode("utf-8")


@pytest.mark.parametrize(
    "name", ["a" * 255, "a" * 251 + ".clp", "日" * 80 + ".clp", "a." + "b" * 253, "." + "a" * 254]
)
def test_every_name_that_a_file_may_have_can_be_written(tmp_path: Path, name: str):
    """Fault 19: the temporary name was 18 bytes longer."""
    write_atomic(tmp_path / name, b"data")
    assert names(tmp_path) == [name]
