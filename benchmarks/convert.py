"""How long conversion takes: seconds of analysis per model, on one thread, without any weight.

    python benchmarks/convert.py                          # the default list of torchvision models
    python benchmarks/convert.py resnet50 vit_b_16 --convert --json

Analysis is timed on meta-device models, the median of several runs. With --convert, the real conversion with its proof
is timed once, and the elastic share at width 0.5 is counted.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import click
import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import nn

import netslim
from netslim.cost import elastic_share

MODELS = (
    "resnet18 resnet50 resnext50_32x4d densenet121 mobilenet_v2 mobilenet_v3_large shufflenet_v2_x1_0 efficientnet_b0 "
    "googlenet inception_v3 squeezenet1_0 regnet_y_400mf mnasnet1_0 vgg16_bn alexnet convnext_tiny"
).split()


def build(name: str, device: str) -> nn.Module:
    """A torchvision model with untrained weights; on the meta device where its constructor can do that."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("cpu" if "regnet" in name else device):
        return torchvision.models.get_model(name, weights=None, **options)


def measure(name: str, rounds: int, convert: bool) -> dict[str, Any]:
    """One row of the table."""
    side = 299 if name == "inception_v3" else 224
    model, image = build(name, "meta"), torch.empty(1, 3, side, side, device="meta")
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        plan, _ = netslim.analyse(model, image)
        seconds.append(time.perf_counter() - start)
    row: dict[str, Any] = {"model": name, "analysis_s": statistics.median(seconds), "groups": len(plan.groups)}
    if convert:
        start = time.perf_counter()
        net = netslim.convert(build(name, "cpu"), torch.empty(1, 3, side, side))
        cost = elastic_share(net)
        row |= {
            "convert_s": time.perf_counter() - start,
            "proved": net.proof is not None and net.proof.passed,
            "params_share": cost.params_share,
            "flops_share": cost.flops_share,
        }
    return row


@click.command()
@click.argument("models", nargs=-1)
@click.option("--rounds", default=5, show_default=True, help="Analyses per model; the median is told.")
@click.option("--convert", is_flag=True, help="Also convert with the proof, and count the elastic share at width 0.5.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def main(models: tuple[str, ...], rounds: int, convert: bool, as_json: bool) -> None:
    """Time netslim on torchvision models."""
    torch.set_num_threads(1)
    rows = [measure(name, rounds, convert) for name in models or MODELS]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(title=f"torch {torch.__version__}, torchvision {torchvision.__version__}, one thread")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
