"""Write the tables that the browser's decoder needs, from those of the package.

    python recipes/web/make_tables.py src/clip_feature_codec/web/src/tables.js

Run it when the built-in pack gets another codec; a test says when that is forgotten.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clip_feature_codec import ClipCodec

_KINDS = {"information": "Int32Array"}  # all others are int16


def module() -> str:
    """The JavaScript module with the built-in codec's layout tables, base64 inside."""
    codec = ClipCodec.load().features
    tables = codec.layout.to_json()
    lines = [
        f'  {name}: integers({_KINDS.get(name, "Int16Array")}, "{text}"),' for name, text in tables.items()
    ]
    return "\n".join(
        [
            "// Made by recipes/web/make_tables.py from the package's tables: do not edit.",
            "",
            'import { integers } from "./base64.js";',
            "",
            "/** Tables of the layout layer (docs/clp-format.md), and the identity of the built-in codec. */",
            "export const TABLES = {",
            f'  sha256: "{codec.tables_sha256}",',
            f'  profile: "{codec.profile}",',
            *lines,
            "};",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    args.output.write_text(module(), "ascii")


if __name__ == "__main__":
    main()
