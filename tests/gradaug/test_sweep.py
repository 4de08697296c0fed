"""gradaug sweep: a grid of widths and depths, scored and timed; what is best for its cost; going on after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

import gradaug
import netslim
from gradaug.evaluation import sweep as module
from gradaug.evaluation.score import SubnetScore, subnetworks
from gradaug.evaluation.sweep import Point, Sweep, sweep
from gradaug.tasks.classification import Score
from netslim.choosing.latency import ROUNDS, seconds_in_turns
from netslim.errors import InputError
from netslim_cli import main

from .loops import batches, network


def point(flops: int, top1: float, seconds: float | None = None) -> Point:
    return Point(SubnetScore(0.5, 10, flops, True, Score(top1, 1.0, 8)), (), seconds)


def test_the_front_is_what_no_other_one_beats() -> None:
    cheap, worse, equal, same, dear, lost = (
        point(1, 50.0, 3.0), point(2, 40.0, 2.0), point(3, 60.0), point(3, 60.0, 5.0), point(9, 90.0, 1.0),
        point(0, float("nan"), 0.0),
    )  # fmt: skip
    beside, above = point(3, 55.0), point(4, 60.0)  # as dear and worse; as good and dearer
    found = Sweep((dear, worse, cheap, equal, same, lost, beside, above), 1, 1, "cpu")
    assert found.front("flops") == (cheap, equal, same, dear)
    assert found.front("seconds") == (dear,)
    marks = [(row["pareto_flops"], row["pareto_seconds"]) for row in found.to_dict()["points"]]  # type: ignore
    assert marks == [(True, True), (False, False), (True, False), (True, False), (True, False), *[(False, False)] * 3]


def test_times_are_taken_in_turns_forwards_and_backwards() -> None:
    order: list[str] = []
    seconds = seconds_in_turns([lambda: order.append("a"), lambda: order.append("b"), lambda: order.append("c")])
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert "".join(turns) == "abcba" + "bcba" * (ROUNDS // 2 - 1) + ("bc" if ROUNDS % 2 else "")
    assert len(seconds) == 3
    assert min(seconds) >= 0


def test_scores_are_those_of_the_sub_networks_and_the_network_stays_as_it_is() -> None:
    net, given = network().train(), batches()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = sweep(net, iter(given), iter(given), (0.5, 1.0), (0, 1))
    rows = subnetworks(net, (0.5, 1.0), given, given, skips=(0, 1))
    assert [p.row for p in found.points] == rows
    assert [p.blocks for p in found.points] == [(), ("bodies.1",), (), ("bodies.1",)]
    assert all(p.seconds is not None and p.seconds > 0 for p in found.points)
    assert (found.images, found.threads, found.device) == (1, torch.get_num_threads(), "cpu")
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_ranking_says_which_channels_are_kept() -> None:
    net, given = network(), batches()
    backwards = {group.name: list(range(group.size))[::-1] for group in net.groups}
    first, last = (sweep(net, given, given, (0.5,), (0,), ranking=ranking) for ranking in (None, backwards))
    assert first.points[0].row.params == last.points[0].row.params
    assert first.points[0].row.score != last.points[0].row.score


def test_depths_are_chosen_for_any_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "seconds_in_turns", lambda runs, _progress: [1.0] * len(runs))
    assert [p.row.skipped for p in sweep(network(), batches(), batches(), (1.0,)).points] == [0, 1]
    plain = netslim.convert(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), torch.randn(2, 1, 8, 8))
    assert [p.row.skipped for p in sweep(plain, batches(), batches(), (1.0,)).points] == [0]


def test_images_and_threads_of_a_timed_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def spy(runs: Any, _progress: Any) -> list[float]:
        seen.append(torch.get_num_threads())
        return [1.0] * len(runs)

    monkeypatch.setattr(module, "seconds_in_turns", spy)
    before = torch.get_num_threads()
    found = sweep(network(), batches(), batches(), (1.0,), (0,), images=5, threads=2)
    assert (seen, found.images, found.threads, torch.get_num_threads()) == ([2], 5, 2, before)
    for wrong in ({"images": 0}, {"threads": 0}, {"widths": ()}, {"skips": ()}, {"skips": (3,)}):
        with pytest.raises(InputError):
            sweep(network(), batches(), batches(), **wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- the command


@pytest.fixture
def call(
    make_net: Callable[..., netslim.SlimNet], few_digits: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    netslim.save(make_net(8), "converted.pt")

    def it(*arguments: str) -> Result:
        return CliRunner().invoke(main.gradaug, ["sweep", "converted.pt", "--calibration-batches", "1", *arguments])

    return it


def test_a_table_a_file_and_a_picture(call: Callable[..., Result]) -> None:
    pytest.importorskip("matplotlib")
    result = call("--widths", "0.5,1", "--depths", "0,1", "--json", "sweep.json", "--plot", "sweep.png")
    assert result.exit_code == 0, result.output
    for text in ("width 0.5, 1 block left out *", "full", "top-1 %", "ms", "FLOPs", "1 image, "):
        assert text in result.stdout
    assert Path("sweep.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(Path("sweep.json").read_text())
    assert [(p["width"], p["skipped"]) for p in found["points"]] == [(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 1)]
    assert all(p["seconds"] > 0 for p in found["points"])
    assert any(p["pareto_flops"] for p in found["points"])
    assert found["made_with"]["data"] == "digits"


def test_json_without_a_file_is_all_that_goes_to_stdout(call: Callable[..., Result]) -> None:
    found = json.loads(call("--widths", "0.5", "--depths", "0", "--ranking", "l1", "--json").stdout)
    assert [p["width"] for p in found["points"]] == [0.5]
    assert found["made_with"]["ranking"] == "l1"


def test_a_sweep_goes_on_where_it_was_stopped(call: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[float] = []
    once = module.scored

    def interrupted(net: Any, cut: Any, *rest: Any) -> SubnetScore:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(cut.width)
        return once(net, cut, *rest)

    grid = ("--widths", "0.5,0.75,1", "--depths", "0", "--json", "sweep.json")
    monkeypatch.setattr(module, "scored", interrupted)
    assert call(*grid).exit_code == 130
    kept = json.loads(Path("sweep.json").read_text())["points"]
    assert [(p["width"], p["seconds"]) for p in kept] == [(0.5, None), (0.75, None)]
    done.clear()
    again = call(*grid, "--resume")
    assert again.exit_code == 0, again.output
    assert done == [1.0]
    points = json.loads(Path("sweep.json").read_text())["points"]
    timeless = [{k: v for k, v in p.items() if k not in ("seconds", "pareto_seconds", "pareto_flops")} for p in points]
    assert [{k: v for k, v in p.items() if k in timeless[0]} for p in kept] == timeless[:2]
    assert all(p["seconds"] > 0 for p in points)


def test_what_was_scored_is_in_the_file_all_along() -> None:
    known = sweep(network(), batches(), batches(), (0.75, 1.0), (0,)).points
    noted: list[list[float]] = []

    def note(found: Sweep) -> None:
        noted.append([point.row.width for point in found.points])

    found = sweep(network(), batches(), batches(), (0.5, 0.75, 1.0), (0,), known=known, note=note)
    assert noted == [[0.5, 0.75, 1.0]] * 4
    assert [point.row for point in found.points[1:]] == [point.row for point in known]


def test_a_point_that_the_grid_does_not_have_is_not_dropped(call: Callable[..., Result]) -> None:
    assert call("--depths", "0,1", "--json", "s.json", "--widths", "0.75").exit_code == 0
    before = Path("s.json").read_text()
    result = call("--depths", "0", "--json", "s.json", "--widths", "0.75", "--resume")
    assert "width 0.75, 1 block left out, is in the sweep that goes on" in " ".join(result.stderr.split())
    assert (result.exit_code, Path("s.json").read_text()) == (1, before)


@pytest.mark.parametrize("form", ["slim", "slim.pt"])
def test_an_extracted_network_is_swept(call: Callable[..., Result], form: str) -> None:
    assert CliRunner().invoke(main.netslim, ["extract", "converted.pt", "--width", "0.5", "-o", form]).exit_code == 0
    again = [main.gradaug, ["sweep", form, "--widths", "0.5,1", "--depths", "0", "--json", "s.json"]]
    result = CliRunner().invoke(*again)
    assert (result.exit_code, "add --trust" in result.stderr) == (1, True)
    again[1] += ["--trust"]
    assert CliRunner().invoke(*again).exit_code == 0
    first, full = json.loads(Path("s.json").read_text())["points"]
    assert full["full"]
    assert first["params"] < full["params"]
    assert CliRunner().invoke(main.gradaug, [*again[1], "--resume"]).exit_code == 0


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (None, ("--json", "no.json"), "no.json cannot be read (No such file or directory): leave --resume out"),
        ("[1]", ("--json", "s.json"), "s.json is no sweep of this gradaug"),
        ('{"made_with": {}, "points": []}', ("--json", "s.json"), "s.json is a sweep of another kind: model was None"),
    ],
)
def test_what_cannot_be_gone_on_from_is_one_sentence(
    call: Callable[..., Result], before: str | None, now: tuple[str, ...], said: str
) -> None:
    if before is not None:
        Path("s.json").write_text(before)
    result = call("--widths", "1", "--resume", *now)
    assert result.exit_code == 1
    assert said in " ".join(result.stderr.split())
    assert before is None or Path("s.json").read_text() == before


def test_other_settings_are_another_sweep(call: Callable[..., Result]) -> None:
    grid = ("--widths", "1", "--depths", "0", "--json", "s.json")
    assert call(*grid).exit_code == 0
    result = call(*grid, "--seed", "1", "--resume")
    assert "seed was 0, now 1; give the same, or leave --resume out" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--widths", "1.5"), 2, "is not a ratio in (0, 1]"),
        (("--depths", "7"), 2, "this network has 1 blocks that can be skipped"),
        (("--depths", "x"), 2, "not a comma-separated list"),
        (("--resume",), 2, "name it with --json FILE"),
        (("--ranking", "l3"), 2, "l3 is no file and none of"),
        (("--plot", "sweep.doc"), 1, "the name must end in one of"),
    ],
)
def test_mistakes_are_told_before_anything_is_scored(
    call: Callable[..., Result], arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == code
    assert said in " ".join(result.stderr.split())
    assert not list(Path().glob("sweep.*"))


def test_the_public_name_is_the_function() -> None:
    assert gradaug.sweep is sweep
