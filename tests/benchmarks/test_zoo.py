"""The zoo run: a whole small one, in processes of its own, and the arithmetic behind its tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo_models
from torch import Tensor, nn
from zoo import wanted_again
from zoo_report import MAIN, markdown
from zoo_shares import elastic_channels, output_layers, shares
from zoo_summary import sentences, summaries

import netslim
from netslim.layouts.axes import Concat, Const, Elastic, Product

ROOT = Path(__file__).parents[2]

MODELS = """
import os
import torch
from torch import nn

class Net(nn.Sequential):
    input_shape = (3, 8, 8)
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.Flatten(), nn.Linear(96, 5))

class Endless(Net):
    def forward(self, x):
        while True:
            pass

class Greedy(Net):
    def __init__(self):
        super().__init__()
        self.big = torch.ones(2**34)

class Deadly(Net):
    def __init__(self):
        os.kill(os.getpid(), 9)

class Wrong(Net):
    def forward(self, x):
        raise ValueError("no such thing")
"""


def row(**fields: Any) -> dict[str, Any]:
    return {"model": "timm:a", "tool": "netslim", "family": "f", "converted": True, "proved": True} | fields


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models, and what a run over them has written."""
    folder = tmp_path_factory.mktemp("zoo")
    (folder / "small.py").write_text(MODELS)
    models = [part for name in "Net Endless Greedy Deadly Wrong".split() for part in ("--models", f"small:{name}")]
    run_zoo(folder, *models, "--time-limit", "5", "--memory-limit", "8", "--workers", "2")
    return folder


def run_zoo(folder: Path, *options: str) -> str:
    script = [sys.executable, str(ROOT / "benchmarks" / "zoo.py"), "--json", "zoo.json", "--markdown", "zoo.md"]
    done = subprocess.run([*script, *options], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["model"]: row for row in json.loads((folder / "zoo.json").read_text())["rows"]}


def test_a_model_that_converts_has_a_whole_row(folder: Path) -> None:
    found = rows_of(folder)["small:Net"]
    assert found["converted"] is found["proved"] is found["trained"] is True
    assert (found["groups"], found["outputs"], found["elastic_share"], found["blocks"]) == (2, 14, 1.0, 0)
    assert found["params_kept"] < 0.6
    assert "failure" not in found


@pytest.mark.parametrize(
    ("model", "stage", "failure"),
    [
        ("Endless", "analysis", "TimeLimit: stopped after 5 s"),
        ("Greedy", "build", "limit"),
        ("Deadly", "build", "Died: SIGKILL"),
        ("Wrong", "analysis", "TraceError: the model's forward failed: ValueError: no such thing"),
    ],
)
def test_one_bad_model_costs_one_row(folder: Path, model: str, stage: str, failure: str) -> None:
    found = rows_of(folder)[f"small:{model}"]
    assert failure in found["failure"]
    assert found["stage"] == stage


def test_a_finished_run_that_is_resumed_only_writes_its_tables(folder: Path) -> None:
    before, table = rows_of(folder), (folder / "zoo.md").read_text()
    assert "Failures of netslim" in run_zoo(folder, "--resume", "--time-limit", "5", "--memory-limit", "8")
    assert rows_of(folder) == before
    assert (folder / "zoo.md").read_text() == table
    assert str(folder) not in table
    assert "torch 2" in table


def test_rows_to_measure_again() -> None:
    bad = row(failure="Died: SIGKILL")
    assert not wanted_again(bad, ())
    assert wanted_again(bad, ("failed",))
    assert not wanted_again(row(), ("failed",))
    assert wanted_again(row(), ("netslim",))


def test_the_smallest_of_every_family_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"big": 9, "small": 1, "middle": 5, "also_small": 1, "alone": 7}
    families = {"z": ["big", "small", "middle", "also_small"], "a": ["alone"]}
    monkeypatch.setattr(zoo_models, "timm_families", lambda: families)
    monkeypatch.setattr(zoo_models, "timm_parameters", sizes.__getitem__)
    assert [e.source for e in zoo_models.timm_models(2)] == ["timm:alone", "timm:also_small", "timm:small"]


def test_every_torchvision_model_but_the_quantized_ones_is_chosen() -> None:
    names = {e.source for e in zoo_models.chosen(["torchvision", "torchvision:resnet18"])}
    assert {"torchvision:raft_small", "torchvision:r3d_18", "torchvision:ssd300_vgg16"} <= names
    assert not any("quantized" in name for name in names)


def test_elastic_channels_of_a_layout() -> None:
    group = Elastic(0, 6)
    assert elastic_channels(Product((group, Const(4)))) == 24
    assert elastic_channels(Concat((group, Const(10)))) == 6
    assert elastic_channels(Product((Const(2), Concat((group, Const(2)))))) == 12
    assert elastic_channels(Const(7)) == 0


class Odd(nn.Module):
    """A grouped transposed convolution, two layers that share a weight, one that is not used, a softmax over one."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 8, 2, groups=2)
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.unused, self.head = nn.Linear(8, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.a(self.up(x).mean((2, 3)))))


def test_shares_count_every_weight_once_and_leave_out_the_outputs() -> None:
    model = Odd()
    plan = netslim.analyse(model, torch.zeros(2, 4, 4, 4))[0]
    found = shares(plan, model)
    assert (found.outputs, found.model_outputs) == (8 + 8 + 3, 5)
    assert [(why.reason, why.channels) for why in found.reasons][-1] == ("never used by forward", 3)
    assert output_layers(plan, model) == {"head"}


def test_what_does_not_run_counts_as_not_elastic() -> None:
    rows = [
        row(outputs=30, elastic_share=1.0, convert_s=61.0, analysis_s=0.1),
        row(model="timm:b", outputs=10, elastic_share=1.0, converted=False, proved=False, failure="TimeLimit"),
        row(tool="torch-pruning", outputs=30, elastic_share=0.5, convert_s=1.0),
        row(tool="torch-pruning", model="timm:b", failure="KeyError", converted=None),
    ]
    ours, peer = summaries(rows)
    assert (ours.elastic, peer.elastic) == (0.75, 0.375)
    assert (ours.models, ours.converted, ours.families_converted) == (2, 1, 0)
    assert ours.slow == ("timm:a 61 s",)


def test_the_time_of_most_is_told_of_those_of_medium_size() -> None:
    rows = [row(model=f"timm:{n}", params=1e6, convert_s=float(n)) for n in range(1, 41)]
    (found,) = summaries([*rows, row(model="timm:large", params=2e8, convert_s=500.0)])
    assert found.p95_convert == 38.0
    assert "median conversion and proof 21.0 s, 95 % of those below 100 M parameters within 38.0 s" in sentences(found)


def test_the_sample_is_of_models_that_there_are() -> None:
    sample = zoo_models.chosen(["sample"])
    assert len(sample) == len(set(sample)) > 10
    known = {e.source for e in zoo_models.torchvision_models()}
    assert {e.source for e in sample if e.source.startswith("torchvision:")} <= known


def test_the_page_says_how_it_was_made() -> None:
    run = {
        "commands": [{"command": "python benchmarks/zoo.py", "seconds": 9.0, "gib": 1.0}],
        "versions": {"torch": "2"},
        "reduced": False,
        "models": [["timm:a", "f"], ["timm:left", "f"]],
    }
    page = markdown(run, [row(params=1e6, failure="a | b", convert_s=1.0)])
    assert "    python benchmarks/zoo.py  # at most 9 s and 1 GiB a model\n" in page
    assert "torch 2" in page
    assert "a \\| b" in page
    assert "timm:left" in page
    assert " | ".join(MAIN) in page
