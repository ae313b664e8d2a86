"""Commands and pictures that were deleted, moved, skipped or out of reach (faults 5, 16, 21 and 26)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture

Run = Callable[..., Result]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def names(store: Path) -> list[str]:
    return [entry.name for entry in FeatureStore.open(store).entries]


def encode(run: Run, work: Path, *options: object) -> Result:
    return run("encode", work / "photos", "-o", work / "store", "--device", "cpu", *options)


def test_prune_lists_first_and_deletes_when_told(work: Path, ok: Run) -> None:
    store = work / "store"
    nothing = ok("prune", store)
    assert (nothing.stdout, "0 of 4 pictures gone" in nothing.stderr) == ("", True)
    (work / "photos/p1.png").unlink()
    (work / "photos/deep/p2.png").unlink()
    before = contents(store)
    listed = ok("prune", store, "--json", work / "listed.json")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["name", "deep/p2", "p1"]
    assert listed.stdout.count("(gone)") == 2
    assert "--delete" in listed.stderr
    assert contents(store) == before
    deleted = ok("prune", store, "--delete", "--json", "-")
    record, dry = json.loads(deleted.stdout), json.loads((work / "listed.json").read_text())
    assert record == dry | {"deleted": True}
    assert [picture["name"] for picture in record["pictures"]] == ["deep/p2", "p1"]
    assert record["pictures"][1]["source"] == str((work / "photos").resolve() / "p1.png")
    assert names(store) == ["p0", "p3"]
    assert not (store / "p1.clp").exists()
    assert ok("prune", store, "--delete", "--quiet").output == ""


def test_prune_refuses_what_it_should(work: Path, run: Run) -> None:
    result = run("prune", work / "photos")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "is not a store" in result.stderr
    shutil.rmtree(work / "photos")
    before = contents(work / "store")
    result = run("prune", work / "store", "--delete")
    assert (result.exit_code, "connect their drive" in result.stderr) == (2, True)
    assert contents(work / "store") == before


def test_search_marks_what_is_gone(work: Path, ok: Run) -> None:
    (work / "photos/p1.png").unlink()
    shutil.copy2(work / "photos/p3.png", work / "photos/moved.png")
    (work / "photos/p3.png").unlink()
    encode(ok, work)
    options = ("--device", "cpu", "--json", work / "found.json")
    lines = ok("search", work / "store", "sky", *options).stdout.splitlines()
    gone = {line.split()[2] for line in lines if line.endswith("  (gone)")}
    assert gone == {"p1", "p3"}
    results = json.loads((work / "found.json").read_text())["results"]
    assert {result["name"]: result["missing"] for result in results} == {
        **{"p0": False, "p1": True, "deep/p2": False, "p3": True, "moved": False}
    }
    lines = ok(
        "search", work / "store", "--duplicates", "--threshold", 0.9999999, *options
    ).stdout.splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["p3", "moved"]
    assert [line.endswith("(gone)") for line in lines[1:]] == [True, False]
    ((first, second),) = json.loads((work / "found.json").read_text())["groups"]
    assert (first["missing"], second["missing"]) == (True, False)


def test_encode_with_sync_follows_and_takes_out(work: Path, ok: Run, run: Run) -> None:
    (work / "photos/p1.png").unlink()
    (work / "photos/p3.png").rename(work / "photos/deep/moved.png")
    result = encode(ok, work, "--sync", "--json", work / "encoded.json")
    assert "0 pictures encoded, 3 unchanged, 0 failed, 1 moved, 1 removed; 3 in all" in result.stderr
    record = json.loads((work / "encoded.json").read_text())
    assert (record["moved"], record["removed"], record["pictures"]) == (1, 1, 3)
    assert sorted(names(work / "store")) == ["deep/moved", "deep/p2", "p0"]
    one = run("encode", work / "photos/p0.png", "-o", work / "one.clp", "--sync")
    assert (one.exit_code, "--sync" in one.stderr) == (2, True)


def test_what_is_skipped_is_counted_and_listed(work: Path, ok: Run) -> None:
    """Fault 5: it vanished without a word."""
    photos = work / "photos"
    for name in ("a.txt", "b.TXT", "deep/c.mov", ".hidden.txt"):
        (photos / name).write_text("no picture")
    make_picture(9).save(photos / "without an ending", "PNG")
    result = encode(ok, work, "--json", work / "encoded.json")
    assert "1 pictures encoded, 4 unchanged, 0 failed" in result.stderr
    assert "skipped: 2 .txt, 1 .mov\n" in result.stderr
    assert json.loads((work / "encoded.json").read_text())["skipped"] == ["a.txt", "b.TXT", "deep/c.mov"]
    assert encode(ok, work, "--quiet").stderr == ""


def test_a_folder_that_may_not_be_read_is_a_failure(
    work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 21: it was passed over, exit 0."""
    scandir = os.scandir

    def guarded(path: Path) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    result = encode(run, work, "--sync", "--json", work / "encoded.json")
    assert result.exit_code == 1
    assert f"failed: {work / 'photos/deep'}: cannot be read: Permission denied\n" in result.stderr
    assert "0 pictures encoded, 3 unchanged, 1 failed, 0 moved, 0 removed; 4 in all" in result.stderr
    (failure,) = json.loads((work / "encoded.json").read_text())["failures"]
    assert failure["image"] == str(work / "photos/deep")
    assert run("fit", work / "photos", "-o", work / "codec.json", "--device", "cpu").exit_code == 1


@pytest.mark.parametrize("store", ["store", "new"])
def test_encoding_layouts_alone_loads_no_model(
    work: Path, ok: Run, run: Run, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 16: CLIP was loaded."""
    make_picture(9).save(work / "photos/new.png")
    monkeypatch.delattr(ClipEmbedder, "load")
    result = ok("encode", work / "photos", "-o", work / store, "--layers", "layout")
    assert f"{1 if store == 'store' else 5} pictures encoded" in result.stderr
    assert "using the built-in" not in result.stderr
    opened = FeatureStore.open(work / store)
    assert opened.read(opened.entries[-1]).semantic is None
    refused = run("encode", work / "photos", "-o", work / "x", "--layers", "layout", "--model", "ViT-B-32")
    assert (refused.exit_code, "name a codec" in refused.stderr) == (2, True)
    assert not (work / "x").exists()
