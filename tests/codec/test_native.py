"""The loops in C: made of the sources, called as they must be, and within their bounds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from test_layout import CODER, layouts
from test_trellis import LAMBDA, coded, drawn

import clip_feature_codec
from clip_feature_codec.codec import native
from clip_feature_codec.codec.entropy.magnitudes import Magnitudes, builtin
from clip_feature_codec.codec.entropy.quantisers import ROOM
from clip_feature_codec.codec.layout import payloads as layout_payloads
from clip_feature_codec.codec.layout import trellis as layout_trellis
from clip_feature_codec.codec.layout.block import step_size
from clip_feature_codec.codec.layout.tables import geometry
from clip_feature_codec.codec.semantic import payloads, trellis
from clip_feature_codec.codec.semantic.levels import fill_gains

ROOT = Path(__file__).parents[2]
LIBRARY = Path(native.__file__).with_name(f"libloops{native._SUFFIX}")
LIBRARIES = sorted(LIBRARY.parent.glob("libloops.*"))
COMMAND = "from clip_feature_codec.cli.main import main; main()"
PACKAGE = Path(clip_feature_codec.__file__).parent


def hatch_build() -> ModuleType:
    """The build script."""
    spec = spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_libraries_are_made_of_the_sources():
    assert [path.name for path in LIBRARIES] == sorted(f"libloops{end}" for end in hatch_build().LEVELS)
    for path in LIBRARIES:
        made_of = native.opened(path).loops_sources().decode()
        assert made_of == hatch_build().fingerprint(ROOT), "type: python hatch_build.py"


CODED = """
import hashlib, sys
from pathlib import Path
import numpy as np
from clip_feature_codec.codec import native
from clip_feature_codec.codec.layout.coder import LayoutCoder
from clip_feature_codec.codec.semantic.klt import KltCoder
native._PATH = Path(sys.argv[1])  # which is taken: there is none beside it for this processor
unit = np.random.default_rng(3).normal(size=(150, 64)) / np.arange(2, 66)
unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float32)
coder, numbers = KltCoder.fit(unit), np.arange(len(unit))
payloads = coder.encode(unit, numbers) + coder.encode_to_bytes(unit, 5 + numbers)
payloads += coder.encode_to_cosine(unit, 0.98)
layouts, rows = LayoutCoder.builtin(), np.load(sys.argv[2])
payloads += layouts.encode(rows, 20 + 10 * np.arange(len(rows)))
payloads += layouts.encode_to_bytes(rows, np.full(len(rows), 70))
print(hashlib.sha256(b"".join(payloads) + coder.decode(payloads[:450]).tobytes()).hexdigest())
"""


def runnable() -> list[Path]:
    """The library in use, and those beside it that this processor can run, too."""
    levels = range(3, native.opened(native._PATH).loops_level() + 1)
    fast = [native._PATH.with_suffix(f".v{level}{native._SUFFIX}") for level in levels]
    return [native._PATH, *(path for path in fast if path.exists())]


@pytest.mark.skipif(len(runnable()) == 1, reason="this processor runs one of the libraries")
def test_all_levels_of_processors_give_the_same_bytes(tmp_path: Path):
    digests = set()
    for path in runnable():
        alone = shutil.copy(path, tmp_path / f"alone{path.suffixes[0]}.one")
        digests.add(
            subprocess.run(
                [sys.executable, "-c", CODED, alone, ROOT / "tests/golden/klt/layouts.npy"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    assert len(digests) == 1


def test_importing_the_codec_loads_no_loops_and_no_compiler():
    code = """
import clip_feature_codec.codec.feature_codec, clip_feature_codec.codec.semantic.klt, sys
from clip_feature_codec.codec.native import loops
print(loops.cache_info().currsize, "numba" in sys.modules, "cffi" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "0 False False\n"


@pytest.mark.parametrize("there", [False, True])
def test_a_checkout_without_the_library_says_what_to_type(there: bool, tmp_path: Path):
    def left_out(folder: str, names: list[str]) -> set[str]:
        return {name for name in names if name.startswith("libloops") or name.endswith(".safetensors")}

    package = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=left_out)
    if there:
        (package / "codec" / LIBRARY.name).write_bytes(b"for another machine")
    golden = ROOT / "tests/golden/klt"
    options = ["--preview", "--codec", golden, "-o", "out.png"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "decode", golden / "landscape.clp", *options],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert f"compiled loops: found {'another one' if there else 'none'} at {package}" in done.stderr
    assert "type: pip install --editable . (or python hatch_build.py) in the checkout" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3), np.int32), r"found int32 \(2, 3\), expected int64 \(2, 3\) in one piece"),
        (np.zeros((3, 2), np.int64), r"found int64 \(3, 2\), expected"),
        (np.zeros((3, 2), np.int64).T, r"found int64 \(2, 3\) in pieces, expected"),
    ],
)
def test_arrays_that_a_loop_cannot_take_are_refused(array: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        native.address(array, np.int64, 2, 3)


def test_what_must_not_be_written_to_is_refused():
    array = np.zeros(3, np.int64)
    array.flags.writeable = False
    native.address(array, np.int64, 3)
    with pytest.raises(ValueError, match="read-only"):
        native.place(array, np.int64, 3)


def test_too_little_memory_and_wrong_ends_are_refused():
    scales, row = np.full(30, 8), np.full(1, 0)
    out, work = np.empty((1, ROOM * 31), np.uint8), trellis.workspace(30)
    vectors = payloads.Vectors(drawn(1, scales, 0).astype(np.float64), scales, row, row, np.ones(1))
    with pytest.raises(ValueError, match="memory: found"):
        payloads.code(vectors, row, builtin(), trellis.MACHINE, trellis.workspace(29), out)
    with pytest.raises(ValueError, match=r"found 30 scales and rows \[1\], expected those of 1 vectors"):
        payloads.code(vectors._replace(rows=row + 1), row, builtin(), trellis.MACHINE, work, out)
    for ends in ([0, 4], [-1, 3], [2, 1]):
        with pytest.raises(ValueError, match="expected rising numbers from 0 to 3"):
            payloads.decode(
                np.zeros(3, np.uint8),
                np.array(ends),
                scales,
                row,
                builtin(),
                trellis.MACHINE,
                np.empty((1, 30), np.int64),
            )


def test_threads_give_what_one_gives():
    scales = np.arange(60, -40, -1)
    rows = drawn(200, scales, 3, (1.0, 4.0))
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda part: coded(part, scales), np.split(rows, 8))
        assert list(chain(*parts)) == coded(rows, scales)


def information_of(places: np.ndarray, symbols: np.ndarray, tables: Magnitudes) -> float:
    """Bits of symbols that fit into their tables, (n,); ``places`` (n, 3) are rows, shifts and quantisers."""
    row, shift, quantiser = places.T
    assert (shift == 0).all()
    shares = np.diff(tables.starts, axis=-1)[row, quantiser, np.abs(symbols)] / 2**15
    return float(-np.log2(shares).sum() + np.count_nonzero(symbols))


def test_addresses_are_those_that_vectors_are_coded_with():
    """A stream is as long as the information of its symbols in the tables that are named."""
    levels = np.sort(np.random.default_rng(4).integers(-40, 25, 300))[::-1].copy()
    for target in drawn(20, levels, 5, (0.5, 1.0, 1.5)):
        gains, symbols = np.empty(300, np.int32), np.empty_like(levels)
        assert fill_gains(levels, builtin(), gains) == 300
        work = trellis.workspace(300)
        trellis.quantise(target, levels, gains, LAMBDA, builtin(), trellis.MACHINE, work, symbols)
        places = payloads.addresses(symbols, levels, gains, builtin(), trellis.MACHINE)
        bits = information_of(places, symbols, builtin())
        assert bits - 8 < 8 * len(coded(target[None], levels)[0]) < bits + 9


def test_addresses_are_those_that_layouts_are_coded_with():
    tables, machine = CODER.tables, layout_trellis.MACHINE
    for row in layouts():
        targets = np.rint((row - tables.mean) * 2.0**21 / step_size(66)).astype(np.int64)
        symbols, quantisers = np.zeros((2, len(row)), np.int64)
        work = layout_trellis.workspace(len(row))
        layout_trellis.quantise(targets, 66, 1250, tables, geometry(), machine, work, symbols, quantisers)
        step, whole = np.array([66]), (row - tables.mean).astype(np.int64)
        ends = np.full((1, 3), len(row))
        given = layout_payloads.Layouts(whole[None], step, np.array([step_size(66)]), ends)
        workspace = layout_payloads.Workspace(1, tables, geometry(), machine)
        (stream,), *_ = layout_payloads.code(given, np.array([1250]), workspace)
        places, features = layout_payloads.addresses(symbols, 66, tables, geometry(), machine)
        coefficient, start, quantiser, shift, at_row = places.T
        assert (quantiser == quantisers[coefficient]).all()
        assert (start == tables.scales[coefficient] - 16 * 66).all()
        moved = (features * tables.weights[geometry().groups[coefficient]]).sum(axis=1) >> 8
        level = np.minimum(start + moved, 13 * 256) >> 4
        assert (at_row[shift == 0] == np.maximum((level >> 1) + 40, 0)[shift == 0]).all()
        if (shift == 0).all():
            places = np.stack([at_row, shift, quantiser], axis=1)
            bits = information_of(places, symbols[coefficient], tables.magnitudes)
            assert bits - 8 < 8 * len(stream) < bits + 9


SANITISED = """
import sys
from pathlib import Path
from clip_feature_codec.codec import native
native._PATH = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from test_fuzz import GOLDEN, FeatureCodec, hammer
import test_coarse, test_golden, test_native, test_near_pairs, test_trellis
for profile in ("int8", "klt"):
    for name in test_golden.CASES:
        test_golden.test_files_decode(profile, name)
        test_golden.written_again(profile, name)
    files = [file.read_bytes() for file in sorted((GOLDEN / profile).glob("*.clp"))]
    hammer(FeatureCodec.load(GOLDEN / profile / "codec.json"), files, 100_000, slowest=10)
test_trellis.test_any_targets_come_back_near()
test_trellis.test_any_bytes_decode_or_are_refused()
test_near_pairs.test_pairs_are_those_of_all()
test_coarse.test_sums_are_those_of_the_formula()
test_native.test_addresses_are_those_that_layouts_are_coded_with()
test_native.test_addresses_are_those_that_vectors_are_coded_with()
print("clean")
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_nothing_outside_of_arrays_is_touched(tmp_path: Path):
    """All of it once more under the address and the undefined-behaviour sanitiser, which abort."""
    script = hatch_build()
    compiler = script.system_compiler()
    if compiler is None:
        pytest.skip("no C compiler that may have sanitisers")
    library = tmp_path / f"sanitised{script.SUFFIX}"
    flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", '-DSOURCES="none"']
    sources = [path for path in script.sources_of(ROOT) if path.suffix == ".c"]
    subprocess.run([*compiler, *script.FLAGS, *flags, *sources, "-o", library], check=True)
    linked = subprocess.run(["ldd", library], capture_output=True, text=True, check=True).stdout
    preloaded = next(line.split()[2] for line in linked.splitlines() if "libasan" in line)
    done = subprocess.run(
        [sys.executable, "-c", SANITISED, library, Path(__file__).parent],
        env={**os.environ, "LD_PRELOAD": preloaded, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "clean\n"
