"""Faults 1, 14 and 17: no output takes the place of what could not be made again, or is found bad late."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from clip_feature_codec.cli import encode_images, reconstruct_diffusion
from clip_feature_codec.cli import eval as eval_module
from clip_feature_codec.cli.main import main
from clip_feature_codec.cli.paths import OutputPath
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.encode import encode_source
from clip_feature_codec.images import save_image
from clip_feature_codec.outputs import check
from clip_feature_codec.store.feature_store import FeatureStore
from samples import make_picture

Run = Callable[..., Result]

MODULES = (encode_images.main, reconstruct_diffusion.main, eval_module.main)
GROUP = click.Context(main)
OF_MAIN = [main.get_command(GROUP, name) for name in main.list_commands(GROUP)]
COMMANDS = {command.name: command for command in (*MODULES, *OF_MAIN)}

QUICK = "--steps 1 --size 16 --device cpu --quiet"
TINY = "--out-size 16 --base 8 --ch-mult 1,2 --num-res-blocks 1 --timesteps 20 --max-steps 1 --batch-size 2"

# Commands without the options that write, and those with a file that each of them writes.
BASES = {
    "encode": "photos/p0.png --codec store --quiet",
    "encode_images": "--img-dir photos --model MODEL --quiet",
    "decode": f"store/p0.clp {QUICK}",
    "reconstruct_diffusion": f"--store-dir store {QUICK}",
    "info": "store --quiet",
    "prune": "store --quiet",
    "pack": "store --quiet",
    "unpack": "store --quiet",
    "export": "store --to npy --quiet",
    "compare": "RESULT RESULT --quiet",
    "search": "store sky --device cpu --quiet",
    "transcode": "store/p0.clp --quiet",
    "fit": "store --quiet",
    "link": "photos/p0.png --quiet",
    "train": f"{TINY} --sample-every 0 --workers 0 --device cpu --quiet",
    "eval": f"store {QUICK} --limit 2 --budgets 90,600 --baselines webp",
    "demo": QUICK,
}
WRITING = {
    ("encode", "out"): ("-o new.clp", "new.clp"),
    ("encode", "json_path"): ("--json new.json", "new.json"),
    ("encode_images", "out_dir"): ("--out-dir new", "new/p0.clp"),
    ("encode_images", "json_path"): ("--json new.json", "new.json"),
    ("decode", "out"): ("-o new.png", "new.png"),
    ("reconstruct_diffusion", "out"): ("--out new", "new/deep/p2.png"),
    ("info", "json_path"): ("--json new.json", "new.json"),
    ("pack", "out"): ("-o new", "new/data/streams-00000.parquet"),
    ("pack", "json_path"): ("--json new.json", "new.json"),
    ("unpack", "out"): ("-o new", "new/p0.clp"),
    ("unpack", "json_path"): ("--json new.json", "new.json"),
    ("export", "out"): ("-o new", "new/vectors.npy"),
    ("export", "json_path"): ("--json new.json", "new.json"),
    ("prune", "json_path"): ("--json new.json", "new.json"),
    ("compare", "json_path"): ("--json new.json", "new.json"),
    ("search", "sheet"): ("--sheet new.png", "new.png"),
    ("search", "json_path"): ("--json new.json", "new.json"),
    ("transcode", "out"): ("-o new.clp", "new.clp"),
    ("transcode", "json_path"): ("--json new.json", "new.json"),
    ("fit", "out"): ("-o codec.json", "codec.json"),
    ("fit", "json_path"): ("--json new.json", "new.json"),
    ("link", "qr"): ("--qr new.png", "new.png"),
    ("train", "store"): ("store", "store/diffusion_unet_final.pt"),
    ("train", "cache"): ("--cache cache", "cache/16-00000.rgb"),
    ("eval", "html_path"): ("--html new.html", "new.html"),
    ("eval", "json_path"): ("--json new.json", "new.json"),
    ("eval", "tables"): ("--table new.csv --table new.parquet", "new.parquet"),
    ("eval", "figures"): ("--figures figures", "figures/psnr.png"),
    ("eval", "grid"): ("--grid new.png", "new.png"),
    ("eval", "work"): ("--work work", "work/searches.sqlite"),
    ("demo", "out"): ("-o new", "new/index.html"),
}


def line_of(command: str) -> str:
    """The command with all its options that write."""
    options = [text for (name, _), (text, _) in WRITING.items() if name == command]
    return " ".join([command, BASES[command], *options])


@pytest.fixture
def type_in(
    work: Path,
    run: Run,
    tiny_clip: Path,
    result: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Result]:
    """Runs a command in the folder ``work``."""
    monkeypatch.chdir(work)
    evaluation = tmp_path / "result.json"
    evaluation.write_text(json.dumps(result))
    places = {"MODEL": str(tiny_clip), "RESULT": str(evaluation)}

    def invoke(line: str, *more: str) -> Result:
        name, *args = [places.get(word, word) for word in (*line.split(), *more)]
        return CliRunner().invoke(COMMANDS[name], args)

    return invoke


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(result: Result, *expected: str) -> None:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.count("\n") == 1, result.stderr
    assert [text for text in expected if text not in result.stderr] == [], result.stderr


def test_every_option_that_writes_is_in_the_table():
    found = set()
    for name, command in COMMANDS.items():
        for param in command.get_params(click.Context(command)):
            if isinstance(param.type, OutputPath):
                found.add((name, param.name))
            elif isinstance(param.type, click.Path | click.File):
                assert isinstance(param.type, click.Path), (name, param.name)
                assert param.type.exists, (
                    f"{name}: {param.opts} may be written to: declare it as an OutputPath"
                )
    assert found == WRITING.keys()


def put_photo(path: Path, work: Path) -> None:
    """Let a photograph have the name, whatever its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((work / "photos/p1.png").read_bytes())


@pytest.mark.parametrize("option", WRITING, ids="-".join)
def test_a_file_of_others_stays(option: tuple[str, str], work: Path, type_in: Run):
    put_photo(work / WRITING[option][1], work)
    before = contents(work)
    refused(type_in(line_of(option[0])), "--force")
    assert contents(work) == before


@pytest.mark.parametrize("command", [name for name in BASES if name != "demo"])  # which takes a minute
def test_a_file_of_others_is_replaced_with_force_and_ours_without(command: str, work: Path, type_in: Run):
    files = [work / written for (name, _), (_, written) in WRITING.items() if name == command]
    for path in files:
        put_photo(path, work)
    done = type_in(line_of(command), "--force")
    assert done.exit_code == 0, done.output
    photo = (work / "photos/p1.png").read_bytes()
    assert [path for path in files if path.read_bytes() == photo] == []
    again = type_in(line_of(command))
    assert again.exit_code == 0, again.output


@pytest.fixture(scope="session")
def two_stores(finished: Path, embedder: ClipEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``d`` with two photographs of one name, its stores ``s`` and ``d/s``, and a stream, ``lone/a.clp``."""
    work = Path(shutil.copytree(finished, tmp_path_factory.mktemp("two") / "work"))
    (work / "d").mkdir()
    for seed, name in enumerate(("a.jpg", "a.png")):
        make_picture(seed, (40, 30)).save(work / "d" / name)
    for store in (work / "s", work / "d/s"):
        encode_source(work / "d", store, embedder, FeatureStore.open(work / "store").codec, workers=0)
    shutil.copy(work / "store/diffusion_unet_final.pt", work / "s")
    (work / "lone").mkdir()
    for name in ("a.clp", "codec.json"):
        shutil.copy(work / "s" / name, work / "lone")
    return work


@pytest.fixture
def pair(two_stores: Path, work: Path) -> Path:
    """The same in ``work``."""
    return Path(shutil.copytree(two_stores, work, dirs_exist_ok=True))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"decode s -o d {QUICK}", "d/a.png"),
        ("decode s -o d --preview", "d/a.png"),
        ("decode d/s -o d --preview", "d/a.png"),
        (f"reconstruct_diffusion --store-dir s --out d {QUICK}", "d/a.png"),
        ("decode s/a.clp -o d/a.jpg --preview", "d/a.jpg"),
        ("search s --image d/a.png --sheet d/a.png", "read by the same command"),
        ("search s sky --sheet d/a.jpg", "d/a.jpg"),
        ("encode d/a.png -o d/a --codec s --force --json d/a", "d/a"),
        ("encode d -o d --codec store", "other things in this folder (a.jpg and 2 more)"),
        ("encode d/a.png -o s/a.clp --codec s", "belongs to the store"),
        ("transcode s/a.clp -o s/a.clp", "read by the same command"),
        ("transcode lone/a.clp -o ./lone/a.clp", "read by the same command"),
        ("transcode s -o photos", "other things"),
        ("fit store -o s/codec.json", "streams of the store"),
        ("fit photos -o d/s/codec.json --model MODEL", "streams of the store"),
        ("info s --json s/codec.json", "codec.json"),
        ("info s --json s/manifest.sqlite", "manifest.sqlite"),
        ("encode d -o new --codec store --json new/codec.json", "both written here"),
        ("eval s --json d/a.jpg", "d/a.jpg"),
        ("eval s --html new --json new", "both written here"),
        ("eval s --table new.csv --table ./new.csv", "both written here"),
        ("eval s --external lone/codec.json --json lone/codec.json", "read by the same command"),
        (f"train s {TINY}", "not trained in this store"),
    ],
)
def test_inputs_and_the_pictures_of_stores_stay(line: str, expected: str, pair: Path, type_in: Run):
    before = contents(pair)
    refused(type_in(line), expected)
    assert contents(pair) == before


def other_name(path: Path, how: str) -> Path:
    """Another name of the same file."""
    name = path.with_name(f"{how}{path.suffix}")
    if how == "hard":
        os.link(path, name)
    elif how == "soft":
        name.symlink_to(path.name)
    else:
        return Path(f"lone/../lone/{path.name}")
    return name


@pytest.mark.parametrize("how", ["hard", "soft", "dots"])
def test_an_input_stays_by_whatever_name(how: str, pair: Path, type_in: Run):
    stream = pair / "lone/a.clp"
    before = stream.read_bytes()
    line = f"transcode lone/a.clp --layers semantic -o {other_name(stream, how)}"
    refused(type_in(line), "lone/a.clp, which is read by the same command")
    assert stream.read_bytes() == before
    done = type_in(line, "--force")
    assert done.exit_code == 0, done.output
    assert len(stream.read_bytes()) < len(before) or how == "hard"  # a hard link's other name keeps its file


def test_what_was_decoded_and_encoded_again_is_a_source_like_any_other(pair: Path, type_in: Run):
    for line in (
        f"decode store -o decoded {QUICK}",
        f"decode store -o decoded {QUICK}",
        "encode decoded -o new --codec store --quiet",
    ):
        done = type_in(line)
        assert done.exit_code == 0, done.output
    before = contents(pair)
    refused(type_in(f"decode new -o decoded {QUICK}"), "was made from this picture")
    assert contents(pair) == before


def test_pictures_of_ours_and_of_others_are_told_apart(pair: Path, type_in: Run):
    save_image(make_picture(5), pair / "ours.png")
    make_picture(5).save(pair / "theirs.png")
    (pair / "empty.png").touch()
    for name in ("ours", "empty", "new"):
        done = type_in(f"decode lone/a.clp --preview -o {name}.png")
        assert done.exit_code == 0, done.output
    refused(type_in("decode lone/a.clp --preview -o theirs.png"), "clip-codec wrote", "--force")


def test_an_interrupted_store_is_gone_on_with(pair: Path, type_in: Run):
    (pair / "begun/.encode").mkdir(parents=True)
    (pair / "begun/.lock").touch()
    (pair / "tables").mkdir()
    shutil.copy(pair / "store/codec.json", pair / "tables")
    for store in ("begun", "tables", "s"):
        done = type_in(f"encode d -o {store} --codec store --quiet")
        assert done.exit_code == 0, done.output


def test_of_a_store_only_the_names_that_are_asked_for_are_looked_at(pair: Path, type_in: Run):
    out, theirs = pair / "chosen", pair / "chosen/p1.png"
    put_photo(theirs, pair)
    before = theirs.read_bytes()
    for _ in range(2):
        done = type_in("decode store -o chosen --preview --name p0")
        assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {"p0.png", "p1.png"}
    refused(type_in("decode store -o chosen --preview --name p1"), "p1.png", "--force")
    refused(type_in("decode store -o chosen --preview"), "p1.png", "--force")
    assert theirs.read_bytes() == before


def test_what_was_decoded_before_is_no_reason_to_look_at_all_sources(
    pair: Path, type_in: Run, monkeypatch: pytest.MonkeyPatch
):
    assert type_in("decode store -o decoded --preview").exit_code == 0
    monkeypatch.setattr(check, "_pictures_of", lambda inputs: pytest.fail("looked at"))
    assert type_in(f"decode store -o decoded {QUICK}").exit_code == 0
