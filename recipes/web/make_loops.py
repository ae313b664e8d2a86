"""Compile the codec's loops for browsers: those that code a vector and a layout, in WebAssembly.

    pip install ziglang
    python recipes/web/make_loops.py src/clip_feature_codec/web/src/encoding/loops.wasm

Run it when what they write changes; a test holds the streams of both to each other.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

CODEC = Path(__file__).parents[2] / "src" / "clip_feature_codec" / "codec"
SOURCES = ("semantic/payloads.c", "semantic/trellis.c", "layout/payloads.c", "layout/trellis.c")
EXPORTS = ("semantic_code", "semantic_code_size", "layout_code", "layout_code_size", "__heap_base")
FLAGS = ["-target", "wasm32-freestanding", "-std=c11", "-O2", "-fno-builtin", "-nostdlib"]
FLAGS += ["-DLANES=2", "-DALONE(count)=1"]  # a page codes one at a time; two lanes are the least
# All that the loops ask of C's library.
HEADER = """
typedef __SIZE_TYPE__ size_t;
void *memcpy(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
"""
MEMORY = """
#include <string.h>
void *memcpy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int value, size_t size)
{
    for (size_t i = 0; i < size; i++)
        ((char *)to)[i] = (char)value;
    return to;
}
"""


def compile_loops(output: Path) -> None:
    """Write the WebAssembly program."""
    linking = ["--no-entry", "--strip-all", "--gc-sections", *(f"--export={name}" for name in EXPORTS)]
    with TemporaryDirectory() as folder:
        Path(folder, "string.h").write_text(HEADER, "ascii")
        memory = Path(folder, "memory.c")
        memory.write_text(MEMORY, "ascii")
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, f"-I{folder}"]
        command += [f"-Wl,{word}" for word in linking]
        command += [*(str(CODEC / name) for name in SOURCES), str(memory), "-o", str(output.resolve())]
        cache = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        subprocess.run(command, check=True, env={**os.environ, **cache})
    output.chmod(0o644)  # linkers make programs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("output", type=Path)
    compile_loops(parser.parse_args().output)


if __name__ == "__main__":
    main()
