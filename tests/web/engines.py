"""Where the modules run in the tests: in node, and in a page of a real browser, both from this checkout."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "src" / "clip_feature_codec" / "web"

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed here")
RUNTIME = ROOT / "recipes" / "web" / "node_modules" / "onnxruntime-web"
needs_runtime = pytest.mark.skipif(
    not RUNTIME.is_dir(), reason="ONNX Runtime Web is not there: npm install --prefix recipes/web"
)

Call = Callable[[str, str, Any], Any]
"""Calls a function that a module of the tests exports, with one argument."""


def in_node(module: str, function: str, argument: Any) -> Any:
    """See `Call`."""
    program = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ {function} as called }} from "{(ROOT / "tests/web" / module).as_uri()}";
        process.stdout.write(JSON.stringify(await called(JSON.parse(readFileSync(0, "utf8")))));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", program],
        input=json.dumps(argument),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *args: Any, headers: dict[str, str], **options: Any) -> None:
        self._more = headers
        super().__init__(*args, **options)

    def end_headers(self) -> None:
        for name, value in self._more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path, **headers: str) -> Iterator[str]:
    """A folder at an address of this machine's own, with headers whose names have ``_`` for ``-``."""
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    handler = functools.partial(_Quiet, directory=folder, headers=more)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
