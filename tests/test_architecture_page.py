"""docs/architecture.md: the tree on it is the tree that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_architecture import RANKS

ROOT = Path(__file__).parent.parent
PACKAGES = ("netslim", "gradaug", "cli")
PAGE = (ROOT / "docs/architecture.md").read_text()


def tree(text: str) -> Iterator[tuple[str, str]]:
    """The paths of the first fenced block, by indentation, and what is said of each."""
    above: list[str] = []
    for line in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0].splitlines():
        if line.strip():
            name, _, said = line.strip().partition(" ")
            depth = (len(line) - len(line.lstrip())) // 2
            above = [*above[:depth], name.rstrip("/")]
            yield "/".join(above), said.strip()


def wrong(text: str) -> list[str]:
    """Paths on the page that are not there, and folders that are not on the page."""
    named = dict(tree(text))
    beside = [
        f"{path.rpartition('/')[0]}/{name}" for path, said in named.items() for name in re.findall(r"\w+\.py\b", said)
    ]
    folders = {
        path.parent.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("__init__.py")
    }
    missing = [path for path in [*named, *beside] if not (ROOT / path).exists()]
    return missing + sorted(folders - named.keys()) + [path for path, said in named.items() if not said]


def test_floors_are_listed_in_their_order() -> None:
    for package, rank in RANKS.items():
        listed = [Path(path).with_suffix("").name for path, _ in tree(PAGE) if re.fullmatch(rf"{package}/[\w.]+", path)]
        assert [rank[name] for name in listed] == sorted(rank[name] for name in listed)


def test_every_folder_is_on_the_page_and_all_that_is_named_exists() -> None:
    assert not wrong(PAGE)


@pytest.mark.parametrize(
    ("line", "instead", "found"),
    [
        ("  trace/  ", "  tracing/  ", "netslim/trace"),
        ("    engine.py  ", "    engines.py  ", "netslim/layouts/engines.py"),
        ("schema.py says", "schemas.py says", "netslim/archive/schemas.py"),
        ("  subnets/  ", "  config/  ", "gradaug/subnets"),
    ],
)
def test_a_tree_that_is_another_is_noticed(line: str, instead: str, found: str) -> None:
    assert line in PAGE
    assert found in wrong(PAGE.replace(line, instead))
