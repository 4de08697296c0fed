"""Every benchmark runs to its end, at its smallest setting."""

from __future__ import annotations

import importlib
import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.gradaug.formats import idx

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
SMALLEST = {
    "step": ["--network WRN-16-4 --mode both --batch-size 2 --rounds 1 --json a.json --markdown a.md"],
    "convert": ["squeezenet1_1 --rounds 1", "squeezenet1_1 --rounds 1 --convert --json"],
    "analysis": ["squeezenet1_1 --rounds 1 --json a.json --markdown a.md"],
    "detection": ["--images 2 --seeds 1 --epochs 1 --width 4 --methods plain --json a.json --markdown a.md"],
    "loader": ["--images 4 --size 32,48 --side 16 --workers 0 --repeat 1"],
    "sync": ["--depth 10 --widen 1 --batch-size 2 --rounds 1 --json"],
    "latency": ["--model squeezenet1_1 --side 32 --shares 0.9 --searches uniform --runtimes torch --quick --json"],
    "memory": ["--model gradaug.models:resnet20 --side 16 --batch-size 2"],
    "prune": [
        "--methods taylor-search;first --starts plain --seeds 1 --epochs 1 --steps 1 --evaluations 2 --json a.json"
    ],
    "regularizers": [
        "--labels 10 --methods none;gradaug --seeds 1 --steps 1 --depth 10 --kind fog --json a.json --markdown a.md"
    ],
    "evidence": [
        f"--data fashion-mnist:. --methods '{methods}' --labels 10 --seeds 1 --steps 1 --kind fog --json a --markdown b"
        for methods in ("GradAug-semi", "half the batch;late start")
    ],
}


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in SMALLEST.items() for line in lines])
def test_a_benchmark_runs(name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    idx(tmp_path)
    result = CliRunner().invoke(importlib.import_module(name).main, shlex.split(line), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    if line.endswith("--json"):
        assert json.loads(result.stdout)


def test_every_benchmark_is_run_by_a_test() -> None:
    """The zoo has tests of its own."""
    scripts = {path.stem for path in SCRIPTS.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {*SMALLEST, "zoo"}
    assert "run_zoo" in (Path(__file__).parent / "test_zoo.py").read_text()
