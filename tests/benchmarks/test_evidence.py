"""The table of few labels: which runs are made, what is added up, and what its page says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comparison
import evidence
import pytest
from click.testing import CliRunner

from tests.gradaug.formats import idx

STUDY = comparison.Study("fashion-mnist", (1, 28, 28), 16, 2, 1600, 50, ("fog",), 1000)


def row(method: str, seed: int, top1: float, **fields: Any) -> dict[str, Any]:
    said = {
        "method": method,
        "labels": 250,
        "seed": seed,
        "steps": 1600,
        "seconds": 60.0,
        "top1": top1,
        "corrupted": 1.0,
    }
    attacked = {f"{e:g}": 2.0 for e in comparison.EPSILONS}
    return {**said, "fgsm": attacked, "measured": "a machine, a day", **STUDY.fields(), **fields}


@pytest.mark.parametrize("method", evidence.METHODS)
@pytest.mark.parametrize("labels", [250, 1000, 4000])
def test_every_method_is_a_setting_of_equal_steps(method: str, labels: int) -> None:
    config = comparison.config_of(STUDY, evidence.METHODS[method], labels, 3)
    times = evidence.METHODS[method].get("times", 1)
    assert config.epochs * labels / config.batch_size == times * STUDY.steps
    assert (config.seed, config.labels, config.data) == (3, labels, "fashion-mnist")


def test_what_takes_gradaug_apart_changes_one_thing_of_it() -> None:
    for name, method in evidence.APART.items():
        changed = {key for key, value in method.items() if evidence.GRADAUG.get(key) != value}
        assert len(changed) == 1, name


def test_gains_are_differences_of_the_same_seed() -> None:
    rows = [row("baseline", 0, 50.0), row("baseline", 1, 60.0), row("baseline, same time", 0, 53.0)]
    rows += [row("GradAug, width", 1, 66.0), row("GradAug, width", 0, 54.0), row("GradAug, width", 2, 99.0)]
    said = evidence.gains(rows, 250)
    assert "GradAug, width: 5.00 ± 1.41 at equal steps, 1.00 at equal time." in said
    assert said.endswith("on CIFAR-10 is 4.88.")
    assert "depth" not in said
    assert evidence.gains(rows[:3], 250) == ""


def test_rows_of_another_study_are_not_taken_for_done() -> None:
    other = {"plain_steps": 100}
    rows = [row("baseline", 0, 50.0), row("baseline", 1, 60.0, **other)]
    wanted = [("baseline", 250, 0), ("baseline", 250, 1)]
    assert comparison.missing(STUDY, rows, wanted) == [("baseline", 250, 1)]
    assert comparison.mine(STUDY, rows) == rows[:1]


def test_the_page_has_a_table_for_each_number_of_labels() -> None:
    rows = [row("baseline", 0, 50.0), row("GradAug, width", 0, 54.0), row("one sub-network", 0, 52.0)]
    rows += [row("baseline", 0, 70.0, labels=1000)]
    page = evidence.markdown(rows, STUDY, "python benchmarks/evidence.py")
    assert "    python benchmarks/evidence.py\n" in page
    assert "Measured on a machine, a day." in page
    assert page.count("| method | runs |") == 3
    assert page.index("## 250 labels") < page.index("with one thing changed") < page.index("## 1,000 labels")
    assert "| one sub-network | 1 | 52.00 |" in page


def test_a_second_start_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In two processes, and then with one more method; nothing is run twice."""
    monkeypatch.chdir(tmp_path)
    idx(tmp_path / "clothes")
    common = "--data fashion-mnist:clothes --labels 10 --seeds 1 --steps 1 --depth 10 --widen 1 --kind fog --robust 5"

    def run(methods: str, *more: str) -> list[dict[str, Any]]:
        files = ["--json", "a.json", "--markdown", "a.md"]
        options = [*common.split(), "--methods", methods, *files, *more]
        result = CliRunner().invoke(evidence.main, options, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        rows: list[dict[str, Any]] = json.loads(Path("a.json").read_text())
        return rows

    first = run("baseline;CutMix, p = 0.1", "--workers", "2")
    assert {one["method"] for one in first} == {"baseline", "CutMix, p = 0.1"}
    both = run("baseline;CutMix, p = 0.1;GradAug, width")
    assert both[:2] == first
    assert [one["method"] for one in both[2:]] == ["GradAug, width"]
    Path("a.md").unlink()
    assert run("baseline") == both
    assert "GradAug, width: " in Path("a.md").read_text()
