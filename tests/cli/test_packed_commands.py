"""Every command that takes a store takes a packed one; and what jobs are told while a command works."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.store.opening import is_packed, open_store

Run = Callable[..., Result]
QUICK = ("--steps", "1", "--size", "16", "--device", "cpu")


def encode(run: Run, work: Path, out: Path, *options: object) -> dict[str, Any]:
    told = run(
        "encode",
        work / "photos",
        "-o",
        out,
        "--codec",
        work / "store",
        "--device",
        "cpu",
        *options,
        "--json",
        "-",
    )
    return dict(json.loads(told.stdout))


@pytest.fixture
def packed(work: Path, ok: Run) -> Path:
    """The store ``work/store``, packed."""
    ok("pack", work / "store", "-o", work / "packed", "--quiet")
    return work / "packed"


def test_encode_makes_what_pack_makes_and_goes_on_with_it(work: Path, ok: Run) -> None:
    made = encode(ok, work, work / "made", "--packed")
    assert (made["added"], made["pictures"]) == (4, 4)
    loose = encode(ok, work, work / "loose")
    packed = ok("pack", work / "loose", "-o", work / "packed", "--json", "-")
    assert json.loads(packed.stdout)["copied"] == 4
    stores = [open_store(work / name) for name in ("made", "packed", "loose")]
    assert [is_packed(store.folder) for store in stores] == [True, True, False]
    for store in stores:
        assert list(store.entries) == list(stores[0].entries)
        assert [store.blob(e) for e in store.entries] == [stores[0].blob(e) for e in stores[0].entries]
    assert (loose["bytes"], loose["pictures"]) == (made["bytes"], 4)
    (work / "photos/p1.png").rename(work / "photos/moved.png")
    (work / "photos/p0.png").unlink()
    again = encode(ok, work, work / "made", "--sync")
    assert [again[name] for name in ("added", "unchanged", "moved", "removed", "pictures")] == [0, 3, 1, 1, 3]
    assert {e.name for e in open_store(work / "made").entries} == {"moved", "p3", "deep/p2"}


def test_nothing_to_do_loads_no_model(work: Path, ok: Run, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(ok, work, work / "made", "--packed")

    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ClipEmbedder, "load", refuse)
    assert encode(ok, work, work / "made")["unchanged"] == 4
    (work / "photos/p1.png").touch()
    assert "AssertionError" in run("encode", work / "photos", "-o", work / "made", "--device", "cpu").stderr


def test_it_is_shown_searched_pruned_and_unpacked(work: Path, packed: Path, ok: Run) -> None:
    facts = [json.loads(ok("info", work / name, "--json", "-").stdout) for name in ("packed", "store")]
    for fact in facts:
        del fact["store"], fact["packed"], fact["trained_decoder"]
    assert facts[0] == facts[1]
    found = [
        ok("search", work / name, "--image", work / "photos/p3.png", "--device", "cpu")
        for name in ("packed", "store")
    ]
    assert found[0].stdout == found[1].stdout
    (work / "photos/p1.png").unlink()
    assert "p1" in ok("prune", packed, "--delete").stdout
    ok("unpack", packed, "-o", work / "back")
    assert sorted(path.name for path in (work / "back").rglob("*.clp")) == ["p0.clp", "p2.clp", "p3.clp"]


def test_it_is_decoded_fitted_transcoded_and_evaluated(work: Path, packed: Path, ok: Run) -> None:
    for name in ("packed", "store"):
        ok("decode", work / name, "-o", work / f"out-{name}", *QUICK)
        ok("fit", work / name, "-o", work / f"{name}.json")
        ok("transcode", work / name, "-o", work / f"small-{name}", "--layers", "semantic", "--packed")
    outs = [sorted((work / f"out-{name}").rglob("*.png")) for name in ("packed", "store")]
    assert len(outs[0]) == 4
    assert [path.read_bytes() for path in outs[0]] == [path.read_bytes() for path in outs[1]]
    assert (work / "packed.json").read_bytes() == (work / "store.json").read_bytes()
    small = [open_store(work / f"small-{name}") for name in ("packed", "store")]
    assert [[store.blob(e) for e in store.entries] for store in small[:1]] == [
        [store.blob(e) for e in store.entries] for store in small[1:]
    ]
    ok("eval", packed, *QUICK, "--limit", "2", "--json", work / "eval.json")
    assert len(json.loads((work / "eval.json").read_text())["images"]) == 2


def test_decode_makes_one_picture_by_its_name_and_leaves_alone_what_it_has_made(
    work: Path, packed: Path, ok: Run, run: Run
) -> None:
    out = work / "out"
    ok("decode", packed, "-o", out, "--name", "deep/p2", *QUICK)
    assert [path.relative_to(out).as_posix() for path in out.rglob("*.png")] == ["deep/p2.png"]
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    ok("decode", packed, "-o", out, *QUICK)
    assert len(list(out.rglob("*.png"))) == 4
    assert {path: path.stat().st_mtime_ns for path in times} == times
    ok("decode", packed, "-o", out, *QUICK, "--seed", "5")
    assert all(path.stat().st_mtime_ns != time for path, time in times.items())
    twice = ok("decode", packed, "-o", work / "twice", "--name", "p0", "--name", "p0", "--preview")
    assert "twice: 1 pictures" in twice.stderr
    result = run("decode", packed, "-o", out, "--name", "nobody", *QUICK)
    assert (result.exit_code, "no picture of the name 'nobody'" in result.stderr) == (2, True)
    result = run("decode", work / "store/p0.clp", "-o", work / "x.png", "--name", "p0", *QUICK)
    assert (result.exit_code, "--name" in result.stderr) == (2, True)


def test_packed_is_for_folders(work: Path, run: Run) -> None:
    result = run("encode", work / "photos/p0.png", "-o", work / "x.clp", "--packed")
    assert (result.exit_code, "--packed is for a folder" in result.stderr) == (2, True)


def events(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stderr.splitlines()]


def test_jobs_are_told_in_events(work: Path, packed: Path, run: Run) -> None:
    (work / "store/p1.clp").write_bytes(b"damaged")
    result = run("info", work / "store", "--verify", "--progress", "json")
    *progress, failure, end = events(result)
    assert {event["event"] for event in progress} == {"progress"}
    last = progress[-1]
    assert (last["stage"], last["done"], last["total"], last["failed"]) == ("verifying", 4, 4, 1)
    assert (last["per_second"] > 0, last["seconds_left"]) == (True, 0)
    assert (failure["event"], failure["input"]) == ("failure", str(work / "store/p1.clp"))
    assert (end["event"], end["exit_code"], result.exit_code) == ("end", 1, 1)
    fine = run("pack", packed, "-o", work / "again", "--progress", "json")
    assert [event["event"] for event in events(fine)][-2:] == ["remark", "end"]
    assert events(fine)[-1]["exit_code"] == fine.exit_code == 0


def test_people_see_how_many_have_failed(work: Path, run: Run) -> None:
    (work / "store/p1.clp").write_bytes(b"damaged")
    assert "1 failed" in run("info", work / "store", "--verify").stderr
