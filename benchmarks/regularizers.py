"""Every regulariser beside GradAug: a WideResNet on a few labelled digits, several seeds, accuracy and robustness.

    python benchmarks/regularizers.py --json build/regularizers.json --markdown docs/regularizers.md
    python benchmarks/regularizers.py --labels 100 --methods "none;gradaug" --seeds 2

All methods train the same converted network from the same weights on the same images for the same number of steps. As
GradAug costs about three plain steps, some plain methods also get three times as many ("x 3"). The JSON is written
after every run, and a second start goes on with it.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import click
import machine
from comparison import Study, measure, mine, missing, table
from rich.console import Console
from seeds import Fields, chosen, note, piped, saved, written

from gradaug.evaluation.robustness import KINDS
from gradaug.recipes import load

SIDE = 16
BATCH = 50

GRADAUG = {"mode": "randwidth", "alpha": 0.8, "round_to": 1, "resolutions": [16, 14, 12]}
METHODS: dict[str, Fields] = {
    "none": {},
    "none, x 3": {"times": 3},
    "label smoothing": load("label_smoothing").settings,
    "cutout": load("cutout").settings,
    "mixup": load("mixup").settings,
    "cutmix": load("cutmix").settings,
    "cutmix, x 3": {**load("cutmix").settings, "times": 3},
    "dropblock": {**load("dropblock").settings, "dropblock_size": 3},
    "stochastic depth": load("stochastic_depth").settings,
    "droppath": load("droppath").settings,
    "shakedrop": load("shakedrop").settings,
    "shakedrop, x 3": {**load("shakedrop").settings, "times": 3},
    "bag of tricks": load("bag_of_tricks").settings,
    "gradaug": GRADAUG,
    "gradaug, depth": {"mode": "randdepth", "resolutions": [16, 14, 12]},
    "gradaug, both": {**GRADAUG, "mode": "both"},
    "gradaug + cutmix": {**GRADAUG, "regularizers": ["cutmix"], "mix_probability": 0.5},
    "gradaug + mixup": {**GRADAUG, "regularizers": ["mixup"]},
    "gradaug-semi": {**GRADAUG, "semi": "gradaug"},
    "mean teacher": load("mean_teacher").settings,
}


def verdict(rows: list[Fields], labels: int) -> str:
    """Who wins at equal epochs, and among all, whatever they cost."""
    means: dict[str, float] = {}
    for method in METHODS:
        tops = [row["top1"] for row in rows if (row["method"], row["labels"]) == (method, labels)]
        if tops:
            means[method] = statistics.mean(tops)
    equal = {method: top1 for method, top1 in means.items() if "x 3" not in method}
    plain = {m: t for m, t in means.items() if "gradaug" not in m and m != "mean teacher"}
    best, longest = max(equal, key=equal.__getitem__), max(plain, key=plain.__getitem__)
    return (
        f"At equal epochs {best} is best ({equal[best]:.2f} %). Of those without sub-networks and unlabelled images, "
        f"three times as long included, {longest} is best ({plain[longest]:.2f} %)."
    )


def markdown(rows: list[Fields], command: str, about: str) -> str:
    """The whole of docs/regularizers.md."""
    parts = ["# Regularisers side by side", "Written by this command, never by hand:", f"    {command}", about]
    parts += [f"Measured on {machine.of(rows)}."]
    for labels in sorted({row["labels"] for row in rows}):
        parts += [f"## {labels} labels", piped(table(rows, METHODS, labels)), verdict(rows, labels)]
    return "\n\n".join(parts) + "\n"


ABOUT = """A WRN-{depth}-{widen} on scikit-learn's digits at 16x16, {steps} steps of 50 images at equal epochs
(three times as many where the name says so), learning rate 0.1 with cosine decay, weight decay 5e-4;
mean ± standard deviation over the seeds, which choose the labels, the first weights and the order. 360
validation images: one image is 0.28 %, so differences below one per cent mean little. FGSM: top-1 after
one step of that size in pixels of [0, 1]. corrupted: mean top-1 over {kinds} kinds at severity 3 (made at
32x32). CPU s: processor seconds of one run. GradAug: 3 sub-networks a step, smallest width 0.8,
resolutions 16, 14, 12. ShakeDrop drops the last block with 0.5, stochastic depth and DropPath with 0.2."""


@click.command()
@click.option("--labels", type=int, multiple=True, default=(100, 500), show_default=True)
@click.option("--methods", help="Only these, separated by semicolons.")
@click.option("--seeds", default=5, show_default=True)
@click.option("--steps", default=300, show_default=True, help="Optimizer steps at equal epochs.")
@click.option("--depth", default=16, show_default=True)
@click.option("--widen", default=1, show_default=True)
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, default=KINDS, help="Only these corruptions.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Rows so far, after every run.")
@click.option("--markdown", "markdown_path", type=click.Path(path_type=Path), help="The tables, at the end.")
def main(
    labels: tuple[int, ...],
    methods: str | None,
    seeds: int,
    steps: int,
    depth: int,
    widen: int,
    kinds: tuple[str, ...],
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """Train with every regulariser and compare."""
    study = Study("digits", (1, SIDE, SIDE), depth, widen, steps, BATCH, kinds)
    wanted, rows = chosen(methods, METHODS), saved(json_path)
    runs = [(method, count, seed) for seed in range(seeds) for count in labels for method in wanted]
    for method, count, seed in missing(study, rows, runs):
        note(rows, measure(study, method, METHODS[method], count, seed), json_path)
    rows = mine(study, rows)
    console = Console(width=200)
    for count in labels:
        console.print(f"{count} labels", *("  ".join(line) for line in table(rows, METHODS, count)), sep="\n")
        console.print(verdict(rows, count))
    if markdown_path:
        about = ABOUT.format(depth=depth, widen=widen, steps=steps, kinds=len(kinds))
        written(markdown_path, markdown(rows, machine.command("regularizers"), about))


if __name__ == "__main__":
    main()
