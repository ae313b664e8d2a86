"""Faults 12, 13 and 16: how commands end, what all of them have, and what they leave as it was."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from clip_feature_codec.cli import encode_images, reconstruct_diffusion
from clip_feature_codec.cli import eval as eval_module
from clip_feature_codec.cli.main import main
from clip_feature_codec.store.feature_store import FeatureStore

Run = Callable[..., Result]

COMMANDS = [main.get_command(click.Context(main), name) for name in main.list_commands(click.Context(main))]
MODULES = (encode_images.main, reconstruct_diffusion.main, eval_module.main)
PROGRAM = [sys.executable, "-c", "from clip_feature_codec.cli.main import main; main()"]
AGAIN = "interrupted: run the same command again to go on\n"


@pytest.mark.parametrize("command", [*COMMANDS, *MODULES], ids=lambda command: command.name)
def test_fault_13_every_command_has_quiet_and_debug(command: click.Command):
    options = [name for param in command.get_params(click.Context(command)) for name in param.opts]
    assert [name for name in ("--quiet", "--debug", "--help") if options.count(name) != 1] == []


def test_fault_13_quiet_is_an_option_of_info(finished: Path, run: Run):
    loud, quiet = run("info", finished / "store"), run("info", finished / "store", "--quiet")
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, loud.stdout, "")


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("line", "name", "said"),
    [
        ("encode photos -o new --codec store", "clip_feature_codec.encode.encode_source", AGAIN),
        ("transcode store -o new", "clip_feature_codec.store.transcoding.transcode_store", AGAIN),
        ("train store --force", "clip_feature_codec.train.diffusion_train.train_diffusion", AGAIN),
        ("eval store --quiet", "clip_feature_codec.evaluate.evaluation.Evaluator.run", AGAIN),
        ("encode photos/p0.png -o x.clp", "clip_feature_codec.images.load_image", "interrupted\n"),
        ("info store", "clip_feature_codec.store.feature_store.FeatureStore.open", "interrupted\n"),
        ("fit store -o x.json", "clip_feature_codec.fit.store_blocks", "interrupted\n"),
        ("train", "clip_feature_codec.cli.train._training_options", "interrupted\n"),
    ],
)
def test_fault_12_an_interrupted_command_says_what_to_do(
    line: str, name: str, said: str, work: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(work)
    monkeypatch.setattr(name, interrupt)
    result = run(*line.split(), "--debug")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", said)


# A shell that starts its tests in the background has them, and all that they start, ignore SIGINT.
SLOW = """
import signal
import time
signal.signal(signal.SIGINT, signal.default_int_handler)
from clip_feature_codec.encode import reading
from clip_feature_codec.cli.main import main

read = reading.load_image
reading.load_image = lambda *args, **options: time.sleep(0.5) or read(*args, **options)
main()
"""


def test_fault_12_ctrl_c_in_the_middle_and_on_again(work: Path, tmp_path: Path, tiny_clip: Path, ok: Run):
    out = tmp_path / "new"
    args = ["encode", work / "photos", "-o", out, "--model", tiny_clip, "--device", "cpu", "--batch-size", 1]
    program = [sys.executable, "-c", SLOW, *map(str, args), "--workers", "1"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not list(out.glob(".encode/*.npz")):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the workers, too
        said = process.communicate()[1]
    assert (process.returncode, said.endswith(AGAIN), "Traceback" in said) == (130, True, False), said
    assert 1 <= len(list(out.glob(".encode/*.npz"))) < 4
    assert "4 pictures encoded" in ok(*args, "--workers", 0).stderr
    assert len(FeatureStore.open(out)) == 4


@pytest.mark.parametrize(
    ("line", "closed", "status"),
    [
        ("--help", "stdout", 141),
        ("info --help", "stdout", 141),
        ("info store", "stdout", 141),
        ("info store --json -", "stdout", 141),
        ("search store sky --device cpu", "stdout", 141),
        ("transcode store/p0.clp -o -", "stdout", 141),
        ("transcode store/p0.clp -o -", "stderr", 141),
        ("encode nothing -o x", "stdout", 2),
        ("encode nothing -o x", "stderr", 2),
    ],
)
def test_fault_12_a_reader_that_has_gone_ends_a_command_quietly(
    line: str, closed: str, status: int, finished: Path
):
    ours, theirs = os.pipe()
    os.close(ours)  # as head does once it has seen enough
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | {closed: theirs}
    done = subprocess.run([*PROGRAM, *line.split()], cwd=finished, check=False, **streams)
    os.close(theirs)
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in (done.stderr or b"")
    assert b"roken" not in (done.stderr or b"")


def test_fault_16_a_command_leaves_the_process_as_it_was(work: Path, run: Run):
    def state() -> tuple[object, ...]:
        ours = logging.getLogger("clip_feature_codec")
        return (
            logging.getLogger().handlers[:],
            ours.handlers[:],
            ours.level,
            warnings.filters[:],
            dict(os.environ),
        )

    run("info", work / "store")  # what importing changes
    before = state()
    for option in ("--quiet", "--debug"):
        assert run("transcode", work / "store", "-o", work / "new", option).exit_code == 0
        assert run("decode", work / "nothing", "-o", work / "new", option).exit_code == 2
    assert state() == before


def test_remarks_of_the_library_are_seen_by_every_command_and_once(work: Path, run: Run):
    told = "this decoder takes no layouts"
    for option, count in (("--debug", 1), ("--device=cpu", 1), ("--quiet", 0)):
        for _ in range(2):
            args = (work / "store/p0.clp", "-o", work / "x.png", "--steps", 1, "--size", 16, option)
            assert run("decode", *args).stderr.count(told) == count


def test_messages_of_click_are_in_plain_words_and_of_one_length(run: Run):
    assert "'abc' is not a whole number" in run("decode", "-", "-o", "x.png", "--steps", "abc").stderr
    result = run("encode", "-", *(f"photo-{i:04}.jpg" for i in range(1000)), "-o", "x.clp")
    assert (result.exit_code, len(result.stderr) < 400, "photo-0000.jpg" in result.stderr) == (2, True, True)
    assert result.stderr.endswith("... (see main encode --help)\n")
