"""Whether a network chosen for a latency keeps it: measured again in a process of its own, in torch and in onnxruntime.

    python benchmarks/latency.py                                   # resnet18 at 96 x 96, 40 to 80 % of its own time
    python benchmarks/latency.py --model mobilenet_v3_large --side 160 --shares 0.5 --runtimes torch --json

A budget is a share of what the full network takes here. The network that netslim chooses for it is measured again,
beside the full one, by another process; `again` is what that comes to by the budget's clock (the full network's
quickest time when the budget was set), and `alone` the quickest time that this process saw by its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
import torchvision
from rich.console import Console
from rich.table import Table

import netslim
from netslim.choosing.steady import CAREFUL, QUICK, Yardstick
from netslim.export.speed import RUNTIMES
from netslim.net.runtime import runtime as of


@dataclass(frozen=True)
class Row:
    """Milliseconds for one image; ratios are to the budget."""

    runtime: str
    search: str
    full: float
    budget: float
    chosen: float
    again: float
    alone: float

    @property
    def ratio(self) -> float:
        return self.again / self.budget


def row(net: netslim.SlimNet, runtime: str, search: str, share: float, quick: bool, folder: Path) -> Row:
    """Chooses a network for a share of the full one's time, and has it measured again."""
    inputs, prepare = of(net).plan.inputs, RUNTIMES[runtime]
    yardstick = Yardstick(prepare(net.extract(), inputs), QUICK if quick else CAREFUL)
    budget = share * yardstick.seconds
    found = netslim.choose(
        net, latency=budget, search=search, seconds=lambda model, given: yardstick.beside(prepare(model, given))
    )
    netslim.save(net, folder / "converted.pt")
    asked = {"width": found.width, "depth": dict(found.depth), "runtime": runtime, "quick": quick}
    (folder / "asked.json").write_text(json.dumps(asked))
    fresh = subprocess.run([sys.executable, __file__, "--again", str(folder)], stdout=subprocess.PIPE, check=True)
    full, small, alone = json.loads(fresh.stdout)
    assert found.seconds is not None
    times = (yardstick.seconds, budget, found.seconds, small / full * yardstick.seconds, alone)
    return Row(runtime, search, *(1e3 * seconds for seconds in times))


def measured_again(folder: Path) -> tuple[float, float, float]:
    """Seconds of the full network, of the chosen one beside it, and the quickest of the chosen one alone."""
    asked, net = json.loads((folder / "asked.json").read_text()), netslim.load(folder / "converted.pt")
    inputs, prepare = of(net).plan.inputs, RUNTIMES[asked["runtime"]]
    effort = QUICK if asked["quick"] else CAREFUL
    small = prepare(net.extract(asked["width"], asked["depth"]), inputs)
    yardstick = Yardstick(prepare(net.extract(), inputs), effort)
    return yardstick.seconds, yardstick.beside(small), Yardstick(small, effort).seconds


@click.command()
@click.option("--model", default="resnet18", show_default=True, help="One of torchvision's.")
@click.option("--side", default=96, show_default=True, help="Of the images.")
@click.option("--shares", default="0.4,0.6,0.8", show_default=True, help="Budgets, of the full network's time.")
@click.option("--searches", default="uniform,greedy", show_default=True)
@click.option("--runtimes", default="torch,onnxruntime", show_default=True)
@click.option("--quick", is_flag=True, help="Measure for moments: to see that this runs.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--again", type=click.Path(path_type=Path), hidden=True)
def main(
    model: str, side: int, shares: str, searches: str, runtimes: str, quick: bool, as_json: bool, again: Path | None
) -> None:
    """Budgets of latency, and what the networks chosen for them take afterwards."""
    if again is not None:
        click.echo(json.dumps(measured_again(again)))
        return
    torch.manual_seed(0)
    network = torchvision.models.get_model(model, weights=None).eval()
    net = netslim.convert(network, torch.randn(1, 3, side, side), prove=False).eval()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for runtime in runtimes.split(","):
            for search in searches.split(","):
                for share in map(float, shares.split(",")):
                    rows.append(row(net, runtime, search, share, quick, Path(folder)))
                    click.echo(f"{rows[-1]}: {rows[-1].ratio:.3f} of the budget", err=True)
    if as_json:
        click.echo(json.dumps([{**asdict(each), "ratio": each.ratio} for each in rows], indent=2))
        return
    table = Table("runtime", "search", "full", "budget", "chosen", "again", "again / budget", "alone")
    for each in rows:
        times = [f"{t:.2f}" for t in (each.full, each.budget, each.chosen, each.again)]
        table.add_row(each.runtime, each.search, *times, f"{each.ratio:.3f}", f"{each.alone:.2f}")
    Console().print(f"{model} at {side} x {side}, one image, {torch.get_num_threads()} threads; ms", table)


if __name__ == "__main__":
    main()
