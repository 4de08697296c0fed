"""Real models by the hundred: which of them netslim converts and proves, how much of each is elastic, and how fast.

    python benchmarks/zoo.py --models torchvision --models timm --json zoo.json --markdown docs/zoo.md
    python benchmarks/zoo.py --models torchvision:resnet50 --models mypackage.models:net --peers
    python benchmarks/zoo.py --models timm --json zoo.json --resume
    python benchmarks/zoo.py --models sample
    python benchmarks/zoo.py --models thirdparty --models thirdparty:monai --models thirdparty:monai/UNet

Every model runs in a process of its own under a time and a memory limit, on one thread. The JSON file is rewritten
after every model, so an interrupted run goes on with --resume.

    converted, proved   netslim.convert with its proof: three random sub-networks equal the masked full network
    parity              largest relative difference of a training step at full width from the original's: outputs,
                        gradients of parameters and inputs, buffers
    elastic outputs     share of the output channels of all convolution and linear layers that belong to a group;
                        the channels of the model's own outputs are not counted
    kept                parameters and FLOPs with every group at half width
    step                one training step at random widths: forward, backward, SGD
"""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import click
import thirdparty
import torch
from rich.console import Console
from torch import nn
from zoo_limits import Fields, Job, Limits, run_limited
from zoo_models import THIRDPARTY, Entry, chosen, library
from zoo_netslim import netslim_job
from zoo_peers import PEERS, missing, peer_job
from zoo_report import line, markdown, printed, versions

import netslim
from netslim.files import atomic_write

OURS = "netslim"
FAILED = "failed"
Name = tuple[str, str]
"""Tool and model."""


@click.command()
@click.option("--models", "-m", multiple=True, default=("torchvision", "timm"), show_default=True,
              help="torchvision, timm, thirdparty, sample, or a SOURCE that netslim can load; any number.")  # fmt: skip
@click.option("--variants", default=2, show_default=True, help="Models of each timm family, smallest first.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Rows so far, after every model.")
@click.option("--markdown", "markdown_file", type=click.Path(path_type=Path), help="The whole table, at the end.")
@click.option("--time-limit", default=300.0, show_default=True, help="Processor seconds for each model and tool.")
@click.option("--memory-limit", default=16.0, show_default=True, help="GiB for each model and tool.")
@click.option("--workers", default=1, show_default=True, help="Models at a time, one thread each.")
@click.option("--peers", is_flag=True, help=f"Also {' and '.join(PEERS)} on the same models, where installed.")
@click.option("--full-size/--reduced", default=True, show_default=True,
              help="Input sizes of the library, or half of them where the model allows it.")  # fmt: skip
@click.option("--analysis-only", is_flag=True, help="Convert nothing: what is elastic and what cannot be followed.")
@click.option("--resume", is_flag=True, help="Go on with the rows of the JSON file.")
@click.option("--again", multiple=True, type=click.Choice([FAILED, OURS, *PEERS]),
              help="As --resume, but measure again what failed, or everything of one tool.")  # fmt: skip
def main(
    models: tuple[str, ...], variants: int, json_file: Path | None, markdown_file: Path | None, time_limit: float,
    memory_limit: float, workers: int, peers: bool, full_size: bool, analysis_only: bool, resume: bool,
    again: tuple[str, ...],
) -> None:  # fmt: skip
    """Convert many models and say what came of it."""
    if peers and missing():
        raise click.UsageError(f"--peers needs {' and '.join(missing())}; run: pip install {' '.join(missing())}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no child outlives this process
    torch.set_num_threads(1)
    console, limits = Console(width=160), Limits(time_limit, memory_limit)
    before = read(json_file) if json_file and (resume or again) else {}
    rows = {key(row): row for row in before.get("rows", ()) if not wanted_again(row, again)}
    run = before.get("run") or {"commands": [], "models": [astuple(e) for e in chosen(models, variants)]}
    run |= {"versions": versions(), "workers": workers, "reduced": not full_size}
    entries = [Entry(*e) for e in run["models"]]
    console.print(f"{len(entries)} models: " + ", ".join(e.source for e in entries))
    wanted = jobs(entries, PEERS if peers else (), not full_size, analysis_only)
    todo = {name: job for name, job in wanted.items() if name not in rows}
    if todo:
        run["commands"].append({"command": shlex.join(["python", *sys.argv])} | asdict(limits))
    warm_up(entries)
    for row in measured(todo, entries, limits, workers):
        rows[key(row)] = row
        console.print(f"{len(rows):4d}  {line(row)}", highlight=False, soft_wrap=True)
        write(json_file, run, list(rows.values()))
    ordered = [rows[tool, e.source] for e in entries for tool in (OURS, *PEERS) if (tool, e.source) in rows]
    printed(console, run, ordered)
    if markdown_file:
        with atomic_write(markdown_file) as path:
            path.write_text(markdown(run, ordered))


def measured(todo: dict[Name, Job], entries: list[Entry], limits: Limits, workers: int) -> Iterator[Fields]:
    """The rows, as they come in."""
    families = {e.source: e.family for e in entries}
    for (tool, source), fields in run_limited(todo.items(), limits, workers):
        yield {"model": source, "tool": tool, "family": families[source]} | fields


def jobs(entries: list[Entry], peers: Iterable[str], reduced: bool, analysis_only: bool) -> dict[Name, Job]:
    """What there is to measure, by tool and model."""
    found: dict[Name, Job] = {}
    for entry in entries:
        found[OURS, entry.source] = netslim_job(entry, reduced, analysis_only)
        found |= {(peer, entry.source): peer_job(peer, entry, reduced) for peer in peers}
    return found


def key(row: Fields) -> Name:
    return row["tool"], row["model"]


def wanted_again(row: Fields, again: tuple[str, ...]) -> bool:
    """Whether a row of an earlier run is to be measured anew."""
    return row["tool"] in again or (FAILED in again and bool(row.get("failure")))


def warm_up(entries: list[Entry]) -> None:
    """What the first analysis of a process imports and caches is no property of the first model.

    Packages are imported once, and not in every child; one that cannot be imported is told by its models' rows.
    """
    for package in dict.fromkeys(library(e.source) for e in entries if e.source.startswith(f"{THIRDPARTY}:")):
        with contextlib.suppress(Exception):
            thirdparty.imported(package)
    netslim.analyse(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), torch.zeros(2, 3, 8, 8))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path | None, run: Fields, rows: list[Fields]) -> None:
    if path is not None:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"run": run, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
