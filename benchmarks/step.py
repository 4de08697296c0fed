"""What a GradAug step takes beside its limit: the same passes as plain networks of the same sizes, and the optimizer.

    python benchmarks/step.py                                                 # all of the table; an hour
    python benchmarks/step.py --network WRN-28-2 --mode both --rounds 15
    python benchmarks/step.py --json build/step.json --markdown docs/speed.md
    python benchmarks/step.py --compile --network ResNet-18 --mode randwidth  # compiled, beside compiled plain networks
    python benchmarks/step.py --amp bf16 --network ResNet-18                  # by autocast, all of it

Of every network and mode these steps are timed, one after another in every round, all on the same draws:
    plain           forward, cross-entropy, backward and SGD of the original model
    converted       the same of the converted network at full width
    gradaug         n = 3 sub-networks, widths from 0.8, resolutions of 1, 7/8 and 3/4
    limit           the original model, then every sub-network extracted as a plain network, on images resized before:
                    forward and backward of each, one step of the optimizer
    original        gradaug as the authors' code does it (benchmarks/original.py), of the same channel counts
    original, any   the same at its own channel counts, which are no multiples of anything
Shares are the medians of ratios within a round. The FLOP limit is what the step would take if time were FLOPs. On one
thread of a CPU seconds are those of the processor, which other programs on the machine change little.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import click
import machine
import memory
from rich.console import Console
from rich.table import Table
from seeds import Fields, note, piped, saved, written
from steps import NETWORKS, Bench, Draws, Setting, Step, built
from torch.utils.flop_counter import FlopCounterMode

from netslim.choosing.latency import computing_with

MODES = ("randwidth", "randdepth", "both")


# ------------------------------------------------------------------------------------------ measuring


def measured(network: str, mode: str, setting: Setting) -> Fields:
    """One row: medians, seconds and GFLOPs of a step, and shares."""
    with computing_with(setting.threads):
        bench = built(network, mode, setting)
        eager = built(network, mode, replace(setting, compile=False)) if setting.compile else bench
        flops = [counted(eager.steps["gradaug"], draws) / counted(eager.steps["plain"], draws) for draws in bench.draws]
        del eager
        for name in bench.steps.keys() - {"gradaug", "plain"}:
            for draws in bench.draws:
                bench.steps[name](draws)  # all kernels are made before the first round
        times = [
            {name: taken(step, bench.draws[number % setting.different], setting) for name, step in bench.steps.items()}
            for number in range(setting.rounds)
        ]
        peaks = {name: peak(bench, name, setting.device) for name in ("plain", "gradaug")}
    return {
        "network": network,
        "mode": mode,
        "setting": asdict(setting),
        "measured": machine.described(setting.device),
        "seconds": {name: statistics.median(row[name] for row in times) for name in bench.steps},
        "plain_steps": middle(row["gradaug"] / row["plain"] for row in times),
        "converted": middle(row["converted"] / row["plain"] for row in times),
        "of_limit": middle(row["limit"] / row["gradaug"] for row in times),
        "of_flops": middle(
            flops[number % setting.different] * row["plain"] / row["gradaug"] for number, row in enumerate(times)
        ),
        "over": {
            name: middle(row[name] / row["gradaug"] for row in times) for name in bench.steps if name.startswith("orig")
        },
        "flops": statistics.median(flops),
        "memory": peaks["gradaug"] / peaks["plain"],
    }


def peak(bench: Bench, name: str, device: str) -> int:
    """Bytes in use during the step that has most in use."""
    return max(memory.peak(lambda draws=draws: bench.steps[name](draws), device) for draws in bench.draws)  # type: ignore[misc]


def middle(values: Iterable[float]) -> float:
    return round(statistics.median(values), 4)


def taken(step: Step, draws: Draws, setting: Setting) -> float:
    begun = setting.now()
    step(draws)
    return setting.now() - begun


def counted(step: Step, draws: Draws) -> int:
    """FLOPs of forward and backward, two per multiply-add."""
    with FlopCounterMode(display=False) as counter:
        step(draws)
    return counter.get_total_flops()


# ------------------------------------------------------------------------------------------ showing


HEADS = [
    "network", "mode", "plain ms", "GradAug ms", "in plain steps", "converted / plain", "share of the limit",
    "of the FLOP limit", "original / GradAug", "original, any widths / GradAug", "peak memory / plain",
]  # fmt: skip


def lines(rows: list[Fields]) -> list[list[str]]:
    """The table; the first line names the columns."""
    return [HEADS, *map(_line, rows)]


def _line(row: Fields) -> list[str]:
    seconds, over = row["seconds"], row["over"]
    return [
        row["network"],
        row["mode"],
        f"{1000 * seconds['plain']:.0f}",
        f"{1000 * seconds['gradaug']:.0f}",
        *(f"{row[name]:.2f}" for name in ("plain_steps", "converted", "of_limit", "of_flops")),
        *(f"{over[name]:.2f}" if name in over else "-" for name in ("original", "original, any")),
        f"{row['memory']:.2f}",
    ]


def markdown(rows: list[Fields], setting: Setting, command: str) -> str:
    """The whole of docs/speed.md."""
    clock = "processor seconds" if setting.device == "cpu" and setting.threads == 1 else "seconds"
    numbers = ("float32" if setting.amp == "none" else setting.amp) + ", compiled" * setting.compile
    measured = (
        f"On {machine.of(rows)}; batch {setting.batch_size}, threads: {setting.threads}, widths multiples of "
        f"{setting.round_to}, {numbers}, {clock}, medians of {setting.rounds} rounds."
    )
    return (
        "\n\n".join(
            [
                "# Speed of a step",
                "Written by this command, never by hand:",
                f"    {command}",
                measured,
                piped(lines(rows)),
                ABOUT + COMPILED * setting.compile,
            ]
        )
        + "\n"
    )


ABOUT = """- **The limit** is the same passes as plain networks: the original model, then each sub-network as `extract`
  gives it, on images that were resized before; forward and backward of each, and one step of the optimizer. No way to
  train these sub-networks is quicker as long as every pass runs its own forward and backward in eager PyTorch: 1.00 is
  the limit, and differences of 0.02 are noise.
- **The FLOP limit** is the plain step's time multiplied by the FLOPs of the step over its own. Narrower layers and
  smaller images take more time per FLOP.
- **original** is GradAug the way the authors' code does it, written anew in `benchmarks/original.py`: layers that
  slice their weights in every forward, NCHW, at the same channel counts; "any widths": at counts that are multiples of
  nothing, as there. It has layers for convolutions, batch norm and linear layers, and none for ConvNeXt.
- **converted / plain**: the converted network at full width against the model it was made of.
- **peak memory**: bytes in use during a step beside those of a plain step of the model: more by the gradients, which
  are there while sub-networks run, and by slices of weights; most where few and small images meet many weights."""

COMPILED = """
- **compiled**: the plain networks of the limit, and the plain step, are compiled by `torch.compile`, each whole and for
  its sizes; GradAug's network as `gradaug train --compile` does it, in pieces for all sizes."""


@click.command()
@click.option("--network", "networks", type=click.Choice(list(NETWORKS)), multiple=True, default=list(NETWORKS))
@click.option("--mode", "modes", type=click.Choice(MODES), multiple=True, default=MODES)
@click.option("--batch-size", default=64, show_default=True)
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(min=1))
@click.option("--round-to", default=16, show_default=True, help="Widths are multiples of this many channels.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--compile", "compiled", is_flag=True, help="GradAug by --compile; plain networks by torch.compile, each."
)
@click.option("--amp", type=click.Choice(["none", "bf16"]), default="none", show_default=True, help="By autocast.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Rows so far; a second start goes on.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="The table, at the end.")
def main(
    networks: tuple[str, ...],
    modes: tuple[str, ...],
    batch_size: int,
    rounds: int,
    round_to: int,
    device: str,
    threads: int,
    compiled: bool,
    amp: str,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """Time and memory of GradAug steps beside plain ones, their limit, and the original code's way."""
    setting, rows = Setting(batch_size, rounds, round_to, device, threads, compiled, amp), saved(json_path)
    done = {(row["network"], row["mode"]) for row in rows if Setting(**row["setting"]) == setting}
    for network in networks:
        for mode in modes:
            if (network, mode) not in done:
                note(rows, measured(network, mode, setting), json_path)
    rows = [r for r in rows if Setting(**r["setting"]) == setting and r["network"] in networks and r["mode"] in modes]
    table = Table(*HEADS)
    for line in lines(rows)[1:]:
        table.add_row(*line)
    Console(width=200).print(table)
    if markdown_path:
        written(markdown_path, markdown(rows, setting, machine.command("step")))


if __name__ == "__main__":
    main()
