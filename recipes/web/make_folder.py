"""Put together a folder of static files that shows, paints and encodes `.clp` files in a browser.

    npm install --prefix recipes/web
    python recipes/web/make_folder.py OUT

It holds the npm package (`src/` and what goes with it), `mini/`, the built-in pack, and `ort/`, ONNX Runtime
Web. Any server can serve it, and nothing in it asks another one for anything.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import clip_feature_codec
from clip_feature_codec.packs import DEFAULT_PACK, pack_folder

PACKAGE = Path(clip_feature_codec.__file__).with_name("web")
RUNTIME = Path(__file__).with_name("node_modules") / "onnxruntime-web" / "dist"
RUNTIME_FILES = [
    f"ort{kind}"
    for kind in (".wasm.min.mjs", ".webgpu.min.mjs", "-wasm-simd-threaded.mjs", "-wasm-simd-threaded.wasm")
] + [f"ort-wasm-simd-threaded.asyncify.{kind}" for kind in ("mjs", "wasm")]


def make_folder(out: Path) -> None:
    """Copy everything into a folder, which need not be there.

    Raises:
        SystemExit: ONNX Runtime Web has not been fetched.
    """
    if not RUNTIME.is_dir():
        raise SystemExit(f"{RUNTIME}: found nothing; type: npm install --prefix {Path(__file__).parent}")
    pack = pack_folder(DEFAULT_PACK)
    assert pack is not None
    shutil.copytree(PACKAGE, out, dirs_exist_ok=True)
    shutil.copytree(pack, out / DEFAULT_PACK, dirs_exist_ok=True)
    (out / "ort").mkdir(exist_ok=True)
    for name in RUNTIME_FILES:
        shutil.copy(RUNTIME / name, out / "ort")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    make_folder(parser.parse_args().out)


if __name__ == "__main__":
    main()
