"""A picture that processes die of is found, and costs no other picture."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clip_feature_codec.codec.layers import Layers
from clip_feature_codec.codec.rate import Rate
from clip_feature_codec.encode.attempts import DEATHS, Attempts
from clip_feature_codec.encode.batches import Batch
from clip_feature_codec.encode.reading import BatchReader, ReadChunk, read_batches
from clip_feature_codec.encode.work import BatchWork
from clip_feature_codec.errors import WorkerError
from clip_feature_codec.sources.protocol import SourcePicture
from clip_feature_codec.store.writing import NewPicture
from samples import make_picture

PLACES = [f"p{i}" for i in range(4)]


def in_a_process(work: Callable[[], object]) -> object:
    """What some work gives in a process of its own; None where that dies of it."""
    reading, writing = os.pipe()
    if not os.fork():
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        given = pipe.read()
    os.wait()
    return json.loads(given) if given else None


def attempt(folder: Path, work: Callable[[Sequence[int]], object]) -> object:
    """What one process makes of the work."""
    return in_a_process(lambda: Attempts(folder, "").run("key", "read", PLACES, work))


def until_it_survives(folder: Path, work: Callable[[Sequence[int]], object]) -> tuple[Any, int]:
    """What comes out in the end, and how many processes died before."""
    for deaths in range(100):
        if (given := attempt(folder, work)) is not None:
            return given, deaths
    raise AssertionError("it goes on for ever")


@pytest.mark.parametrize("fatal", [set(), {2}, {0, 1, 2, 3}])
def test_pictures_that_processes_die_of_are_left_out(tmp_path: Path, fatal: set[int]) -> None:
    def work(numbers: Sequence[int]) -> list[int]:
        if fatal & set(numbers):
            os.kill(os.getpid(), signal.SIGKILL)
        return list(numbers)

    (result, failures), deaths = until_it_survives(tmp_path, work)
    assert result == [number for number in range(4) if number not in fatal]
    assert [place for place, _ in failures] == [f"p{number}" for number in sorted(fatal)]
    assert all("cannot be read: 3 processes died of it" in reason for _, reason in failures)
    assert deaths == (DEATHS * (1 + len(fatal)) if fatal else 0)
    # What is known of a picture stays until the whole is done; there is nothing to remember of the others.
    assert until_it_survives(tmp_path, work) == ([result, failures], 0)
    assert Attempts(tmp_path, "").died("key", "read") == bool(fatal)


def test_what_is_killed_from_outside_leaves_nothing_out(tmp_path: Path) -> None:
    for killed_at in (None, None, None, 0, 2, 3):

        def work(numbers: Sequence[int], killed_at: int | None = killed_at) -> list[int]:
            if killed_at is None or list(numbers) == [killed_at]:
                os._exit(1)
            return list(numbers)

        assert attempt(tmp_path, work) is None
    assert Attempts(tmp_path, "").died("key", "read")
    assert attempt(tmp_path, list) == [[0, 1, 2, 3], []]
    assert not Attempts(tmp_path, "").died("key", "read")


def test_what_no_picture_alone_is_to_blame_for_is_an_error(tmp_path: Path) -> None:
    def work(numbers: Sequence[int]) -> list[int]:
        if len(numbers) > 2 or 0 in numbers:
            os._exit(1)
        return list(numbers)

    for _ in range(3 * DEATHS):  # of all, of the first, of the others
        assert attempt(tmp_path, work) is None
    with pytest.raises(WorkerError, match="3 processes died when 3 pictures were read together"):
        Attempts(tmp_path, "").run("key", "read", PLACES, work)
    assert not Attempts(tmp_path, "").died("key", "read")


def test_an_error_is_no_death(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Attempts(tmp_path, "").run("key", "read", PLACES, raise_interrupt)
    assert not Attempts(tmp_path, "").died("key", "read")


def test_an_error_is_no_death_of_a_picture_either_where_another_is_deadly(tmp_path: Path) -> None:
    """Three times Ctrl-C while pictures are read alone, and then while the others are read together."""

    def work(numbers: Sequence[int]) -> list[int]:
        if 0 in numbers:
            os._exit(1)
        return list(numbers)

    for _ in range(2 * DEATHS):
        assert attempt(tmp_path, work) is None
    for stopped_at in [[1]] * DEATHS + [[1, 2, 3]] * DEATHS:

        def stopped(numbers: Sequence[int], at: list[int] = stopped_at) -> list[int]:
            if list(numbers) == at:
                raise KeyboardInterrupt
            return work(numbers)

        with pytest.raises(KeyboardInterrupt):
            Attempts(tmp_path, "").run("key", "read", PLACES, stopped)
    result, failures = Attempts(tmp_path, "").run("key", "read", PLACES, work)
    assert (result, [place for place, _ in failures]) == ([1, 2, 3], ["p0"])


def test_what_died_under_other_settings_is_tried_again(tmp_path: Path) -> None:
    for _ in range(3 * DEATHS):
        attempt(tmp_path, lambda numbers: os._exit(1) if 0 in numbers else list(numbers))
    assert Attempts(tmp_path, "").died("key", "read")
    assert Attempts(tmp_path, "more memory").run("key", "read", PLACES, list) == ([0, 1, 2, 3], [])


def raise_interrupt(_: Sequence[int]) -> None:
    raise KeyboardInterrupt


def deadly(picture: Image.Image) -> NDArray[np.float32]:
    if picture.size == (13, 13):
        os.kill(os.getpid(), signal.SIGKILL)
    return np.full((3, 1, 1), picture.size[0], np.float32)


def batches(folder: Path) -> list[Batch]:
    """Four batches of three pictures, of which two are deadly."""
    found = []
    for i in range(12):
        path = folder / f"{i}.png"
        make_picture(i, (13, 13) if i in (4, 9) else (20 + i, 9)).save(path)
        status = path.stat()
        found.append(SourcePicture(path.name, str(path), status.st_size, status.st_mtime_ns))
    return [Batch(f"batch{i}", found[i : i + 3]) for i in range(0, 12, 3)]


def widths(chunks: list[tuple[Batch, ReadChunk]]) -> list[list[int]]:
    return [[int(row[0, 0, 0]) for row in chunk.pixels] for _, chunk in chunks if chunk.pixels is not None]


EXPECTED = [[20, 21, 22], [23, 25], [26, 27, 28], [30, 31]]


def test_a_reader_that_dies_is_replaced_and_the_picture_listed(tmp_path: Path) -> None:
    read = BatchReader(deadly, False, 10**6, Attempts(tmp_path / "notes", ""))
    chunks = list(read_batches(batches(tmp_path), read, 2))
    assert widths(chunks) == EXPECTED
    failures = [failure for _, chunk in chunks for failure in chunk.failures]
    assert [Path(place).name for place, _ in failures] == ["4.png", "9.png"]
    assert all(reason.startswith(f"{place}: cannot be read: ") for place, reason in failures)


def test_a_command_that_dies_of_a_picture_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    found, read = batches(tmp_path), BatchReader(deadly, False, 10**6, Attempts(tmp_path / "notes", ""))
    died = 0
    while in_a_process(lambda: len(list(read_batches(found, read, 0)))) is None:
        died += 1
    assert died == 2  # once for each; then another process reads that batch
    chunks = list(read_batches(found, read, 0))
    assert widths(chunks) == EXPECTED


class Deadly:
    """A model, and tables, that kill the process for a picture of one colour."""

    def __init__(self, at: float) -> None:
        self._at = at

    def embed_batch(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        assert len(pixels)  # towers cannot do without
        if self._at in pixels[:, 0, 0, 0]:
            os._exit(1)
        return pixels[:, :, 0, 0]

    def encode(self, layers: Layers, rate: Rate) -> list[bytes]:
        assert layers.semantic is not None
        if self._at in layers.semantic[:, 0]:
            os._exit(1)
        return [bytes([int(row[0])]) for row in layers.semantic]


@pytest.mark.parametrize("done", ["embedded", "coded"])
def test_the_others_of_a_batch_are_embedded_and_coded(tmp_path: Path, done: str) -> None:
    colours = np.arange(1, 5, dtype=np.float32)
    pixels = np.broadcast_to(colours[:, None, None, None], (4, 3, 2, 2))
    pictures = [NewPicture(f"{i}.png", 10 + i, 10, 100, 1, f"/in/{i}.png") for i in range(4)]
    work: Any = BatchWork(None, Rate(layers="semantic"), None, None, Attempts(tmp_path, ""))  # type: ignore[arg-type]
    model, tables = Deadly(3 if done == "embedded" else 0), Deadly(3 if done == "coded" else 0)

    def run() -> list[object]:
        chunk = work.embed(model, Batch("key"), ReadChunk(pictures, pixels, None, [("/in/x", "no picture")]))
        _, coded, blobs = work.encode(tables, (Batch("key"), chunk))
        return [[new.inside for new in coded.pictures], b"".join(blobs).hex(), coded.failures]

    given: Any = None
    while given is None:
        given = in_a_process(run)
    names, blobs, failures = given
    assert (names, blobs) == (["0.png", "1.png", "3.png"], "010204")
    assert [place for place, _ in failures] == ["/in/x", "/in/2.png"]
    assert failures[1][1].startswith(f"/in/2.png: cannot be {done}: 3 processes died of it")


def test_a_batch_of_which_nothing_is_left_is_not_embedded(tmp_path: Path) -> None:
    pixels, picture = np.full((1, 3, 2, 2), 3, np.float32), NewPicture("a.png", 9, 9, 100, 1, "/in/a.png")
    work: Any = BatchWork(None, Rate(layers="semantic"), None, None, Attempts(tmp_path, ""))  # type: ignore[arg-type]

    def run() -> list[object]:
        chunk = work.embed(Deadly(3), Batch("key"), ReadChunk([picture], pixels, pixels[:, :, 0, 0], []))
        return [len(chunk.pictures), chunk.layers, chunk.lengths, [place for place, _ in chunk.failures]]

    found = [in_a_process(run) for _ in range(2 * DEATHS + 1)]
    assert found == [None] * (2 * DEATHS) + [[0, None, None, ["/in/a.png"]]]
