"""``gradaug eval``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from gradaug.config import TrainConfig

from .options import json_option, trust_option
from .settings import Listed


@click.command("eval", short_help="Score a converted network and its sub-networks.")
@click.option("--model", required=True, metavar="FILE", help="The network: trained.pt or converted.pt.")
@click.option("--data", default="digits", show_default=True, help="Images to score on (their validation part).")
@click.option(
    "--widths",
    type=Listed(float),
    default="1.0",
    show_default=True,
    help="Widths to score; below 1 batch norm is recalibrated on training images.",
)
@click.option(
    "--skips", type=Listed(int), default="0", show_default=True, help="Numbers of blocks to leave out, evenly spread."
)
@click.option(
    "--round-to", type=click.IntRange(min=1), default=1, show_default=True, help="Round widths to this many channels."
)
@click.option(
    "--calibration-batches", type=click.IntRange(min=1), default=16, show_default=True, help="Batches for it."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Images in each of them.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses them.")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes for the images.")
@click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--fgsm", type=Listed(float), default="", help="Attack with these epsilons, of pixels in [0, 1]: 0.05,0.1"
)
@click.option("--corruptions", is_flag=True, help="Score on corrupted images: 15 kinds, 5 severities.")
@click.option("--corruption-kinds", type=Listed(str), default="", help="Only these kinds: fog,gaussian_noise")
@click.option("--severities", type=Listed(int), default="1,2,3,4,5", show_default=True, help="Only these severities.")
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture of the results.")
@trust_option
@json_option
def evaluate(
    model: str,
    data: str,
    widths: tuple[float, ...],
    skips: tuple[int, ...],
    fgsm: tuple[float, ...],
    corruptions: bool,
    corruption_kinds: tuple[str, ...],
    severities: tuple[int, ...],
    plot: Path | None,
    trust: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Score MODEL at several widths on the validation images of a data set, attacked and corrupted ones too."""
    if not all(0 < width <= 1 for width in widths):
        raise click.BadParameter("a width is a ratio in (0, 1]", param_hint="--widths")
    if not all(0 <= epsilon <= 1 for epsilon in fgsm):
        raise click.BadParameter("an epsilon is a share of the pixel range, in [0, 1]", param_hint="--fgsm")
    if not all(1 <= severity <= 5 for severity in severities):
        raise click.BadParameter("a severity is 1, 2, 3, 4 or 5", param_hint="--severities")
    config = TrainConfig(data=data, **values)

    from rich.console import Console

    import netslim
    from gradaug.assessment import assess
    from gradaug.data import load
    from gradaug.evaluate import require_fit
    from gradaug.fit import image_shape
    from gradaug.report import attack_table, corruption_table, score_table
    from gradaug.robust import KINDS
    from gradaug.run import choose_device

    net = netslim.load(model, trust=trust).to(choose_device(config.device))
    if not all(0 <= skip <= len(net.blocks) for skip in skips):
        raise click.BadParameter(f"this network has {len(net.blocks)} blocks that can be skipped", param_hint="--skips")
    source = load(data, image_shape(net), config.seed)
    require_fit(net, source)
    kinds = corruption_kinds or (KINDS if corruptions else ())
    found = assess(net, source, config, widths, skips, fgsm, kinds, severities)
    if plot is not None:
        from gradaug.plots import plot as draw

        draw(found, plot, model)
    if as_json:
        click.echo(json.dumps({"model": model, "data": data, **found.to_dict()}, indent=2))
        return
    console = Console()
    console.print(score_table(found.scores, title=f"{model} on the validation images of {data}"))
    if found.attacks:
        console.print(attack_table(found.attacks))
    if found.corruptions:
        console.print(corruption_table(found.corruptions))
