"""The rules that keep the package's parts apart, read off the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import clip_feature_codec

PACKAGE = "clip_feature_codec"
ROOT = Path(clip_feature_codec.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
ROOM_OF = {
    "open_clip": ROOT / "embed/openclip",
    "transformers": ROOT / "embed/transformers",
    "diffusers": ROOT / "decoders/diffusers",
}
"""Libraries that one room alone imports."""

# From the top down; a group imports from itself and from the levels below it.
LEVELS = [
    {"cli"},
    {"serve"},
    {"desktop", "pillow", "thumbnailer"},
    {"api", "evaluate"},
    {"distributed", "fit", "sharing"},
    {"encode", "reconstruct", "decoding", "train", "outputs"},
    {"decoders"},
    {"store", "embed", "diffusion", "preview", "sources"},
    {"bundle"},
    {"codec", "images"},
    {"graphs", "parallel"},
    {"devices", "hub", "links", "packs", "progress", "stream_source", "weights"},
    {"files"},
    {"arguments", "extras"},
    {"errors", "names", "places", "lazy", "__init__"},
]
HEIGHT = {group: -level for level, groups in enumerate(LEVELS) for group in groups}


def group_of(path: Path) -> str:
    """The group of a module: the first part of its place in the package."""
    first = path.relative_to(ROOT).parts[0]
    return first.removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Every import in a module, wherever it stands, as (module, name); the name is empty for a plain one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            yield from ((str(node.module), alias.name) for alias in node.names)


def groups_imported(tree: ast.AST) -> set[str]:
    """The groups of this package that a module imports from."""
    found = set()
    for module, name in imports(tree):
        package, _, inside = module.partition(".")
        if package != PACKAGE:
            continue
        group = inside.partition(".")[0] or ("api" if name == "ClipCodec" else name)
        found.add(group if group in HEIGHT else "__init__")
    return found


def upward(group: str, tree: ast.AST) -> set[str]:
    """The groups that a module of ``group`` must not import from, and does."""
    return {other for other in groups_imported(tree) if other != group and HEIGHT[other] >= HEIGHT[group]}


def outside(tree: ast.AST) -> set[str]:
    """The packages that a module imports from, this one left out."""
    return {module.partition(".")[0] for module, _ in imports(tree)} - {PACKAGE}


def attributes(tree: ast.AST) -> set[str]:
    """The names of all attributes that a module reads or sets."""
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def keyword_of(call: ast.Call, name: str) -> object:
    """The constant that a call passes under ``name``."""
    values = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return values[0].value if values and isinstance(values[0], ast.Constant) else None


def unsafe_loads(tree: ast.AST) -> list[int]:
    """The lines with a load that would run what lies in a pickle."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called.endswith("torch.load") and keyword_of(node, "weights_only") is not True:
            lines.append(node.lineno)
        if keyword_of(node, "allow_pickle") is True or keyword_of(node, "weights_only") is False:
            lines.append(node.lineno)
    return lines


def test_the_page_lists_the_rooms_from_the_top_down():
    """docs/architecture.md says what the imports say."""
    page = (ROOT.parents[1] / "docs" / "architecture.md").read_text("utf-8")
    table = page[page.index("| from the top down") : page.index("In `codec/`")]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    rooms = [room for cell in cells for room in re.findall(r"`(\w+)/?`", cell)]
    assert sorted(rooms) == sorted(HEIGHT.keys() - {"__init__"})
    heights = [HEIGHT[room] for room in rooms]
    assert heights == sorted(heights, reverse=True)


def test_the_picture_shows_the_rooms_from_the_top_down():
    picture = (ROOT.parents[1] / "docs" / "architecture.svg").read_text("utf-8")
    rows = re.findall(r'<svg x="\d+" y="(\d+)".*?class="name"[^>]*>([^<]+)<', picture)
    shown = [(int(y), room) for y, names in rows for room in re.findall(r"\w+", names.replace("&#160;", " "))]
    assert sorted(room for _, room in shown) == sorted(HEIGHT.keys() - {"__init__"})
    for y, room in shown:
        for other_y, other in shown:
            assert y <= other_y or HEIGHT[room] <= HEIGHT[other], (room, other)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_keeps_the_rules(path: Path):
    tree, group = ast.parse(path.read_text("utf-8")), group_of(path)
    assert group in HEIGHT, "a new group: give it its level above"
    # The package itself hands out ClipCodec, but only when it is asked for (see test_import).
    assert upward(group, tree) <= ({"api"} if group == "__init__" else set())
    if group == "codec":
        assert "torch" not in outside(tree)
    if group not in ("decoders", "diffusion", "train"):  # others know a decoder by its protocol alone
        assert attributes(tree) & {"unet", "scheduler", "upsampler"} == set()
    for library, room in ROOM_OF.items():
        assert library not in outside(tree) or path.is_relative_to(room)
    if group not in {"store", "encode"}:  # whoever reads a store takes it of any kind
        assert "FeatureStore" not in {name for _, name in imports(tree)}
    assert outside(tree) & {"pickle", "dill", "joblib", "shelve", "marshal"} == set()
    assert unsafe_loads(tree) == []
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("library", ROOM_OF)
def test_the_room_that_may_import_a_library_does(library: str):
    room = ROOM_OF[library]
    assert library in {
        name for path in room.glob("*.py") for name in outside(ast.parse(path.read_text("utf-8")))
    }


@pytest.mark.parametrize(
    ("group", "source", "expected"),
    [
        ("codec", "from clip_feature_codec.store.manifest import Entry", {"store"}),
        ("store", "from clip_feature_codec import embed", {"embed"}),
        ("train", "def f():\n    import clip_feature_codec.encode", {"encode"}),
        ("encode", "from clip_feature_codec import ClipCodec", {"api"}),
        ("errors", "from clip_feature_codec.files import write_atomic", {"files"}),
        ("evaluate", "from clip_feature_codec.api import ClipCodec", {"api"}),
        ("evaluate", "from clip_feature_codec.reconstruct import paint\nimport numpy", set()),
        ("files", "from clip_feature_codec import __version__", set()),
        ("diffusion", "from clip_feature_codec.diffusion import unet", set()),
    ],
)
def test_imports_against_the_arrow_are_found(group: str, source: str, expected: set[str]):
    assert upward(group, ast.parse(source)) == expected


@pytest.mark.parametrize(
    "source", ["torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)"]
)
def test_unsafe_loads_are_found(source: str):
    assert unsafe_loads(ast.parse(source))
