"""What the core does without: the table of modules, the distribution's extras and the source agree."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import clip_feature_codec
from clip_feature_codec.errors import MissingExtraError
from clip_feature_codec.extras import EXTRAS, extra, require

ROOT = Path(clip_feature_codec.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]


def canonical(distribution: str) -> str:
    """The name alone, as the index has it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~;, ]", distribution)[0]).lower()


def listed(requirements: list[str]) -> set[str]:
    """The distributions that an extra asks for, those of the extras in it included."""
    found = set()
    for requirement in requirements:
        inner = re.match(r"clip-feature-codec\[(.+)\]", requirement)
        names = inner[1].split(",") if inner else []
        found |= {canonical(requirement)} - {"clip-feature-codec"}
        found |= {name for one in names for name in listed(PROJECT["optional-dependencies"][one])}
    return found


@cache  # packages_distributions() reads the list of every package's files
def distribution_of(module: str) -> set[str]:
    return {canonical(name) for name in packages_distributions().get(module, [])}


@pytest.mark.parametrize("name", EXTRAS)
def test_an_extra_brings_the_modules_that_the_table_has_for_it(name: str):
    asked = listed(PROJECT["optional-dependencies"][name])
    assert {module for module in EXTRAS[name] if not distribution_of(module) & asked} == set()


def test_whatever_the_source_imports_comes_with_the_core_or_an_extra():
    core, extras = listed(PROJECT["dependencies"]), {module for some in EXTRAS.values() for module in some}
    unknown = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for module in {name.partition(".")[0] for name in names} - {"clip_feature_codec"}:
                there = module in sys.stdlib_module_names or module in extras
                if not there and not distribution_of(module) & core:
                    unknown.add(module)
    assert unknown == set()


def test_a_missing_module_of_an_extra_is_told_in_one_line():
    expected = "eval needs more than the core (jinja2): pip install 'clip-feature-codec[eval]'"
    with pytest.raises(MissingExtraError) as told, extra("eval", "eval"):
        raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2.sandbox")
    assert str(told.value) == expected
    with pytest.raises(ModuleNotFoundError, match="numpy"), extra("eval", "eval"):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")
    require("eval", "eval", "json", "clip_feature_codec")
    with pytest.raises(MissingExtraError, match="no_such_module"):
        require("eval", "eval", "json", "no_such_module")
