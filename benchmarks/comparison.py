"""What tables of regularisers share: one network, the same images and steps, several methods and seeds."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import machine
import torch
from seeds import Fields, mean_and_deviation
from torch import nn

import gradaug
import netslim
from gradaug import data, models
from gradaug.config.settings import TrainConfig
from gradaug.data.source import Images, Subset
from gradaug.evaluation.robustness import Corrupted, fgsm

EPSILONS = (0.05, 0.1, 0.15, 0.2, 0.25)
SEVERITY = 3
NOISE = 0.1
"""By how much processor seconds of the same work may differ."""

Run = tuple[str, int, int]
"""Method, number of labels, seed."""


@dataclass(frozen=True)
class Study:
    """What all runs of a table have in common."""

    data: str
    shape: tuple[int, int, int]
    depth: int
    widen: int
    steps: int
    """Optimizer steps at equal epochs."""
    batch: int
    kinds: tuple[str, ...]
    """Corruptions."""
    robust: int | None = None
    """So many validation images are attacked and corrupted, the first ones; None for all."""
    device: str = "cpu"

    def network(self) -> nn.Module:
        return models.WideResNet(self.depth, self.widen, 10, in_channels=self.shape[0])

    def fields(self) -> Fields:
        """What the rows of one table have in common."""
        return {
            "data": self.data,
            "network": f"WRN-{self.depth}-{self.widen}",
            "plain_steps": self.steps,
            "robust": self.robust,
        }


def config_of(study: Study, method: Mapping[str, Any], labels: int, seed: int) -> TrainConfig:
    """The settings of one run: `study.steps` optimizer steps, so many times as many as the method says."""
    settings = {"mode": "none", **method}
    times = settings.pop("times", 1)
    epochs = max(1, round(times * study.steps * study.batch / labels))
    if settings.get("warmup"):
        settings["warmup"] = epochs * settings["warmup"] / 120
    common = {"labels": labels, "seed": seed, "epochs": epochs, "batch_size": study.batch, "validate_every": epochs}
    where = {"data": study.data, "device": study.device}
    return TrainConfig.from_dict({**settings, **common, **where, "lr": 0.1, "weight_decay": 5e-4})


def measure(study: Study, name: str, method: Mapping[str, Any], labels: int, seed: int) -> Fields:
    """One run, and what its network can do."""
    torch.manual_seed(seed)
    net = netslim.convert(study.network(), torch.randn(2, *study.shape), prove=False)
    clock = time.process_time if study.device == "cpu" else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        begun = clock()
        result = gradaug.train(net, config_of(study, method, labels, seed), folder)
        seconds = clock() - begun
        trained = netslim.load(Path(folder) / "trained.pt").eval().to(study.device)
    source, clean, corrupted = _robustness(study.data, study.shape, study.kinds, study.robust)
    attacked = {f"{e:g}": fgsm(trained, clean, e, source.mean, source.std).top1 for e in EPSILONS}
    return {
        "method": name,
        "labels": labels,
        "seed": seed,
        **study.fields(),
        "steps": result.steps,
        "seconds": seconds,
        "top1": result.after.top1,
        "fgsm": attacked,
        "corrupted": gradaug.score(trained, corrupted).top1,
        "measured": machine.described(study.device),
    }


@cache
def _robustness(
    spec: str, shape: tuple[int, ...], kinds: tuple[str, ...], count: int | None
) -> tuple[data.DataSource, list[data.Batch], list[data.Batch]]:
    """The data; its validation images, or the first `count`; the same in these kinds of corruption. Made once."""
    source = data.load(spec, shape)
    images: Images = source.validation
    images = images if count is None else Subset(images, range(min(count, len(images))))
    made = [Corrupted(images, source, kind, SEVERITY) for kind in kinds]
    corrupted = [batch for one in made for batch in data.evaluation_batches(one)]
    return source, list(data.evaluation_batches(images)), corrupted


def mine(study: Study, rows: Iterable[Fields]) -> list[Fields]:
    """Those of the rows of a file that are of this study."""
    return [row for row in rows if study.fields().items() <= row.items()]


def missing(study: Study, rows: Iterable[Fields], wanted: Iterable[Run]) -> list[Run]:
    """The runs that there is no row for."""
    done = {(row["method"], row["labels"], row["seed"]) for row in mine(study, rows)}
    return [run for run in wanted if run not in done]


def of(rows: Iterable[Fields], method: str, labels: int) -> list[Fields]:
    """The runs of a method with so many labels, by seed."""
    found = [row for row in rows if (row["method"], row["labels"]) == (method, labels)]
    return sorted(found, key=lambda row: row["seed"])


def gains(rows: Iterable[Fields], method: str, plain: str, labels: int) -> list[float]:
    """What a method's top-1 is above another's, by seed, of the seeds that both have."""
    rows = list(rows)
    reference = _by_seed(of(rows, plain, labels))
    return [row["top1"] - reference[row["seed"]] for row in of(rows, method, labels) if row["seed"] in reference]


@dataclass(frozen=True)
class EqualTime:
    """What a method's top-1 is above that of a baseline that took as long, by seed."""

    gains: list[float]
    within: bool
    """Whether a baseline took as long, give or take NOISE; if not, it is the longest one that is compared with."""
    steps: float | None = None
    """How many steps such a baseline has."""


def at_equal_time(rows: Iterable[Fields], method: str, plains: Iterable[str], labels: int) -> EqualTime:
    """By mean seconds, along the straight line between those two of the baselines `plains` that took less and more.

    Of the seeds that all three have; without gains where there are none, or a single baseline.
    """
    rows = list(rows)
    mine = of(rows, method, labels)
    found = sorted((one for name in plains if (one := of(rows, name, labels))), key=_seconds)
    if not mine or len(found) < 2:
        return EqualTime([], False)
    wanted = _seconds(mine)
    upper = next((i for i, one in enumerate(found) if i and _seconds(one) >= wanted), len(found) - 1)
    low, high = found[upper - 1], found[upper]
    span = _seconds(high) - _seconds(low)
    place = (wanted - _seconds(low)) / span if span else 1.0
    share, before, after = min(1.0, max(0.0, place)), _by_seed(low), _by_seed(high)
    gained = [
        row["top1"] - (1 - share) * before[seed] - share * after[seed]
        for row in mine
        if (seed := row["seed"]) in before.keys() & after.keys()
    ]
    steps = (1 - place) * low[0]["steps"] + place * high[0]["steps"]
    return EqualTime(gained, wanted <= (1 + NOISE) * _seconds(found[-1]), steps)


def _seconds(runs: list[Fields]) -> float:
    return statistics.mean(run["seconds"] for run in runs)


def _by_seed(runs: list[Fields]) -> dict[int, float]:
    return {run["seed"]: run["top1"] for run in runs}


def cost_table(rows: Iterable[Fields], methods: Iterable[str], plains: Sequence[str], labels: int) -> list[list[str]]:
    """Top-1 beside the time that it took, a line per method; `plains`: the baselines, the shortest one first.

    Plain steps: that of a baseline that takes as long, in those of the shortest one. Seconds have in them what is the
    same for all, validations above all.
    """
    rows = list(rows)
    heads = ["method", "runs", "top-1 %", "CPU s", "plain steps", "gain, equal steps", "gain, equal time"]
    return [heads, *(_cost(rows, name, runs, plains, labels) for name in methods if (runs := of(rows, name, labels)))]


def _cost(rows: list[Fields], name: str, runs: list[Fields], plains: Sequence[str], labels: int) -> list[str]:
    line = [name, str(len(runs)), mean_and_deviation([run["top1"] for run in runs], 2), f"{_seconds(runs):.1f}"]
    usual = runs[0]["plain_steps"]
    if name in plains:
        return [*line, f"{runs[0]['steps'] / usual:.2f}", "", ""]
    by_steps, by_time = gains(rows, name, plains[0], labels), at_equal_time(rows, name, plains, labels)
    cost = "" if by_time.steps is None else f"{by_time.steps / usual:.2f}"
    return [*line, cost, said(by_steps), said(by_time.gains) + ("" if by_time.within or not by_time.gains else " *")]


def said(gained: Sequence[float]) -> str:
    """Mean and deviation; empty where there is none."""
    return mean_and_deviation(gained, 2) if gained else ""


def table(rows: Iterable[Fields], methods: Iterable[str], labels: int) -> list[list[str]]:
    """Mean and standard deviation over the seeds, a line per method; the first line names the columns."""
    rows = list(rows)
    heads = ["method", "runs", "top-1 %", *(f"FGSM {e:g}" for e in EPSILONS), "corrupted", "steps", "CPU s"]
    return [heads, *(_line(method, runs) for method in methods if (runs := of(rows, method, labels)))]


def _line(method: str, runs: list[Fields]) -> list[str]:
    values = [[run["top1"] for run in runs]]
    values += [[run["fgsm"][f"{e:g}"] for run in runs] for e in EPSILONS]
    values += [[run["corrupted"] for run in runs]]
    shown = [mean_and_deviation(some, 2) for some in values]
    return [method, str(len(runs)), *shown, str(runs[0]["steps"]), f"{_seconds(runs):.1f}"]
