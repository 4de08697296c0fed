"""How long analysis takes beside Torch-Pruning's graph building, per model: the same model, input, thread and process.

    python benchmarks/analysis.py --json build/analysis.json --markdown docs/analysis-time.md
    python benchmarks/analysis.py resnet50 timm:gmlp_ti16_224 --rounds 3

    analysis        netslim.analyse: both modes and further sizes followed, channel groups, blocks, rewritten programs
    graph           DependencyGraph().build_dependency: one forward pass, and the graph of its backward
    graph, groups   the same, and list(get_all_groups())
Seconds of the processor, medians of rounds in which all are timed one after another. Every model runs in a process of
its own under limits; where one tool fails, its error stands in the place of its time. Needs Torch-Pruning
(python -m pip install torch-pruning); without it, its columns stay empty. A second start goes on.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import machine
import torch
from rich.console import Console
from rich.table import Table
from seeds import Fields, note, piped, saved, written
from torch import nn
from zoo_limits import Job, Limits, Send, run_limited, told
from zoo_models import chosen

import netslim
from netslim.source.shapes import DEFAULT, Shapes, example_inputs, shown
from netslim.source.spec import load_source

TIMM = (
    "resnet18 convnext_atto efficientnet_lite0 ghostnetv2_100 hrnet_w18_small mixer_s32_224 gmlp_ti16_224 "
    "resmlp_12_224 vit_tiny_patch16_224 deit_tiny_patch16_224 crossvit_tiny_240 swin_tiny_patch4_window7_224 "
    "levit_128s mobilevitv2_050 repvgg_a0 dla34 regnetz_005 tf_mixnet_s cait_xxs24_224 poolformer_s12"
).split()
NO_CLASSIFIERS = ("detection", "segmentation", "optical_flow", "video", "quantization")
TOOLS = ("analysis", "graph", "graph, groups")
HEADS = ("model", "M params", *(f"{tool}, s" for tool in TOOLS), "analysis / graph", "analysis / graph, groups")


def sources(names: tuple[str, ...], every: bool = False) -> list[str]:
    """The models named, torchvision's without a prefix; else one classifier of each of its modules, and some of timm.

    every: all of torchvision's classifiers in the place of the first by name.
    """
    if names:
        return [name if ":" in name else f"torchvision:{name}" for name in names]
    found = [e for e in chosen(["torchvision"]) if is_classifier(e.source)]
    first = {e.family: e for e in reversed(found)}
    return [e.source for e in found if every or first[e.family] is e] + [f"timm:{name}" for name in TIMM]


def is_classifier(source: str) -> bool:
    import torchvision

    module = torchvision.models.get_model_builder(source.partition(":")[2]).__module__
    return not any(part in NO_CLASSIFIERS for part in module.split("."))


# ------------------------------------------------------------------------------------------ measuring


def measuring(source: str, rounds: int) -> Job:
    """Medians for one model, in a process of its own."""

    def job(send: Send) -> None:
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)
        torch.manual_seed(0)
        loaded = load_source(source)
        model, shapes = loaded.model.eval(), loaded.shapes or DEFAULT
        send({"params": sum(p.numel() for p in model.parameters()), "input": f"1 of {shown(shapes)}"})
        tools, times = timed(model, one_image(shapes)), dict[str, list[float]]()
        for _ in range(rounds):
            for tool, run in list(tools.items()):
                try:
                    times.setdefault(tool, []).append(run())
                except Exception as error:
                    send({f"{tool}, error": told(error)["failure"], tool: None})
                    del tools[tool]
                else:
                    send({tool: statistics.median(times[tool])})

    return job


def one_image(shapes: Shapes) -> Any:
    """The same images for every tool; Torch-Pruning's own examples have one."""
    inputs = example_inputs(shapes)
    return tuple(t[:1] for t in inputs) if isinstance(inputs, tuple) else inputs[:1]


def timed(model: nn.Module, inputs: Any) -> dict[str, Callable[[], float]]:
    """The tools, each as a function that gives its seconds."""

    def analysis() -> float:
        start = time.process_time()
        netslim.analyse(model, inputs)
        return time.process_time() - start

    def graph(groups: bool) -> float:
        import torch_pruning

        start = time.process_time()
        found = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=inputs)
        if groups:
            list(found.get_all_groups())
        return time.process_time() - start

    if importlib.util.find_spec("torch_pruning") is None:
        return {"analysis": analysis}
    return {"analysis": analysis, "graph": lambda: graph(False), "graph, groups": lambda: graph(True)}


# ------------------------------------------------------------------------------------------ telling


def lines(rows: list[Fields]) -> list[list[str]]:
    """The table; the first line names the columns."""
    return [list(HEADS), *([_name(row), f"{row.get('params', 0) / 1e6:.1f}", *_cells(row)] for row in rows)]


def _name(row: Fields) -> str:
    return str(row["model"]).removeprefix("torchvision:")


def _cells(row: Fields) -> list[str]:
    shares = [ratio(row, tool) for tool in TOOLS[1:]]
    failed = row.get("failure", "")
    times = [f"{row[tool]:.2f}" if ran(row, tool) else _failure(row.get(f"{tool}, error", failed)) for tool in TOOLS]
    return [*times, *("" if share is None else f"{share:.1f}" for share in shares)]


def _failure(error: str) -> str:
    return error.partition(":")[0]


def ratio(row: Fields, tool: str) -> float | None:
    """Of the time of analysis to that of a tool, where both ran."""
    return row["analysis"] / row[tool] if ran(row, "analysis") and ran(row, tool) else None


def ran(row: Fields, tool: str) -> bool:
    return row.get(tool) is not None


def summary(rows: list[Fields]) -> str:
    """How many each tool runs on, and the ratios where both do."""
    counts = ", ".join(f"{tool} {sum(ran(row, tool) for row in rows)}" for tool in TOOLS)
    said = [f"Of {len(rows)} models each runs on: {counts}."]
    for tool in TOOLS[1:]:
        found = [share for row in rows if (share := ratio(row, tool)) is not None]
        if found:
            quicker = sum(share < 1 for share in found)
            spread = f"{min(found):.2f} to {max(found):.1f}, median {statistics.median(found):.1f}"
            said.append(f"Analysis takes {spread} of the time of {tool}; it is quicker on {quicker} of {len(found)}.")
    return " ".join(said)


def markdown(rows: list[Fields], rounds: int, command: str) -> str:
    return f"""# Analysis beside graph building

Written by this command, never by hand:

    {command}

On {machine.of(rows)}; one thread, processor seconds, medians of {rounds} rounds, one image at the input size of the
library.

{summary(rows)}

{piped(lines(rows))}

{ABOUT}
"""


ABOUT = """- **analysis** is `netslim.analyse`: forward is followed in training and in evaluation, and in both again at
  other batches and sides, on tensors without values, so that its time does not depend on how much the model computes.
  It gives channel groups, blocks, reasons, and programs that run at any width and those sizes.
- **graph** is `torch_pruning.DependencyGraph().build_dependency` of
  [Torch-Pruning](https://github.com/VainF/Torch-Pruning): one forward pass with values, at one size and in one mode,
  and the graph that autograd has of it. **graph, groups** lists its groups as well, as analysis does.
- Where a tool cannot run, the class of its error stands in the place of the time."""


@click.command()
@click.argument("models", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All classifiers of torchvision, not one of each module; hours.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--time-limit", default=60.0, show_default=True, help="Processor seconds for one model.")
@click.option("--memory-limit", default=12.0, show_default=True, help="GiB for one model.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Rows so far; a second start goes on.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="The table, at the end.")
def main(
    models: tuple[str, ...], every: bool, rounds: int, time_limit: float, memory_limit: float, json_path: Path | None,
    markdown_path: Path | None,
) -> None:  # fmt: skip
    """Time netslim's analysis and Torch-Pruning's graph on the same models."""
    if importlib.util.find_spec("torch_pruning") is None:
        click.echo(
            "torch-pruning is not installed (python -m pip install torch-pruning): its times are left out", err=True
        )
    names, rows = sources(models, every), saved(json_path)
    netslim.analyse(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), torch.zeros(1, 3, 8, 8))  # what a first one imports
    done = {row["model"] for row in rows if row["rounds"] == rounds}
    jobs = ((name, measuring(name, rounds)) for name in names if name not in done)
    for name, fields in run_limited(jobs, Limits(time_limit, memory_limit)):
        note(rows, {"model": name, "rounds": rounds, "measured": machine.described(), **fields}, json_path)
    order = {name: place for place, name in enumerate(names)}
    rows = sorted((r for r in rows if r["model"] in order and r["rounds"] == rounds), key=lambda r: order[r["model"]])
    table = Table(*HEADS)
    for line in lines(rows)[1:]:
        table.add_row(*line)
    Console(width=160).print(table, summary(rows))
    if markdown_path:
        written(markdown_path, markdown(rows, rounds, machine.command("analysis")))


if __name__ == "__main__":
    main()
