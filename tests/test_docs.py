"""What the pages name is there: files, headings, commands with their options, names to import."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import clip_feature_codec
from clip_feature_codec.cli.main import main
from samples import make_picture

PACKAGE = Path(clip_feature_codec.__file__).parent
ROOT = PACKAGE.parents[1]
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(PACKAGE.rglob("README.md")),
    *sorted((ROOT / "recipes").glob("*/README.md")),
    *sorted((ROOT / "benchmarks").glob("*/README.md")),
]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def prose_of(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)


def snippets(page: Path) -> list[str]:
    """The blocks of Python in a page."""
    return re.findall(r"^```python[^\n]*\n(.*?)^```", text_of(page), re.M | re.S)


def anchors(page: Path) -> set[str]:
    """How links name the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def calls(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command line of our own programs in a page: what is called, and its options."""
    lines = text_of(page).replace("\\\n", " ")
    program = r"clip-codec [a-z]+|clip_feature_codec\.cli\.\w+|python (?:benchmarks|recipes)/[\w/]+\.py"
    for called, rest in re.findall(rf"({program})([^\n`|#&]*)", lines):
        yield called, re.findall(r"(?<=\s)--[a-z][\w-]*", rest)


def options_of(called: str) -> set[str]:
    """The options that a program knows."""
    if called.startswith("python "):
        return set(re.findall(r'"(--[\w-]+)"', text_of(ROOT / called.removeprefix("python "))))
    if called.startswith("clip-codec "):
        command = main.get_command(click.Context(main), called.removeprefix("clip-codec "))
    else:
        module = importlib.import_module(called)
        command = getattr(module, "main", None) or getattr(module, called.rpartition(".")[2])
    assert isinstance(command, click.Command), f"there is no {called}"
    parameters = command.get_params(click.Context(command))
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


@pages
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if re.match(r"\w+:", target):
            continue
        file, _, heading = target.partition("#")
        linked = page.parent / file if file else page
        assert linked.exists(), target
        assert not heading or heading in anchors(linked), target


@pages
def test_files_that_are_named_are_there(page: Path):
    names = re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|c|h|js|toml|md|ipynb))(?: [^`]*)?`", prose_of(page))
    places = (ROOT, PACKAGE, page.parent)
    assert [name for name in names if not any((place / name).exists() for place in places)] == []


@pages
def test_commands_and_their_options_are_there(page: Path):
    for called, options in calls(page):
        known = {name.replace("_", "-") for name in options_of(called)}
        assert {name.replace("_", "-") for name in options} - known == set(), called


@pages
def test_what_snippets_import_is_there(page: Path):
    for snippet in snippets(page):
        for node in ast.walk(ast.parse(snippet)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("clip_feature_codec"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_first_page_leads_to_all_others():
    linked = {(ROOT / target).resolve() for target in re.findall(r"\]\(([^)#\s]+\.md)", text_of(README))}
    assert set((ROOT / "docs").glob("*.md")) - linked == set()


def test_the_first_snippet_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("photo.jpg", 0), ("a.jpg", 1), ("b.png", 0)):
        make_picture(seed, (60, 40)).save(name)
    exec(compile(snippets(README)[0], "README.md", "exec"), names := {})
    assert len(names["blob"]) <= 140
    assert {"blurred.png", "again.png", "nearest.png"} <= {path.name for path in tmp_path.iterdir()}
    assert (names["nearest"], names["words"].shape) == (1, (1, *names["vector"].shape))
