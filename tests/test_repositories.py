"""Repositories on a hub: whole files with the right hash, or a line that says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clip_feature_codec.names import is_hub_name
from hub_server import Hub, running_hub

WEIGHTS, TABLES = "decoder/model.safetensors", "codec.json"
FILES = {TABLES: b"{}", WEIGHTS: bytes(range(256)) * 400}

LOOK = """
import io, json, logging, sys
from clip_feature_codec.errors import HubError
from clip_feature_codec.hub import look
logging.getLogger("clip_feature_codec").setLevel(logging.INFO)
for asked in sys.stdin:
    cache, name, *options = json.loads(asked)
    lines = []
    handler = logging.StreamHandler(io.StringIO())
    logging.getLogger("clip_feature_codec").addHandler(handler)
    try:
        found = look(name, cache_dir=cache, local_files_only="offline" in options)
        if "safe" in options:
            found.require_safe()
        lines = [found.pinned, str(found.download(found.files))]
    except HubError as error:
        lines = [f"refused: {error}"]
    logging.getLogger("clip_feature_codec").removeHandler(handler)
    print(json.dumps(handler.stream.getvalue().splitlines() + lines), flush=True)
"""

Ask = Callable[..., list[str]]


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub) -> Hub:
    """One that has ``ann/pack``, and none of the faults."""
    server.repositories.clear()
    server.requests.clear()
    server.damaged.clear()
    server.cut.clear()
    server.half_sent.clear()
    server.add("ann/pack", FILES)
    return server


def asked_of(endpoint: str) -> subprocess.Popen[str]:
    """A process that downloads repositories from this hub: it reads a question a line, and answers in one."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.Popen(
        [sys.executable, "-c", LOOK],
        env=kept | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def put(process: subprocess.Popen[str], *question: object) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps([str(word) for word in question]) + "\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    lines: list[str] = json.loads(process.stdout.readline())
    return lines


@pytest.fixture(scope="module")
def process(server: Hub) -> Iterator[subprocess.Popen[str]]:
    with asked_of(server.endpoint) as process:
        yield process


@pytest.fixture
def ask(hub: Hub, process: subprocess.Popen[str], tmp_path: Path) -> Ask:
    """Downloads all of a repository; what is logged and then its pinned name and folder, or the refusal."""

    def run(*args: str) -> list[str]:
        put(process, tmp_path, *args)
        return answer(process)

    return run


def contents(folder: str) -> dict[str, bytes]:
    root = Path(folder)
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_what_is_downloaded_is_told_before_and_kept(hub: Hub, ask: Ask, tmp_path: Path):
    (commit,) = hub.repositories["ann/pack"]
    remark, pinned, folder = ask("ann/pack")
    assert remark == f"downloading ann/pack@{commit}: 2 files, 102 kB, into {tmp_path}"
    assert pinned == f"ann/pack@{commit}"
    assert contents(folder) == FILES
    hub.requests.clear()
    for args in (("ann/pack", "offline"), (pinned,), (f"ann/pack@{commit}", "offline")):
        assert ask(*args) == [pinned, folder]
    assert hub.requests == []
    assert ask("ann/pack") == [pinned, folder]  # whether there is a newer one is asked for
    assert hub.sent("") == 0


def test_a_new_commit_is_taken_and_the_old_one_is_still_there(hub: Hub, ask: Ask):
    *_, first, old = ask("ann/pack")
    commit = hub.add("ann/pack", FILES | {TABLES: b"[]"})
    remark, pinned, folder = ask("ann/pack")
    assert remark.startswith(
        f"downloading ann/pack@{commit}: 1 file, 2 bytes, into"
    )  # the weights are the same
    assert pinned == f"ann/pack@{commit}"
    assert contents(folder)[TABLES] == b"[]"
    assert ask(first, "offline") == [first, old]
    assert contents(old) == FILES


@pytest.mark.parametrize("name", [WEIGHTS, TABLES])
def test_a_file_with_another_hash_is_never_used(hub: Hub, ask: Ask, name: str):
    hub.damaged.add(name)
    for _ in range(2):  # the bad file is not taken for a good one the second time
        *_, line = ask("ann/pack")
        assert line.startswith(f"refused: ann/pack: {name} was damaged on its way: its hash is "), line
        assert "run the same command again" in line
    hub.damaged.clear()
    *_, folder = ask("ann/pack")
    assert contents(folder) == FILES


@pytest.mark.parametrize("name", ["../../../kept.json", "decoder/../../../../kept.json", "/kept.json"])
def test_a_name_that_leads_out_of_the_repository_is_refused(hub: Hub, ask: Ask, tmp_path: Path, name: str):
    """Else a file of the user's would be taken for a damaged download, and deleted."""
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    hub.add("ann/hostile", FILES | {name: b"theirs"})
    for _ in range(2):  # such a name means something once the folder is there
        assert ask("ann/hostile") == [f"refused: ann/hostile: the name {name!r} leads out of the repository"]
        assert kept.read_text() == "mine"


def test_a_file_that_was_changed_in_the_cache_is_found(hub: Hub, ask: Ask):
    *_, folder = ask("ann/pack")
    (Path(folder) / WEIGHTS).resolve().write_bytes(b"x" * len(FILES[WEIGHTS]))
    assert "damaged" in ask("ann/pack", "offline")[-1]
    *_, folder = ask("ann/pack")
    assert contents(folder) == FILES


def test_a_download_that_is_killed_is_never_used_and_begun_anew(hub: Hub, ask: Ask, tmp_path: Path):
    hub.cut.add(WEIGHTS)
    with asked_of(hub.endpoint) as process:
        put(process, tmp_path, "ann/pack")
        assert hub.half_sent.wait(30)
        process.kill()
    assert any(tmp_path.rglob("*.incomplete"))
    hub.cut.clear()
    (line,) = ask("ann/pack", "offline")
    assert line.startswith("refused: ann/pack is neither here nor, as main, in the cache"), line
    *_, folder = ask("ann/pack")
    assert contents(folder) == FILES


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "decoder.pt"])
def test_weights_that_could_run_are_refused_unseen(hub: Hub, ask: Ask, pickle: str):
    hub.add("ann/pickled", {"config.json": b"{}", pickle: b"\x80" * 2000})
    (line,) = ask("ann/pickled", "safe")
    assert line.startswith(f"refused: ann/pickled: its weights are a pickle ({pickle})"), line
    assert hub.sent("") == 0
    hub.add("ann/pickled", {"config.json": b"{}", pickle: b"\x80" * 2000, "model.safetensors": b"good"})
    assert ask("ann/pickled", "safe")[-1].startswith("/")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ann/nothing", "ann/nothing is neither here nor at"),
        ("ann/pack@dev", "ann/pack has no revision 'dev'"),
        ("no name", "'no name' is no name on a hub"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(ask: Ask, name: str, expected: str):
    (line,) = ask(name)
    assert line.startswith(f"refused: {expected}"), line


def test_without_a_network_what_is_in_the_cache_is_taken(ask: Ask, tmp_path: Path):
    with asked_of("http://127.0.0.1:9") as alone:  # where nobody listens
        put(alone, tmp_path, "ann/pack")
        (line,) = answer(alone)
        assert line.startswith("refused: ann/pack: http://127.0.0.1:9/ann/pack cannot be reached: ")
        *_, pinned, folder = ask("ann/pack")
        put(alone, tmp_path, "ann/pack")
        remark, *found = answer(alone)
    assert "taking what is in the cache, commit" in remark
    assert found == [pinned, folder]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann/pack", True),
        ("ann/pack-1.5_x@v1.0", True),
        ("ann/pack@refs/pr/1", True),
        ("mini", False),
        ("/ann/pack", False),
        ("../pack", False),
        ("ann/deep/pack", False),
        ("store/codec.json", False),
        ("store/diffusion_unet_final.pt", False),
        (f"{Path(__file__).parent.name}/golden", False),
    ],
)
def test_a_name_on_a_hub_is_told_from_a_path(text: str, expected: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    assert is_hub_name(text) is expected
