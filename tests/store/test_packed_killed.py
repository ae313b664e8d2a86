"""A packed store loses nothing, whoever is killed and whoever else writes to it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packed_samples import add, facts, rows_of_others, streams

from clip_feature_codec.store.packed import PackedStore, packed_store
from clip_feature_codec.store.packed.journal import Journal
from clip_feature_codec.store.writing import NewStream


class Killed(BaseException):
    pass


def dying(plain: Callable[..., object], *, before: bool) -> Callable[..., object]:
    """A function that stops everything before, or after, it has done its work."""

    def wrapped(*args: object, **options: object) -> object:
        if not before:
            plain(*args, **options)
        raise Killed

    return wrapped


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (packed_store, "write_shard"),
        (Journal, "seal"),
        (Journal, "_commit"),
        (Path, "unlink"),
        (Journal, "shrink"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_killed_at_any_moment_of_sealing_nothing_is_lost_and_nothing_twice(
    packed: PackedStore,
    small_shards: None,
    owner: object,
    name: str,
    before: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(packed, range(30))
    packed.finish()
    add(packed, [5, 28], seed=3, changed=9)
    add(packed, range(30, 35), seed=1)
    packed.remove([packed.entries[0]])
    expected = sorted(facts(PackedStore.open(packed.folder)))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying(getattr(owner, name), before=before))
        with pytest.raises(Killed):
            packed.finish()
    again = PackedStore.open(packed.folder)
    assert sorted(facts(again)) == expected
    again.finish()
    assert sorted(facts(PackedStore.open(packed.folder))) == expected
    assert sorted(rows_of_others(packed.folder)) == [name for name, *_ in expected]


def test_a_batch_that_fails_leaves_the_store_as_it_was(packed: PackedStore, small_shards: None) -> None:
    add(packed, range(15))
    packed.finish()
    before = facts(packed)
    blob = streams(1, 9)[0]

    def failing() -> Iterator[NewStream]:
        for i, entry in enumerate(packed.entries):
            if i == 10:
                raise Killed
            yield NewStream(Path(), entry, packed._with_stream(entry, blob), blob)

    with pytest.raises(Killed):
        packed._write(failing())
    assert facts(packed) == facts(PackedStore.open(packed.folder)) == before


def test_two_that_write_at_once_lose_nothing(packed: PackedStore, small_shards: None) -> None:
    other = PackedStore.open(packed.folder)
    for i in range(0, 60, 6):
        add(packed, range(i, i + 3), seed=i)
        add(other, range(i + 2, i + 6), seed=i)  # one of them in both
        (packed if i % 4 else other).finish()
    packed.finish()
    names = sorted(f"d{i % 3}/p{i:05}" for i in range(60))
    for store in (packed, other, PackedStore.open(packed.folder)):
        assert sorted(e.name for e in store.entries) == names
    assert sorted(rows_of_others(packed.folder)) == names


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from packed_samples import add
from clip_feature_codec.store.packed import PackedStore, packed_store, shards
packed_store.SHARD_ROWS, shards.GROUP_ROWS = 12, 4
store = PackedStore.open(Path(sys.argv[1]))
print("begun", flush=True)
for start in range(0, 200, 5):
    add(store, range(start, start + 5), seed=start)
    if start % 15 == 0:
        store.finish()
store.finish()
"""


def write(folder: Path) -> subprocess.Popen[bytes]:
    tests = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, tests, tests.parent], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_it_ends_with_the_same_rows(tmp_path: Path, packed: PackedStore, kills: int) -> None:
    whole = PackedStore.create(tmp_path / "whole", packed.codec)
    for start in range(0, 200, 5):
        add(whole, range(start, start + 5), seed=start)
    rng = random.Random(3)
    for _ in range(kills):
        with write(packed.folder) as process:
            time.sleep(rng.random())
            process.kill()
    with write(packed.folder) as process:
        pass
    assert process.returncode == 0
    expected = [(name, blob) for name, _, blob, _ in sorted(facts(whole))]
    assert [(name, blob) for name, _, blob, _ in sorted(facts(PackedStore.open(packed.folder)))] == expected
    assert sorted(rows_of_others(packed.folder)) == [name for name, _ in expected]


def test_two_processes_that_write_at_once_lose_nothing(packed: PackedStore) -> None:
    with write(packed.folder) as one, write(packed.folder) as two:
        pass
    assert (one.returncode, two.returncode) == (0, 0)
    assert sorted(rows_of_others(packed.folder)) == sorted(f"d{i % 3}/p{i:05}" for i in range(200))
