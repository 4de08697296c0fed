"""How much time and how many FLOPs a GradAug step takes, beside plain training of the same WideResNet.

    python benchmarks/step.py                         # WRN-16-4, batch 64, channels_last
    python benchmarks/step.py --depth 28 --widen 2 --batch-size 128 --rounds 15 --json

Three steps are timed, one after another in every round, and the medians compared:
    plain       forward, cross-entropy, backward, SGD on the original model
    converted   the same on the converted network at full width
    gradaug     n = 3 sub-networks, widths from 0.8, resolutions 32/28/24
FLOPs are those of forward and backward, counted by torch.utils.flop_counter. A GradAug step can at best cost as many
plain steps as its FLOPs say; efficiency = (GradAug FLOPs / plain FLOPs) / (GradAug time / plain time).
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import netslim
from gradaug import GradAug
from gradaug.models import WideResNet

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTHS_FROM = 0.8
RESOLUTIONS = (32, 28, 24)
SUBNETS = 3
CLASSES = 10


@dataclass(frozen=True)
class Report:
    """Medians over the rounds; seconds and GFLOPs per step, ratios to the plain step."""

    network: str
    device: str
    batch_size: int
    rounds: int
    round_to: int
    seconds: dict[str, float]
    gflops: dict[str, float]
    time_ratio: dict[str, float]
    """Median over the rounds of the ratio within a round, so that a slow minute of the machine cancels."""
    flop_ratio: dict[str, float]
    efficiency: float


def measure(depth: int, widen: int, batch_size: int, rounds: int, round_to: int, device: torch.device) -> Report:
    """Times the three steps, interleaved."""
    steps, restart = build(depth, widen, batch_size, round_to, device)
    for step in steps.values():  # warm up
        step()
        step()
    restart()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times[name].append(seconds(step, device))
    restart()
    flops = {name: [count(step) for _ in range(rounds if name == "gradaug" else 1)] for name, step in steps.items()}
    flop_ratio = {name: statistics.median(values) / flops["plain"][0] for name, values in flops.items()}
    time_ratio = {
        name: statistics.median(t / plain for t, plain in zip(values, times["plain"], strict=True))
        for name, values in times.items()
    }
    per_round = [
        (f / flops["plain"][0]) / (t / plain)
        for f, t, plain in zip(flops["gradaug"], times["gradaug"], times["plain"], strict=True)
    ]
    return Report(
        network=f"WRN-{depth}-{widen}",
        device=str(device),
        batch_size=batch_size,
        rounds=rounds,
        round_to=round_to,
        seconds={name: statistics.median(values) for name, values in times.items()},
        gflops={name: statistics.median(values) / 1e9 for name, values in flops.items()},
        time_ratio=time_ratio,
        flop_ratio=flop_ratio,
        efficiency=statistics.median(per_round),
    )


def build(
    depth: int, widen: int, batch_size: int, round_to: int, device: torch.device
) -> tuple[dict[str, Callable[[], object]], Callable[[], None]]:
    """The three steps by name, and a function that starts the sequence of sub-networks again."""
    torch.manual_seed(0)
    model = WideResNet(depth, widen, CLASSES)
    net = netslim.convert(model, torch.randn(2, 3, 32, 32))
    images = torch.randn(batch_size, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch_size,), device=device)
    for module in (model, net):
        module.to(device).to(memory_format=torch.channels_last).train()

    def plain_step(module: nn.Module) -> Callable[[], object]:
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

        def step() -> None:
            optimizer.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimizer.step()

        return step

    ga = GradAug(net, alpha=WIDTHS_FROM, num_subnets=SUBNETS, resolutions=RESOLUTIONS, round_to=round_to)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, nesterov=True)
    steps = {
        "plain": plain_step(model),
        "converted": plain_step(net),
        "gradaug": lambda: ga.step(images, labels, optimizer),
    }

    def restart() -> None:
        ga.steps = 0

    return steps, restart


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """Wall time of one step, the GPU's work included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - start


def count(step: Callable[[], object]) -> int:
    """FLOPs of one step, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def table(report: Report) -> Table:
    title = f"{report.network}, batch {report.batch_size}, {report.device}, median of {report.rounds} rounds"
    found = Table(title=title, title_justify="left")
    for column in ("step", "ms", "GFLOPs", "time / plain", "limit: FLOPs / plain"):
        found.add_column(column, justify="left" if column == "step" else "right")
    for name in report.seconds:
        found.add_row(
            name,
            f"{1000 * report.seconds[name]:.1f}",
            f"{report.gflops[name]:.2f}",
            f"{report.time_ratio[name]:.3f}",
            f"{report.flop_ratio[name]:.3f}",
        )
    return found


@click.command()
@click.option("--depth", default=16, show_default=True, help="16, 22, 28, ...")
@click.option("--widen", default=4, show_default=True, help="Channels are 16, 32, 64 times this.")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(min=1))
@click.option("--round-to", default=16, show_default=True, help="Widths are multiples of this many channels.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(depth: int, widen: int, batch_size: int, rounds: int, round_to: int, device: str, as_json: bool) -> None:
    """Time and FLOPs of plain, converted and GradAug training steps on a WideResNet."""
    report = measure(depth, widen, batch_size, rounds, round_to, torch.device(device))
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
        return
    Console().print(table(report))
    click.echo(f"efficiency of the GradAug step (FLOP ratio / time ratio): {report.efficiency:.3f}")


if __name__ == "__main__":
    main()
