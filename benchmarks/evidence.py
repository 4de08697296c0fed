"""Does GradAug help where labels are few? The paper's low-data table on real images that anyone can install.

    python benchmarks/evidence.py                     # docs/evidence.json and docs/evidence.md; a night
    python benchmarks/evidence.py --labels 250 --seeds 1 --methods "baseline;GradAug, width" --workers 2
    python benchmarks/evidence.py --methods "baseline;GradAug, width;without resolutions" --json a.json --markdown a.md
    python benchmarks/evidence.py --methods "baseline;baseline, twice as long;every 4th step;half the batch"

Fashion-MNIST (`apt install dataset-fashion-mnist`) with 250, 1,000 and 4,000 labels. All methods train one network from
the same weights on the same images for the same number of steps; baselines also get more, so that a method is compared
with one that took as long. The rows that follow the paper's are run by default, those that take GradAug apart or make
it cheaper where --methods names them. The files are written after every run, and a second start goes on with them.
"""

from __future__ import annotations

import multiprocessing
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import click
import comparison
import machine
import torch
from comparison import Run, Study, at_equal_time, cost_table, measure, mine, missing, of, said, table
from seeds import Fields, chosen, note, piped, saved, written

from gradaug.evaluation.robustness import KINDS
from gradaug.recipes import load

ROOT = Path(__file__).parent.parent
SIDE = 28
BATCH = 50
SIZES = [28, 24, 20]

GRADAUG: Fields = {"mode": "randwidth", "alpha": 0.8, "num_subnets": 3, "round_to": 1, "resolutions": SIZES}
TABLE: dict[str, Fields] = {
    "baseline": {},
    "baseline, same time": {"times": 3},
    "CutMix, p = 0.5": load("cutmix").settings,
    "CutMix, p = 0.1": {**load("cutmix").settings, "mix_probability": 0.1},
    "ShakeDrop": load("shakedrop").settings,
    "stochastic depth": load("stochastic_depth").settings,
    "GradAug, width": GRADAUG,
    "GradAug, depth": {"mode": "randdepth", "num_subnets": 3, "resolutions": SIZES},
    "GradAug, both": {**GRADAUG, "mode": "both"},
    "GradAug + CutMix": {**GRADAUG, "regularizers": ["cutmix"], "mix_probability": 0.5},
    "GradAug-semi": {**GRADAUG, "semi": "gradaug"},
    "Mean Teacher": load("mean_teacher").settings,
}
"""The rows of the paper's table, and what it leaves open."""
APART: dict[str, Fields] = {
    "without resolutions": {**GRADAUG, "resolutions": [SIDE]},
    "resolutions alone": {**GRADAUG, "alpha": 1.0},
    "one sub-network": {**GRADAUG, "num_subnets": 1},
    "widths from 0.5": {**GRADAUG, "alpha": 0.5},
    "a width per group": {**GRADAUG, "widths": "per-group"},
    "multiples of 16": {**GRADAUG, "round_to": 16},
    "rotated views": {**GRADAUG, "views": ["rotation"]},
    "cropped views": {**GRADAUG, "views": ["crop"]},
    "statistics of all passes": {**GRADAUG, "track_stats": True},
    "three times as long": {**GRADAUG, "times": 3},
}
"""GradAug, width, with one thing changed: what carries the gain."""
CHEAPER: dict[str, Fields] = {
    "half the batch": {**GRADAUG, "subnet_share": 0.5},
    "every 2nd step": {**GRADAUG, "subnet_every": 2},
    "every 4th step": {**GRADAUG, "subnet_every": 4},
    "late start": {**GRADAUG, "subnet_from": 0.5},
    "small resolutions only": {**GRADAUG, "resolutions": [20, 14]},
}
"""GradAug, width, at less cost; "one sub-network" is such a one, too."""
LONGER: dict[str, Fields] = {
    "baseline, 1.5 times as long": {"times": 1.5},
    "baseline, twice as long": {"times": 2},
}
BASELINES = ["baseline", *LONGER, "baseline, same time"]
"""What methods are compared with at equal time."""
METHODS = {**TABLE, **APART, **CHEAPER, **LONGER}

PAPER = {250: 4.88, 1000: 5.67, 4000: 3.52}
"""What GradAug gains on CIFAR-10 with WRN-28-2, in per cent."""


def runs(study: Study, wanted: list[Run], workers: int) -> Iterator[Fields]:
    """The rows of these runs as they are done, each on one thread."""
    if workers == 1:
        for name, labels, seed in wanted:
            yield measure(study, name, METHODS[name], labels, seed)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        begun = [pool.submit(measure, study, name, METHODS[name], labels, seed) for name, labels, seed in wanted]
        yield from (one.result() for one in as_completed(begun))


def gains(rows: list[Fields], labels: int) -> str:
    """What GradAug gains over the baseline at equal steps and at equal time: means of the differences, seed by seed."""
    sentences = []
    for name in ("GradAug, width", "GradAug, depth", "GradAug, both"):
        by_time = at_equal_time(rows, name, BASELINES, labels)
        if by_steps := comparison.gains(rows, name, "baseline", labels):
            timed = f", {said(by_time.gains)} at equal time" if by_time.gains and by_time.within else ""
            sentences.append(f"{name}: {said(by_steps)} at equal steps{timed}")
    paper = f" The paper's gain on CIFAR-10 is {PAPER[labels]:.2f}." if labels in PAPER else ""
    return f"Gain in top-1 over the baseline, seed by seed. {'; '.join(sentences)}.{paper}" if sentences else ""


def markdown(rows: list[Fields], study: Study, command: str) -> str:
    """The whole of docs/evidence.md."""
    about = ABOUT.format(study=study, kinds=len(study.kinds))
    parts = ["# Evidence: few labels", "Written by this command, never by hand:", f"    {command}", about]
    parts += [f"Measured on {machine.of(rows)}."]
    for labels in sorted({row["labels"] for row in rows}):
        parts += [f"## {labels:,} labels", piped(table(rows, TABLE, labels)), gains(rows, labels)]
        if any(of(rows, name, labels) for name in APART):
            parts += [
                "GradAug, width, with one thing changed:",
                piped(table(rows, ["baseline", "GradAug, width", *APART], labels)),
            ]
        if any(of(rows, name, labels) for name in CHEAPER):
            shown = [*BASELINES, "GradAug, width", "one sub-network", *CHEAPER]
            parts += [COST, piped(cost_table(rows, shown, BASELINES, labels))]
    hours = sum(row["seconds"] for row in rows) / 3600
    parts += [
        f"{len(rows)} runs, {hours:.1f} hours; median of a run {statistics.median(r['seconds'] for r in rows):.0f} s."
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


ABOUT = """A WRN-{study.depth}-{study.widen} on [Fashion-MNIST](https://github.com/zalandoresearch/fashion-mnist),
28x28 grey, {study.steps} steps of {study.batch} images at equal steps (three times as many for "same time" and "three
times as long", else as many times as a row says), learning rate 0.1 with cosine decay, weight decay 5e-4, random crops
and flips; mean ± standard deviation over the seeds, which choose the labels, the first weights and the order. top-1:
the last epoch's, on all test images. FGSM: top-1 after one step of that size in pixels of [0, 1]; corrupted: mean top-1
over {kinds} kinds at severity 3 (made at 32x32); both on the first {study.robust} test images. GradAug: 3 sub-networks
a step, smallest width 0.8, resolutions 28, 24, 20. CPU s: processor seconds of a run with its validations, before, at
the end, and of what it wrote. Gain at equal time: over a baseline that took as long, along the straight line between
those two of the baselines that took less and more time, seed by seed. ShakeDrop drops the last block with 0.5,
stochastic depth with 0.2."""

COST = """GradAug, width, at less cost. Plain steps: how many times as many steps a baseline takes in the same time;
validations, the same for all, are in the seconds but not in this. Gains are over the baseline at equal steps, and over
one that took as long (*: none did, and it is over the longest)."""


@click.command()
@click.option("--labels", type=int, multiple=True, default=(250, 1000, 4000), show_default=True)
@click.option("--methods", help="Only these, separated by semicolons; also rows that take GradAug apart.")
@click.option("--seeds", default=3, show_default=True)
@click.option(
    "--steps", default=1600, show_default=True, help="Optimizer steps of a run; 80 make an epoch of 4,000 images."
)
@click.option("--depth", default=16, show_default=True)
@click.option("--widen", default=2, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, default=KINDS, help="Only these corruptions.")
@click.option("--robust", default=1000, show_default=True, help="Test images that are attacked and corrupted.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="Runs at a time.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--data", "spec", default="fashion-mnist", show_default=True, help="As gradaug train has it.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), default=ROOT / "docs" / "evidence.json")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), default=ROOT / "docs" / "evidence.md")
def main(
    labels: tuple[int, ...],
    methods: str | None,
    seeds: int,
    steps: int,
    depth: int,
    widen: int,
    kinds: tuple[str, ...],
    robust: int,
    workers: int,
    device: str,
    spec: str,
    json_path: Path,
    markdown_path: Path,
) -> None:
    """Train with few labels, by the methods of the paper's table, and write the table."""
    study = Study(spec, (1, SIDE, SIDE), depth, widen, steps, BATCH, kinds, robust, device)
    wanted, rows, command = (
        chosen(methods, METHODS) if methods else list(TABLE),
        saved(json_path),
        machine.command("evidence"),
    )
    every = [(name, count, seed) for seed in range(seeds) for count in labels for name in wanted]
    for row in runs(study, missing(study, rows, every), workers):
        note(rows, row, json_path)
        written(markdown_path, markdown(mine(study, rows), study, command))
    if mine(study, rows):
        written(markdown_path, markdown(mine(study, rows), study, command))
        click.echo(markdown_path.read_text())


if __name__ == "__main__":
    main()
