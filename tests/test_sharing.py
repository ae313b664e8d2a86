"""Codecs as packs: saved, moved, pushed to a hub, and used from there as if they were here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from clip_feature_codec import ClipCodec
from clip_feature_codec.codec.feature_codec import FeatureCodec
from clip_feature_codec.codec.space import ClipSpace
from clip_feature_codec.embed import ClipEmbedder
from clip_feature_codec.errors import CheckpointError, OutputError
from clip_feature_codec.packs import pack_folder
from clip_feature_codec.sharing import save_pack
from hub_server import Hub, running_hub
from samples import make_picture, make_store

PARTS = [
    "README.md",
    "clip/open_clip_config.json",
    "clip/open_clip_model.safetensors",
    "codec.json",
    "decoder/config.json",
    "decoder/model.safetensors",
]


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def store(embedder: ClipEmbedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("shared"), embedder)


@pytest.fixture(scope="module")
def pack(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs") / "ours"
    ClipCodec.load(store, device="cpu").save_pretrained(folder, license="cc0-1.0")
    return folder


def painted(codec: ClipCodec, blob: bytes) -> bytes:
    return codec.decode(blob, steps=2, size=16).tobytes()


def test_a_pack_is_whole_wherever_it_is(store: Path, pack: Path, tiny_clip: Path, tmp_path: Path):
    assert sorted(files_in(pack)) == PARTS
    shutil.move(shutil.copytree(pack, tmp_path / "there"), tmp_path / "elsewhere")
    ours = ClipCodec.load(store, device="cpu")
    theirs = ClipCodec.from_pretrained(tmp_path / "elsewhere", device="cpu")
    blob = ours.encode(make_picture(3))
    assert theirs.encode(make_picture(3)) == blob
    assert painted(theirs, blob) == painted(ours, blob)
    places = [str(place).encode() for place in (store, tiny_clip, pack)]
    told = [data for name, data in files_in(pack).items() if not name.endswith(".safetensors")]
    assert [data for data in told if any(place in data for place in places)] == []


def test_its_card_says_what_hubs_read(pack: Path):
    card = ModelCard((pack / "README.md").read_text("utf-8"))
    assert (card.data.license, card.data.library_name) == ("cc0-1.0", "clip-feature-codec")
    assert card.data.pipeline_tag == "image-to-image"
    assert {"clip", "image-compression"} <= set(card.data.tags)
    decoder = ClipCodec.load(pack, device="cpu").decoder
    assert decoder.identity() in card.text
    assert 'ClipCodec.from_pretrained("ours")' in card.text
    built_in = ModelCard((pack_folder("mini") / "README.md").read_text("utf-8"))
    assert (built_in.data.library_name, built_in.data.license) == ("clip-feature-codec", "mit")


def test_the_built_in_pack_saved_and_saved_again_is_the_same_to_the_bit(tmp_path: Path):
    ClipCodec.load(device="cpu").save_pretrained(tmp_path / "mini")
    ClipCodec.from_pretrained(tmp_path / "mini", device="cpu").save_pretrained(tmp_path / "again/mini")
    before, after = files_in(pack_folder("mini")), files_in(tmp_path / "again/mini")
    assert after.pop("README.md") == (tmp_path / "mini/README.md").read_bytes() != before.pop("README.md")
    assert after == before


def test_saved_again_a_pack_keeps_its_card(pack: Path, tmp_path: Path):
    folder = shutil.copytree(pack, tmp_path / "ours")
    (folder / "README.md").write_text("by hand")
    (folder / "notes.txt").write_text("mine")
    before = files_in(folder)
    ClipCodec.load(folder, device="cpu").save_pretrained(folder)
    assert files_in(folder) == before


def test_nothing_is_saved_over_what_streams_need(store: Path, pack: Path, tmp_path: Path):
    codec = ClipCodec.load(pack, device="cpu")
    (tmp_path / "file").touch()
    other = FeatureCodec.fit(np.eye(32, dtype=np.float32), codec.features.space)
    other.save(tmp_path / "other/codec.json")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/codec.json").write_text("{}")
    for place, reason in (
        (store, "is a store"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "other", "has other tables"),
        (tmp_path / "strange", "has other tables"),
    ):
        before = files_in(place)
        with pytest.raises(OutputError, match=reason):
            codec.save_pretrained(place)
        assert files_in(place) == before


def test_weights_that_are_a_pickle_become_safetensors(
    tiny_clip: Path, embedder: ClipEmbedder, tmp_path: Path
):
    from safetensors.torch import load_file

    config = json.loads((tiny_clip / "open_clip_config.json").read_bytes())["model_cfg"]
    (tmp_path / "tiny.json").write_text(json.dumps(config))
    torch.save(load_file(tiny_clip / "open_clip_model.safetensors"), tmp_path / "tiny.pt")
    other = ClipEmbedder.load(str(tmp_path / "tiny.json"), str(tmp_path / "tiny.pt"), device="cpu")
    save_pack(tmp_path / "pack", FeatureCodec.fit(np.eye(32, dtype=np.float32), other.space))
    assert sorted(files_in(tmp_path / "pack")) == [name for name in PARTS if "decoder" not in name]
    codec = ClipCodec.load(tmp_path / "pack", device="cpu")
    assert codec.embedder.space.fingerprint == other.space.fingerprint
    with pytest.raises(CheckpointError, match="train a decoder"):
        codec.decode(codec.encode(make_picture(0)))


def test_a_public_clip_model_is_only_named(tmp_path: Path):
    space = ClipSpace("ViT-B-32", "laion2b_s34b_b79k", "ab" * 32, 8, {})
    save_pack(tmp_path / "pack", FeatureCodec.fit(np.eye(8, dtype=np.float32), space))
    assert sorted(files_in(tmp_path / "pack")) == ["README.md", "codec.json"]
    assert ClipCodec.load(tmp_path / "pack").features.space == space


# What a hub is asked for is asked in a process of its own, which knows no other hub than the test's.

WORKER = """
import json, logging, sys
from io import StringIO
from clip_feature_codec import ClipCodec
from clip_feature_codec.errors import CodecError
sys.path.insert(0, sys.argv[1])
from samples import make_picture
from click.testing import CliRunner
from clip_feature_codec.cli.main import main

def command(line):
    result = CliRunner().invoke(main, line.split())
    return [result.exit_code, result.output]

for code in sys.stdin:
    log = logging.StreamHandler(StringIO())
    logging.getLogger("clip_feature_codec").handlers = [log]
    logging.getLogger("clip_feature_codec").setLevel("INFO")
    try:
        result = eval(json.loads(code))
    except CodecError as error:
        result = f"{type(error).__name__}: {error}"
    print(json.dumps([result, log.stream.getvalue()]), flush=True)
"""

Evaluate = Callable[[str], Any]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def far(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a program that knows this hub, with nothing in its cache."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    home = str(tmp_path_factory.mktemp("home"))
    told = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
    return kept | told | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}


@pytest.fixture(scope="module")
def evaluate(far: dict[str, str]) -> Iterator[Evaluate]:
    """Gives the value of a Python expression there, or the refusal; and what was logged, as ``.log``."""
    here = str(Path(__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, here],
        env=far,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(code: str) -> Any:
            process.stdin.write(json.dumps(code) + "\n")
            process.stdin.flush()
            value, run.log = json.loads(process.stdout.readline())
            return value

        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def pushed(hub: Hub, evaluate: Evaluate, pack: Path) -> str:
    """The pack on the hub as ``ann/pack``; its pinned name."""
    name = evaluate(f"ClipCodec.load({str(pack)!r}).push_to_hub('ann/pack', token='secret', license='mit')")
    assert evaluate.log.startswith("uploading 6 files, ")
    return str(name)


def test_what_is_pushed_is_the_pack_in_one_commit(hub: Hub, pushed: str, pack: Path):
    ((commit, files),) = hub.repositories["ann/pack"].items()
    assert pushed == f"ann/pack@{commit}"
    for name in PARTS[1:3]:
        assert files[name] == files_in(pack)[name]
    assert sorted(files) == PARTS
    card = ModelCard(files["README.md"].decode())
    assert card.data.license == "mit"
    assert 'ClipCodec.from_pretrained("ann/pack")' in card.text


def test_pushed_again_the_card_stays_and_a_branch_is_its_own(hub: Hub, pushed: str, evaluate: Evaluate):
    hub.add("ann/other", {"README.md": b"by hand"})
    again = "ClipCodec.from_pretrained('ann/pack').push_to_hub('ann/other', token='secret', {})"
    name = evaluate(again.format("revision='dev'"))
    first, last = hub.repositories["ann/other"].values()
    assert hub.branches["ann/other", "dev"] == name.partition("@")[2]
    assert first == {"README.md": b"by hand"}
    assert last["README.md"] == b"by hand"
    assert sorted(last) == PARTS


def test_from_the_hub_it_codes_and_paints_as_here(
    hub: Hub, pushed: str, evaluate: Evaluate, pack: Path, tmp_path: Path
):
    here = ClipCodec.load(pack, device="cpu")
    blob = here.encode(make_picture(3))
    loaded = f"ClipCodec.from_pretrained('ann/pack', cache_dir={str(tmp_path)!r}, device='cpu')"
    assert evaluate(f"{loaded}.encode(make_picture(3)).hex()") == blob.hex()
    assert evaluate.log.startswith(f"downloading {pushed}: 6 files, ")
    assert evaluate.log.endswith(f"into {tmp_path}\n")
    hub.requests.clear()
    options = f"revision={pushed.partition('@')[2]!r}, cache_dir={str(tmp_path)!r}, local_files_only=True"
    loaded = f"ClipCodec.from_pretrained('ann/pack', {options}, device='cpu')"
    code = f"{loaded}.decode(bytes.fromhex('{blob.hex()}'), steps=2, size=16).tobytes().hex()"
    assert evaluate(code) == painted(here, blob).hex()
    assert hub.requests == []


def test_its_name_stands_wherever_a_pack_s_does(
    hub: Hub, pushed: str, evaluate: Evaluate, store: Path, tmp_path: Path
):
    photos = store.parent / "photos"
    quick = "--steps 1 --size 16 --device cpu --quiet"

    def command(line: str) -> None:
        status, output = evaluate(f"command({line!r})")
        assert status == 0, output

    command(f"encode {photos} -o {tmp_path}/new --codec ann/pack --device cpu --quiet --workers 0")
    space = FeatureCodec.load(tmp_path / "new/codec.json").space
    assert (space.model, space.pretrained) == (pushed, "pack")
    command(f"decode {tmp_path}/new -o {tmp_path}/out {quick}")
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4
    stream = shutil.copy(tmp_path / "new/p0.clp", tmp_path / "lone.clp")
    command(f"decode {stream} -o {tmp_path}/a.png --codec ann/pack {quick}")
    command(f"decode {stream} -o {tmp_path}/b.png --codec {tmp_path}/new --decoder ann/pack {quick}")
    command(f"eval {tmp_path}/new --decoder ann/pack --limit 1 --json {tmp_path}/r.json {quick}")
    made = json.loads((tmp_path / "r.json").read_bytes())["provenance"]["settings"]
    assert [one["source"] for one in made["decoders"]] == [pushed]
    command(f"info {stream} --codec {pushed}")
    command(f"encode {photos}/p0.png -o {tmp_path}/c.clp --model ann/pack --device cpu")
    whole, *alone = (Image.open(tmp_path / name).tobytes() for name in ("out/p0.png", "a.png", "b.png"))
    assert alone == [whole, whole]
    assert (tmp_path / "c.clp").read_bytes() == Path(stream).read_bytes()


def test_offline_nothing_is_asked_for(
    hub: Hub, pushed: str, far: dict[str, str], store: Path, tmp_path: Path
):
    assert pushed
    hub.requests.clear()
    for home, status in ((far["HF_HOME"], 0), (str(tmp_path), 2)):
        command = [sys.executable, "-c", "from clip_feature_codec.cli.main import main; main()"]
        command += ["decode", str(store / "p0.clp"), "-o", str(tmp_path / "x.png"), "--codec", "ann/pack"]
        done = subprocess.run(
            [*command, "--preview", "--offline"], env=far | {"HF_HOME": home}, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ann/pack is neither here nor, as main, in the cache")
    assert done.stderr.count("\n") == 1
    assert hub.requests == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"decoder/model.bin": b"x"}, "HubError: ann/bad: its weights are a pickle (decoder/model.bin)"),
        ({"clip/open_clip_pytorch_model.bin": b"x"}, "HubError: ann/bad: its weights are a pickle (clip/"),
        ({"diffusion_unet_final.pt": b"x"}, "HubError: ann/bad: its weights are a pickle (diffusion"),
        ({"codec.json": b"{}"}, "StoreError: "),
        ({"codec.json": None}, "StoreError: ann/bad: no pack: there is no codec.json in it"),
    ],
)
def test_what_is_no_pack_is_refused(
    hub: Hub, pushed: str, evaluate: Evaluate, files: dict[str, bytes | None], expected: str
):
    whole = hub.repositories["ann/pack"][pushed.partition("@")[2]]
    folder = next(iter(files)).rpartition("/")[0]
    left = {
        n: d
        for n, d in whole.items()
        if folder in ("", None) or not n.startswith(folder) or n.endswith("json")
    }
    hub.add("ann/bad", {name: data for name, data in (left | files).items() if data is not None})
    assert evaluate("ClipCodec.from_pretrained('ann/bad')").startswith(expected)
    assert "\n" not in evaluate("ClipCodec.from_pretrained('ann/bad')")


def test_a_pack_that_arrives_damaged_is_never_used(hub: Hub, pushed: str, evaluate: Evaluate, tmp_path: Path):
    hub.damaged.add("decoder/model.safetensors")
    loaded = f"ClipCodec.from_pretrained('ann/pack', cache_dir={str(tmp_path)!r}).features.profile"
    assert "decoder/model.safetensors was damaged on its way" in evaluate(loaded)
    assert "decoder/model.safetensors was damaged on its way" in evaluate(loaded)
    hub.damaged.clear()
    assert evaluate(loaded) == "int8"
