"""GradAug in detection: a small Mask R-CNN on few scenes, several seeds, average precision and processor time.

    python benchmarks/detection.py --images 100 --json build/detection.json --markdown build/detection.md
    python benchmarks/detection.py --images 100 --images 400 --seeds 3 --epochs 30

All methods train the network of examples/detector.py from the same weights on the same scenes in the same order.
"scales-alone" takes the widths out of GradAug: as many further passes, of the full network, at the same random scales
against the labelled objects. "plain-longer" has so many epochs that it takes the processor time of "gradaug-truth", as
measured in the runs of the first seed. The JSON is written after every run, and a second start goes on with it.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.table import Table
from seeds import Fields, chosen, mean_and_deviation, note, piped, saved, written

import gradaug
import netslim
from gradaug.config.settings import TrainConfig
from gradaug.training.progress import Silent
from netslim.source.spec import load_source

ROOT = Path(__file__).parents[1]
SIDE = 128
BATCH = 4
RESOLUTIONS = [SIDE, 112, 96]

PLAIN, LONG, TRUTH = "plain", "plain-longer", "gradaug-truth"
GRADAUG = {"mode": "randwidth", "alpha": 0.8, "num_subnets": 3, "resolutions": RESOLUTIONS}
METHODS: dict[str, Fields] = {
    PLAIN: {"mode": "none", "alpha": 1.0},
    TRUTH: GRADAUG,
    LONG: {"mode": "none", "alpha": 1.0},
    "scales-alone": {**GRADAUG, "alpha": 1.0},
    "gradaug-full": {**GRADAUG, "subnet_target": "full"},
}
"""In the order in which they run: "plain-longer" needs the two before it."""
FIGURES = {"ap": "AP", "ap50": "AP50", "mask_ap": "mask AP"}


class Clock(Silent):
    """Processor seconds from the first step to the last validation."""

    seconds = 0.0

    def start(self, epochs: int, steps: int, done: int) -> None:
        self.begun = time.process_time()

    def epoch(self, epoch: object) -> None:
        self.seconds = time.process_time() - self.begun


def config_of(method: str, images: int, seed: int, epochs: int) -> TrainConfig:
    """The settings of one run."""
    common: Fields = {"task": "detection", "data": f"scenes:{images}", "seed": seed, "epochs": epochs}
    common |= {"batch_size": min(BATCH, images), "lr": 0.05, "weight_decay": 1e-4, "clip_norm": 10.0, "round_to": 1}
    common |= {"warmup": min(1.0, epochs / 2), "validate_every": epochs, "calibration_batches": 8}
    return TrainConfig.from_dict({**common, **METHODS[method]})


@cache
def converted(seed: int, width: int) -> netslim.SlimNet:
    """The network before training, to be copied."""
    torch.manual_seed(seed)
    model = load_source(str(ROOT / "examples" / "detector.py"), args={"width": width}).model
    return netslim.convert(model, torch.rand(2, 3, SIDE, SIDE), prove=False)


def measure(method: str, images: int, seed: int, epochs: int, trained: int, width: int) -> Fields:
    """One run of `trained` epochs, and what its network can do at full width; `epochs` are the benchmark's."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        net, config = copy.deepcopy(converted(seed, width)), config_of(method, images, seed, trained)
        after = gradaug.train(net, config, folder, progress=clock).to_dict()["after"]
    said = {"method": method, "images": images, "seed": seed, "epochs": epochs, "trained": trained}
    return {**said, "seconds": clock.seconds, **{name: after[name] for name in FIGURES}}


def longer(rows: Iterable[Fields], images: int, epochs: int) -> int:
    """Epochs of plain training that take as long as GradAug, by the first seed's runs of both."""
    seconds = {row["method"]: row["seconds"] for row in of(rows, images, epochs) if row["seed"] == 0}
    if not {PLAIN, TRUTH} <= seconds.keys():
        raise click.UsageError(f"{LONG!r} needs runs of {PLAIN!r} and {TRUTH!r} with seed 0: leave --methods out")
    return max(epochs, round(epochs * seconds[TRUTH] / seconds[PLAIN]))


def of(rows: Iterable[Fields], images: int, epochs: int) -> list[Fields]:
    return [row for row in rows if (row["images"], row["epochs"]) == (images, epochs)]


def lines(rows: Sequence[Fields]) -> list[list[str]]:
    """Mean and standard deviation over the seeds, a line per method; the first line names the columns."""
    found = [["method", "runs", "epochs", *FIGURES.values(), "CPU s"]]
    for method in METHODS:
        runs = [row for row in rows if row["method"] == method]
        if runs:
            shown = [mean_and_deviation([run[name] or 0.0 for run in runs], 1) for name in FIGURES]
            seconds = mean_and_deviation([run["seconds"] for run in runs], 0)
            found.append([method, str(len(runs)), str(runs[0]["trained"]), *shown, seconds])
    return found


def table(rows: Sequence[Fields], images: int) -> Table:
    head, *body = lines(rows)
    found = Table(*head, title=f"{images} scenes")
    for line in body:
        found.add_row(*line)
    return found


def markdown(rows: Sequence[Fields], images: Sequence[int], epochs: int) -> str:
    """A table for each number of images, with the command that makes it again."""
    numbers = " ".join(f"--images {count}" for count in images)
    command = f"python benchmarks/detection.py {numbers} --seeds {len({row['seed'] for row in rows})} --epochs {epochs}"
    parts = [f"Written by this command, never by hand:\n\n    {command}", ABOUT]
    for count in images:
        parts += [f"{count} training images:", piped(lines(of(rows, count, epochs)))]
    return "\n\n".join(parts) + "\n"


ABOUT = f"""The network of examples/detector.py on scenes of {SIDE} pixels, {BATCH} a step, learning rate 0.05 with
cosine decay; average precision in percent on 100 validation scenes, mean ± standard deviation over the seeds, which
choose the first weights and the order. CPU s: processor seconds from the first step to the last validation. GradAug: 3
sub-networks a step, smallest width 0.8 of the backbone, scales {", ".join(map(str, RESOLUTIONS))}."""


@click.command()
@click.option("--images", type=click.IntRange(1), multiple=True, default=(100, 400), show_default=True)
@click.option("--methods", help="Only these, separated by semicolons.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=12, show_default=True, help="Of all but plain-longer.")
@click.option("--width", type=click.IntRange(1), default=16, show_default=True, help="Channels of the stem.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Rows so far, after every run.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="The tables, at the end.")
def main(
    images: tuple[int, ...],
    methods: str | None,
    seeds: int,
    epochs: int,
    width: int,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """Train a detector plainly, at random scales, and with GradAug, and compare."""
    wanted, rows = chosen(methods, METHODS), saved(json_path)
    done = {(row["method"], row["images"], row["seed"], row["epochs"]) for row in rows}
    for count in images:
        for seed in range(seeds):
            for method in (name for name in METHODS if name in wanted):
                if (method, count, seed, epochs) in done:
                    continue
                trained = longer(rows, count, epochs) if method == LONG else epochs
                note(rows, measure(method, count, seed, epochs, trained, width), json_path)
    for count in images:
        Console(width=120).print(table(of(rows, count, epochs), count))
    if markdown_path:
        written(markdown_path, markdown(rows, images, epochs))


if __name__ == "__main__":
    main()
