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


def test_what_takes_gradaug_apart_or_makes_it_cheaper_changes_one_thing_of_it() -> None:
    for name, method in (evidence.APART | evidence.CHEAPER).items():
        changed = {key for key, value in method.items() if evidence.GRADAUG.get(key) != value}
        assert len(changed) == 1, name


def test_gains_are_differences_of_the_same_seed() -> None:
    rows = [row("baseline", 0, 50.0), row("baseline", 1, 60.0), row("baseline, same time", 0, 53.0, seconds=180.0)]
    rows += [row("GradAug, width", seed, top1, seconds=180.0) for seed, top1 in ((1, 66.0), (0, 54.0), (2, 99.0))]
    said = evidence.gains(rows, 250)
    assert "GradAug, width: 5.00 ± 1.41 at equal steps, 1.00 at equal time." in said
    assert said.endswith("on CIFAR-10 is 4.88.")
    assert "depth" not in said
    assert evidence.gains(rows[:3], 250) == ""


def long_and_short(**seconds: float) -> list[dict[str, Any]]:
    """A baseline of 60 s, one of 90 s and one of 180 s, by two seeds, and rows of so many seconds."""
    rows = [row("baseline", seed, 50.0 + seed) for seed in (0, 1)]
    rows += [row("baseline, 1.5 times as long", seed, 54.0 + seed, seconds=90.0, steps=2400) for seed in (0, 1)]
    rows += [row("baseline, same time", seed, 60.0 + seed, seconds=180.0, steps=4800) for seed in (0, 1)]
    return rows + [row(name, 0, 58.0, seconds=given) for name, given in seconds.items()]


@pytest.mark.parametrize(
    ("seconds", "plain", "times", "within"),
    [(75, 52.0, 1.25, True), (90, 54.0, 1.5, True), (135, 57.0, 2.25, True), (180, 60.0, 3.0, True),
     (195, 60.0, 3.25, True), (30, 50.0, 0.5, True), (400, 60.0, 20 / 3, False)],
)  # fmt: skip
def test_a_method_is_compared_with_a_baseline_that_took_as_long(
    seconds: float, plain: float, times: float, within: bool
) -> None:
    found = comparison.at_equal_time(long_and_short(some=seconds), "some", evidence.BASELINES, 250)
    assert found == comparison.EqualTime([pytest.approx(58.0 - plain)], within, pytest.approx(times * 1600))


def test_time_is_not_equal_where_nobody_measured_it() -> None:
    rows = [row("baseline", 0, 50.0), row("some", 0, 52.0, seconds=90.0)]
    assert comparison.at_equal_time(rows, "some", evidence.BASELINES, 250).gains == []
    rows += [row("baseline, same time", 1, 60.0, seconds=180.0)]  # of another seed
    assert comparison.at_equal_time(rows, "some", evidence.BASELINES, 250).gains == []
    assert comparison.at_equal_time(rows, "other", evidence.BASELINES, 250).gains == []


def test_cheaper_methods_have_a_table_of_cost_and_gain() -> None:
    rows = long_and_short(**{"every 4th step": 75.0, "late start": 400.0, "one sub-network": 135.0})
    page = evidence.markdown(rows, STUDY, "python benchmarks/evidence.py")
    assert "| every 4th step | 1 | 58.00 | 75.0 | 1.25 | 8.00 | 6.00 |" in page
    assert "| late start | 1 | 58.00 | 400.0 | 6.67 | 8.00 | -2.00 * |" in page
    assert "| baseline, same time | 2 | 60.50 ± 0.71 | 180.0 | 3.00 |  |  |" in page
    assert page.index("with one thing changed") < page.index("at less cost")
    assert "at less cost" not in evidence.markdown(long_and_short(), STUDY, "python benchmarks/evidence.py")


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
