"""docs/files.md: behind what it says stand tests."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_every_sentence_on_files_has_a_test() -> None:
    page = (ROOT / "docs/files.md").read_text()
    points = re.findall(r"(?ms)^- (.+?)(?=^- |^#|\Z)", page)
    named = [re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", point) for point in points]
    assert len(points) >= 15
    bare = [point[:40] for point, tests in zip(points, named, strict=True) if not tests]
    assert bare == ["**`--trust`**, as said above.\n"]
    for file, test in {found for tests in named for found in tests}:
        functions = {
            node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
        }
        assert test in functions, f"docs/files.md names {file}::{test}"
