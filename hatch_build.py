"""Compiles the loops of the codec, C beside its Python, into libraries inside the package.

    python hatch_build.py    in a checkout: writes the libraries into src/, where Python finds them

hatchling runs it for wheels and for editable installations. The compiler is the machine's own (`CC`, or else
`cc`, `gcc` or `clang`) where it makes libraries, since that is there at once and knows its machine; and
elsewhere the one in the package ziglang, which pip fetches for the build alone.

There is one library for every processor of a kind, and on x86-64 one more for those with AVX2, which nearly
all have, and one for those with AVX-512; codec/native.py chooses. They need nothing of Python, and of C's
library no more than `memcpy` and `memset`, so that one wheel does for every Python of a platform.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CODEC = Path("src", "clip_feature_codec", "codec")
ZIG = "ziglang>=0.13"
SUFFIX = {"Windows": ".dll", "Darwin": ".dylib"}.get(platform.system(), ".so")
X86 = platform.machine().lower() in ("x86_64", "amd64")
MACOS = "11.0"  # the oldest one that the library runs on

# No operation may be rounded otherwise on one processor than on another: so none are contracted.
FLAGS = ["-std=c11", "-O3", "-ffp-contract=off", "-shared", "-fvisibility=hidden"]
if platform.system() != "Windows":
    FLAGS += ["-fPIC"]
if platform.system() == "Darwin":
    FLAGS += [f"-mmacosx-version-min={MACOS}"]
# What a library's name ends in, and for which processors it is, in flags of the machine's compiler and zig's.
# (Compilers take half of AVX-512's registers unless told otherwise, and gather from tables where the named
# processor is quick at that.)
LEVELS: dict[str, tuple[list[str], list[str]]] = (
    {
        SUFFIX: (["-march=x86-64-v2"], ["-mcpu=x86_64_v2"]),
        f".v3{SUFFIX}": (["-march=x86-64-v3"], ["-mcpu=x86_64_v3"]),
        f".v4{SUFFIX}": (
            ["-march=x86-64-v4", "-mtune=icelake-server", "-mprefer-vector-width=512", "-DLANES=16"],
            ["-mcpu=x86_64_v4-prefer_256_bit", "-DLANES=16"],
        ),
    }
    if X86
    else {SUFFIX: (["-O3"], ["-mcpu=baseline"])}
)


def system_compiler() -> list[str] | None:
    """The command of the machine's compiler, if there is one that makes libraries for all levels."""
    named = os.environ.get("CC")
    flags = [flag for flags, _ in LEVELS.values() for flag in flags]
    for name in [named] if named else ["cc", "gcc", "clang"]:
        command = shlex.split(name)
        with tempfile.TemporaryDirectory() as folder:
            trial = Path(folder, "trial.c")
            trial.write_text("#include <stdint.h>\n#include <string.h>\nint32_t one(void) { return 1; }\n")
            if _ran([*command, *flags, *FLAGS, str(trial), "-o", str(trial.with_suffix(SUFFIX))]) is None:
                return command
    return None


def zig_compiler() -> list[str] | None:
    """The command of ziglang's compiler, if that package is installed."""
    return [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else None


def sources_of(root: Path) -> list[Path]:
    """The C files and their headers, in one order everywhere."""
    found = [path for pattern in ("*.c", "*.h") for path in (root / CODEC).rglob(pattern)]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def fingerprint(root: Path) -> str:
    """SHA-256 of the sources. The library says it, so that a test can tell whether it was made of them."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources_of(root))).hexdigest()


def build(root: Path) -> list[Path]:
    """Compile the libraries of a checkout, whole or not at all.

    Returns:
        Where they are.

    Raises:
        SystemExit: there is no compiler, or it fails.
    """
    system = system_compiler()
    compiler = system or zig_compiler()
    if compiler is None:
        sys.exit("hatch_build.py: found no C compiler, expected one; type: pip install ziglang")
    files = [str(path) for path in sources_of(root) if path.suffix == ".c"]
    stamp = f'-DSOURCES="{fingerprint(root)}"'
    with tempfile.TemporaryDirectory(dir=root / CODEC) as folder:
        for suffix, (flags, zig_flags) in LEVELS.items():
            machine = flags if system else zig_flags
            library = str(Path(folder, f"libloops{suffix}"))
            command = [*compiler, *machine, *FLAGS, stamp, *files, "-o", library]
            if (complaint := _ran(command)) is not None:
                sys.exit(f"hatch_build.py: {shlex.join(compiler)}: {complaint}")
        return [made.replace(root / CODEC / made.name) for made in sorted(Path(folder).iterdir())]


def _ran(command: list[str]) -> str | None:
    """Run a compiler; what it complained of where it failed."""
    with tempfile.TemporaryDirectory() as cache:  # zig keeps one, and not every build has a home
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        except OSError as error:
            return str(error)
    return None if done.returncode == 0 else done.stderr


def platform_tag() -> str:
    """The platform of a wheel with the library in it."""
    if platform.system() == "Darwin":
        return f"macosx_{MACOS.replace('.', '_')}_{platform.machine()}"
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def get_build_hook() -> type:
    """The class that hatchling asks this file for; hatchling itself is there only when it does."""
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface

    class LoopsHook(BuildHookInterface):  # type: ignore[misc]
        """Compiles the library for a wheel, or for an installation that looks into the checkout."""

        def dependencies(self) -> list[str]:
            """What pip fetches for the build: a compiler where there is none."""
            return [] if system_compiler() else [ZIG]

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Compile, and say for which machines the wheel is."""
            build(Path(self.root))
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag()}"

    return LoopsHook


if __name__ == "__main__":
    print(*build(Path(__file__).parent), sep="\n")
