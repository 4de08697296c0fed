"""How long a GradAug step takes by either exchange of gradients: two processes on this machine's CPUs, through gloo.

    python benchmarks/sync.py                         # WRN-16-4, batch 16 per process
    python benchmarks/sync.py --depth 28 --widen 10 --rounds 5 --json

    alone       no exchange: what the passes and the optimizer take by themselves
    flat        one all-reduce of all gradients after the last pass
    ddp         DistributedDataParallel's buckets, sent while the last backward runs
The three take turns in every round; medians over the rounds of the slower process.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.parallel import DistributedDataParallel

import gradaug
import netslim
from gradaug.distributed.processes import joined
from gradaug.models import WideResNet

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 2
EXCHANGES = ("alone", "flat", "ddp")


def measure(mode: str, depth: int, widen: int, batch_size: int, rounds: int) -> dict[str, float]:
    """Seconds of a step by each exchange."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
        free.close()
        arguments = (port, folder, mode, depth, widen, batch_size, rounds)
        torch.multiprocessing.spawn(_process, arguments, nprocs=PROCESSES)
        every = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    return {name: statistics.median(map(max, *(one[name] for one in every))) for name in EXCHANGES}


def _process(
    rank: int, port: int, folder: str, mode: str, depth: int, widen: int, batch_size: int, rounds: int
) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(PROCESSES),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
    }
    with joined(cuda=False):
        steps = {name: _step(name, mode, depth, widen, batch_size) for name in EXCHANGES}
        for step in (*steps.values(), *steps.values()):  # DDP settles its buckets in the second
            step()
        found: dict[str, list[float]] = {name: [] for name in EXCHANGES}
        for _ in range(rounds):
            for name, step in steps.items():
                torch.distributed.barrier()
                begun = time.perf_counter()
                step()
                found[name].append(time.perf_counter() - begun)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))


def _step(name: str, mode: str, depth: int, widen: int, batch_size: int) -> Callable[[], object]:
    torch.manual_seed(0)
    net = netslim.convert(WideResNet(depth, widen, 10), torch.randn(2, 3, 32, 32), prove=False).train()
    ga = gradaug.GradAug(DistributedDataParallel(net) if name == "ddp" else net, mode, resolutions=(32, 28, 24))
    images, labels = torch.randn(batch_size, 3, 32, 32), torch.randint(10, (batch_size,))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        ga.backward(images, labels)
        if name == "flat":
            gradaug.average_gradients(net.parameters())
        optimizer.step()

    return step


@click.command()
@click.option("--mode", default="both", show_default=True)
@click.option("--depth", default=16, show_default=True, help="16, 22, 28, ...")
@click.option("--widen", default=4, show_default=True, help="Channels are 16, 32, 64 times this.")
@click.option("--batch-size", default=16, show_default=True, help="Images per process.")
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(min=1))
@click.option("--json", "as_json", is_flag=True)
def main(mode: str, depth: int, widen: int, batch_size: int, rounds: int, as_json: bool) -> None:
    """Time of a GradAug step without exchange, with the flat one, and with DistributedDataParallel's."""
    seconds = measure(mode, depth, widen, batch_size, rounds)
    if as_json:
        click.echo(json.dumps(seconds, indent=2))
        return
    title = f"WRN-{depth}-{widen}, {mode}, {PROCESSES} processes (gloo), batch {batch_size} each, median of {rounds}"
    found = Table("exchange", "ms a step", "ms over none", title=title, title_justify="left")
    for name, taken in seconds.items():
        found.add_row(name, f"{1000 * taken:.1f}", f"{1000 * (taken - seconds['alone']):.1f}")
    Console().print(found)


if __name__ == "__main__":
    main()
