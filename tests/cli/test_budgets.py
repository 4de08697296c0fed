"""`netslim rank`, and what `netslim extract` does with rankings and budgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor, nn

import netslim
from netslim import cost
from netslim.notes import notes_of
from netslim_cli.main import gradaug

Run = Callable[..., Result]


class Net(nn.Module):
    """Norms, a block that can be skipped, and a group beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.body, self.body_norm = nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.top, self.head = nn.Conv2d(12, 20, 3, stride=2), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu()
        x = (x + self.body_norm(self.body(x))).relu()
        return self.head(self.top(x).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("converted") / "converted.pt"
    netslim.save(netslim.convert(Net(), torch.randn(2, 1, 12, 12), prove=False), path)
    return path


def told(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_rank_shows_every_group_and_writes_what_extract_reads(run: Run, archive: Path) -> None:
    shown = run("rank", archive, "-o", "ranking.json")
    assert shown.exit_code == 0, shown.output
    assert "stem" in shown.stdout
    assert "written to ranking.json" in shown.stdout
    found = told(run("rank", archive, "--json"))
    ranking = netslim.rank(netslim.load(archive), "l1")
    assert found["by"] == "l1"
    assert {name: tuple(group["order"]) for name, group in found["groups"].items()} == dict(ranking)
    for given in ("ranking.json", "l1"):
        made = told(run("extract", archive, "--width", "0.5", "--ranking", given, "-o", "slim.pt", "--json"))
        assert made["ranking"] == "l1"
        expected = netslim.load(archive).extract(0.5, ranking=ranking).state_dict()
        assert all(
            torch.equal(tensor, expected[name])
            for name, tensor in torch.load("slim.pt", weights_only=False).state_dict().items()
        )


@pytest.mark.parametrize("by", ["taylor", "gradient"])
def test_rank_by_a_loss(run: Run, archive: Path, by: str) -> None:
    images = ("--data", "digits", "--calibration-batches", "2")
    first, again = (told(run("rank", archive, "--by", by, "--json", *images)) for _ in range(2))
    assert first == again
    assert first != told(run("rank", archive, "--by", by, "--json", *images, "--seed", "1"))
    assert run("rank", archive, "--by", by).exit_code == 2
    assert "say on which images, with --data" in run("rank", archive, "--by", by).stderr
    said = run("extract", archive, "--flops", "0.5", "--ranking", by, "-o", "slim.pt", *images)
    assert f"channels kept by {by}" in said.stdout


@pytest.mark.parametrize(
    ("options", "kind", "limit"),
    [
        (["--flops", "0.5"], "flops", 0.5),
        (["--flops", "60%", "--search", "greedy"], "flops", 0.6),
        (["--params", "0.3", "--ranking", "bn"], "params", 0.3),
        (["--params", "1.5k", "--round-to", "2"], "params", 1500),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_budget_is_kept_and_the_summary_says_what_was_chosen(
    run: Run, archive: Path, options: list[str], kind: str, limit: float
) -> None:
    found = told(run("extract", archive, *options, "-o", "slim.pt", "--json"))
    net = netslim.load(archive)
    full = getattr(cost.count(net), kind)
    assert found[f"{kind}_full"] == full
    assert found[kind] <= (limit * full if limit <= 1 else limit)
    counted = cost.count(net, found["widths"])
    assert (found["params"], found["flops"]) == (counted.params, counted.flops)
    model = torch.load("slim.pt", weights_only=False)
    assert sum(p.numel() for p in model.parameters()) == found["params"]
    said = run("extract", archive, *options, "-o", "slim.pt").stdout
    assert f"{found['flops']:,} of {found['flops_full']:,} FLOPs" in said
    assert "budget: " in said
    assert ("widths: " if "greedy" in options else "width: ") in said


def test_a_search_on_data_is_scored_and_noted(run: Run, archive: Path) -> None:
    images = ("--data", "digits", "--calibration-batches", "2", "--evaluations", "6")
    result = run("extract", archive, "--flops", "0.4", "--search", "greedy", *images, "-o", "slim.pt")
    assert result.exit_code == 0, result.output
    assert "the best of 6 sub-networks on the training images" in result.stdout
    notes = notes_of("slim.pt")
    assert notes is not None
    assert notes.groups is not None
    assert set(notes.groups) == {group.name for group in netslim.load(archive).groups}
    assert notes.width == pytest.approx(sum(notes.groups.values()) / 32)
    scored = CliRunner().invoke(gradaug, ["eval", "--model", "slim.pt", "--trust", "--json"])
    assert told(scored)["scores"][0]["width"] == notes.width


def test_a_time_is_measured_and_told(run: Run, archive: Path) -> None:
    found = told(run("extract", archive, "--latency", "10s", "-o", "slim.pt", "--json"))
    assert found["budget"] == "1e+04 ms"
    assert 0 < found["seconds"] < 10
    assert found["params"] == found["params_full"]
    assert "; measured: " in run("extract", archive, "--latency", "10s", "-o", "slim.pt").stdout


def test_several_widths_are_several_networks(run: Run, archive: Path) -> None:
    found = told(run("extract", archive, "--width", "0.25,0.5,1", "-o", "slim.pt", "--json"))
    assert [row["output"] for row in found] == ["slim-0.25.pt", "slim-0.5.pt", "slim-1.0.pt"]
    assert [row["width"] for row in found] == [0.25, 0.5, 1.0]
    assert all(Path(row["output"]).exists() for row in found)
    assert run("extract", archive, "--width", "0.25,0.5", "-o", "half_{width}_slim").exit_code == 0
    assert Path("half_0.25_slim/model.py").exists()
    assert run("extract", archive, "--width", "0.5", "-o", "one-{width}.pt").exit_code == 0
    assert Path("one-0.5.pt").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "one of --width, --flops, --params and --latency"),
        (["--width", "0.5", "--flops", "0.5"], "one of --width, --flops, --params and --latency"),
        (["--flops", "0.5", "--params", "0.5"], "one of --width, --flops, --params and --latency"),
        (["--width", "0.5,2"], "'2' is not a ratio in (0, 1]"),
        (["--width", "0.5,"], "'' is not a ratio"),
        (["--width", "0.5", "--search", "greedy"], "--search goes with a budget"),
        (["--flops", "0"], "'0' is no budget of FLOPs"),
        (["--flops", "-3M"], "is no budget of FLOPs"),
        (["--latency", "8"], "write a time: 8ms"),
        (["--width", "0.5", "--ranking", "l3"], "did you mean l2 or l1?"),
        (["--width", "0.5", "--ranking", "taylor"], "say on which images, with --data"),
        (["--width", "0.5", "--seed", "3"], "--seed choose training images"),
    ],
    ids=" ".join,
)
def test_usage(run: Run, archive: Path, options: list[str], words: str) -> None:
    result = run("extract", archive, *options, "-o", "slim.pt")
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert not result.stdout


def test_mistakes_are_sentences(run: Run, archive: Path) -> None:
    run("rank", archive, "-o", "ranking.json")
    other = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    netslim.save(netslim.convert(other, torch.randn(2, 1, 12, 12), prove=False), "other.pt")
    Path("broken.json").write_text("{")
    for arguments, words in (
        (["other.pt", "--width", "0.5", "--ranking", "ranking.json"], "which is no group of this network"),
        ([archive, "--width", "0.5", "--ranking", "broken.json"], "broken.json is no ranking"),
        ([archive, "--flops", "2"], "below what the smallest sub-network takes"),
        ([archive, "--latency", "0.001us"], "below what the smallest sub-network takes"),
        (["other.pt", "--width", "0.5", "--ranking", "bn"], "no norm of this network has a scale"),
    ):
        result = run("extract", *arguments, "-o", "slim.pt")
        assert result.exit_code == 1, result.output
        assert words in result.stderr
        assert not Path("slim.pt").exists()


def test_weights_that_are_no_numbers(run: Run, archive: Path) -> None:
    net = netslim.load(archive)
    with torch.no_grad():
        net.get_parameter("top.weight").fill_(float("nan"))
    netslim.save(net, "nan.pt")
    result = run("rank", "nan.pt")
    assert result.exit_code == 1
    assert "top.weight holds entries that are not finite" in result.stderr


def test_chance_has_a_seed(run: Run, archive: Path) -> None:
    first, again, other = (told(run("rank", archive, "--by", "random", "--json", "--seed", n)) for n in ("3", "3", "4"))
    assert first == again != other
