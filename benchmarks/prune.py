"""A trained network at half its FLOPs: which channels to keep, and how many, several seeds.

    python benchmarks/prune.py --json build/prune.json
    python benchmarks/prune.py --methods "first;taylor" --seeds 2 --starts plain

A small ResNet learns scikit-learn's digits, plainly or with sub-networks, and every method cuts it to the same share of
its FLOPs. Accuracy is measured after batch norm was recalibrated, and again after a short fine-tune, the same for all.
Torch-Pruning's methods need that package; its ratio is bisected until the FLOPs fit. The JSON is written after every
method, and a second start goes on with it.
"""

from __future__ import annotations

import copy
import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from rich.console import Console
from seeds import Fields, chosen, mean_and_deviation, note, saved
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import gradaug
import netslim
from gradaug import data, models
from gradaug.config.settings import TrainConfig

SIDE, BATCH, LR = 16, 50, 0.1
SHAPE = (1, SIDE, SIDE)
STARTS: dict[str, Fields] = {
    "plain": {"mode": "none"},
    "gradaug": {"mode": "randwidth", "alpha": 0.5, "round_to": 1, "resolutions": [16, 14, 12]},
}
Cut = Callable[[netslim.SlimNet, float, list[data.Batch], int, int], nn.Module]


def ranked(by: str | None, search: str = "uniform", scored: bool = False) -> Cut:
    """A network of netslim's choosing."""

    def cut(net: netslim.SlimNet, share: float, batches: list[data.Batch], seed: int, evaluations: int) -> nn.Module:
        def score(model: nn.Module) -> float:
            gradaug.recalibrate(model, batches)
            return -float(gradaug.score(model, batches).mean_loss or 0.0)

        ranking = None if by is None else netslim.rank(net, by, batches, F.cross_entropy, seed=seed)
        found = netslim.choose(
            net, flops=share, search=search, ranking=ranking, score=score if scored else None, seed=seed,
            evaluations=evaluations,
        )  # fmt: skip
        return copy.deepcopy(found.extract(net))

    return cut


def torch_pruning(kind: str) -> Cut:
    """A network of Torch-Pruning's, at the smallest ratio that meets the budget."""

    def cut(net: netslim.SlimNet, share: float, batches: list[data.Batch], *_: int) -> nn.Module:
        import torch_pruning as tp

        budget = share * flops(net.extract(1.0))

        def pruned(ratio: float) -> nn.Module:
            model = net.restore(models.resnet20(10, in_channels=1)).eval()
            importance = (
                tp.importance.GroupTaylorImportance()
                if kind == "taylor"
                else tp.importance.GroupMagnitudeImportance(p=2)
            )
            if kind == "taylor":
                for images, labels in batches:
                    F.cross_entropy(model(images), labels).backward()
            heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
            tp.pruner.MetaPruner(
                model, torch.zeros(1, *SHAPE), importance=importance, pruning_ratio=ratio, ignored_layers=heads
            ).step()
            model.zero_grad(set_to_none=True)
            return model

        low, high = 0.0, 1 - 1 / 64
        for _ in range(10):
            middle = (low + high) / 2
            low, high = (low, middle) if flops(pruned(middle)) <= budget else (middle, high)
        return pruned(high)

    return cut


METHODS: dict[str, Cut] = {
    "first": ranked(None),
    "random": ranked("random"),
    "l1": ranked("l1"),
    "bn": ranked("bn"),
    "taylor": ranked("taylor"),
    "l1-greedy": ranked("l1", "greedy"),
    "taylor-greedy": ranked("taylor", "greedy"),
    "taylor-search": ranked("taylor", "greedy", scored=True),
    "torch-pruning-magnitude": torch_pruning("magnitude"),
    "torch-pruning-taylor": torch_pruning("taylor"),
}


def flops(model: nn.Module) -> int:
    """Forward FLOPs of one image, as netslim counts them."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *SHAPE))
    return int(counter.get_total_flops())


def trained(start: str, seed: int, epochs: int, folder: Path) -> netslim.SlimNet:
    """The network to be cut; trained once for all methods of a seed."""
    torch.manual_seed(seed)
    net = netslim.convert(models.resnet20(10, in_channels=1), torch.randn(2, *SHAPE))
    settings = {
        "seed": seed,
        "epochs": epochs,
        "batch_size": BATCH,
        "validate_every": epochs,
        "data": "digits",
        "lr": LR,
    }
    gradaug.train(net, TrainConfig.from_dict({**STARTS[start], **settings, "weight_decay": 5e-4}), folder)
    return netslim.load(folder / "trained.pt").eval()


def tuned(model: nn.Module, source: data.DataSource, steps: int, seed: int) -> nn.Module:
    """After a short fine-tune: SGD with a tenth of the learning rate, cosine decay."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), LR / 10, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for images, labels in data.train_batches(source, BATCH, seed, 0, steps):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def measure(net: netslim.SlimNet, method: str, share: float, steps: int, evaluations: int, seed: int) -> Fields:
    """What a method keeps of a network."""
    source = data.load("digits", SHAPE, seed)
    batches = list(data.calibration_batches(source, BATCH, 8, seed))
    model = METHODS[method](net, share, batches, seed, evaluations)
    gradaug.recalibrate(model, batches)
    before = gradaug.score(model, list(data.evaluation_batches(source.validation))).top1
    after = gradaug.score(tuned(model, source, steps, seed), list(data.evaluation_batches(source.validation))).top1
    full = gradaug.score(net, list(data.evaluation_batches(source.validation))).top1
    kept = flops(model) / flops(net)
    return {"full": full, "flops": kept, "recalibrated": before, "tuned": after}


def table(rows: Iterable[Fields], start: str) -> list[list[str]]:
    """Mean and standard deviation over the seeds, a line per method; the first line names the columns."""
    lines = [["method", "runs", "FLOPs", "full", "recalibrated", "fine-tuned"]]
    for method in METHODS:
        runs: list[dict[str, Any]] = [row for row in rows if (row["start"], row["method"]) == (start, method)]
        if runs:
            shown = [mean_and_deviation([run[k] for run in runs], 2) for k in ("full", "recalibrated", "tuned")]
            lines.append([method, str(len(runs)), mean_and_deviation([run["flops"] for run in runs], 3), *shown])
    return lines


@click.command()
@click.option("--methods", help="Only these, separated by semicolons.")
@click.option("--starts", default=";".join(STARTS), show_default=True, help="How the network was trained.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--flops", "share", default=0.5, show_default=True, help="Share that is left.")
@click.option("--epochs", default=15, show_default=True, help="Of the training.")
@click.option("--steps", default=60, show_default=True, help="Of the fine-tune.")
@click.option("--evaluations", default=32, show_default=True, help="Of the search.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Rows so far, after every method.")
def main(
    methods: str | None, starts: str, seeds: int, share: float, epochs: int, steps: int, evaluations: int,
    json_path: Path | None,
) -> None:  # fmt: skip
    """Cut a trained network by every method and compare."""
    wanted, rows = chosen(methods, METHODS), saved(json_path)
    if importlib.util.find_spec("torch_pruning") is None:
        wanted = [method for method in wanted if not method.startswith("torch-pruning")]
        click.echo("torch-pruning is not installed: its rows are left out", err=True)
    settings = {"share": share, "epochs": epochs, "steps": steps, "evaluations": evaluations}
    done = {(row["start"], row["seed"], row["method"]) for row in rows if settings.items() <= row.items()}
    for seed in range(seeds):
        for start in chosen(starts, STARTS):
            left = [method for method in wanted if (start, seed, method) not in done]
            if not left:
                continue
            with tempfile.TemporaryDirectory() as folder:
                net = trained(start, seed, epochs, Path(folder))
            for method in left:
                row = {"start": start, "seed": seed, "method": method, **settings}
                note(rows, {**row, **measure(net, method, share, steps, evaluations, seed)}, json_path)
    console = Console(width=160)
    for start in chosen(starts, STARTS):
        console.print(f"trained {start}", *("  ".join(line) for line in table(rows, start)), sep="\n")


if __name__ == "__main__":
    main()
