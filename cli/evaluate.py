"""``gradaug eval``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradaug.config.settings import TrainConfig

from .options import calibration_options, explicit, json_option, trust_option
from .settings import Listed

if TYPE_CHECKING:
    from gradaug.evaluation.score import SubnetScore
    from netslim.notes import Notes


@click.command("eval", short_help="Score a converted network and its sub-networks.")
@click.option(
    "--model",
    required=True,
    metavar="FILE",
    help="trained.pt, converted.pt, or what netslim extract wrote (with --trust).",
)
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
@click.option("--scope", metavar="NAME", help="What widths narrow: all, or this module alone.  [default: the task's]")
@calibration_options
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes for the images.")
@click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--fgsm", type=Listed(float), default="", help="Attack with these epsilons, of pixels in [0, 1]: 0.05,0.1"
)
@click.option("--corruptions", is_flag=True, help="Score on corrupted images: 15 kinds, 5 severities.")
@click.option("--corruption-kinds", type=Listed(str), default="", help="Only these kinds: fog,gaussian_noise")
@click.option("--severities", type=Listed(int), default="1,2,3,4,5", show_default=True, help="Only these severities.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="Write a picture of the results, and of some answers where images have masks or boxes.",
)
@trust_option
@json_option
@click.pass_context
def evaluate(
    context: click.Context,
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
    **values: object,
) -> None:
    """Score MODEL at several widths on the validation images of a data set, attacked and corrupted ones too."""
    if not all(0 < width <= 1 for width in widths):
        raise click.BadParameter("a width is a ratio in (0, 1]", param_hint="--widths")
    if not all(0 <= epsilon <= 1 for epsilon in fgsm):
        raise click.BadParameter("an epsilon is a share of the pixel range, in [0, 1]", param_hint="--fgsm")
    if not all(1 <= severity <= 5 for severity in severities):
        raise click.BadParameter("a severity is 1, 2, 3, 4 or 5", param_hint="--severities")
    config = TrainConfig.from_dict({"data": data, **values})
    from netslim.extras import require
    from netslim.files import check_writable

    require("torchmetrics", "calibration errors")
    if plot is not None:
        require("matplotlib", "pictures")
        check_writable(plot)
    if corruptions or corruption_kinds:
        require("imagecorruptions-imaug", "corrupted images")
    from rich.console import Console

    from gradaug.data import load
    from gradaug.evaluation.assessment import assess
    from gradaug.evaluation.examples import examples
    from gradaug.evaluation.robustness import KINDS
    from gradaug.evaluation.score import require_fit
    from gradaug.inputs import image_shape
    from gradaug.report import attack_table, corruption_table, score_table
    from gradaug.tasks import TASKS
    from gradaug.training.device import choose_device
    from gradaug.training.opening import opened
    from netslim.net.runtime import runtime

    its = opened(model, trust=trust, prove=False)
    net, notes = its.net, its.notes
    if notes is not None:
        _require_as_it_is(model, explicit(context, {"widths": widths, "skips": skips, **values}))
    net.to(choose_device(config.device))
    blocks = len(runtime(net).plan.blocks)
    if not all(0 <= skip <= blocks for skip in skips):
        raise click.BadParameter(f"this network has {blocks} blocks that can be skipped", param_hint="--skips")
    source = load(data, image_shape(net), config.seed)
    task = TASKS[source.task].load().of(config)
    require_fit(net, source, task)
    kinds = corruption_kinds or (KINDS if corruptions else ())
    found = assess(net, source, config, widths, skips, fgsm, kinds, severities, task)
    if notes is not None:
        found = replace(found, scores=[_described(row, notes) for row in found.scores])
    if plot is not None:
        from gradaug.plots import plot as draw

        draw(found, plot, model, examples(net, source, task))
    if as_json:
        warned = {"warning": notes.warning} if notes and notes.warning else {}
        click.echo(json.dumps({"model": model, "data": data, **found.to_dict(), **warned}, indent=2))
        return
    if notes and notes.warning:
        click.echo(f"warning: {notes.warning}", err=True)
    console = Console()
    console.print(score_table(found.scores, title=f"{model} on the validation images of {data}"))
    if found.attacks:
        console.print(attack_table(found.attacks, found.column))
    if found.corruptions:
        console.print(corruption_table(found.corruptions, found.column))


def _require_as_it_is(path: str, said: dict[str, object]) -> None:
    """UsageError for options that cut or recalibrate: an extracted network is scored as it is."""
    wrong = [
        name for name in ("widths", "skips", "scope", "round_to", "calibration_batches", "batch_size") if name in said
    ]
    if wrong:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in wrong)
        raise click.UsageError(f"{path} is one extracted network, scored as it is: {names} are for converted ones.")


def _described(row: SubnetScore, notes: Notes) -> SubnetScore:
    """The row as it stands among those of the network that it was cut out of."""
    from netslim.notes import RECALIBRATED

    recalibrated = notes.statistics == RECALIBRATED
    return replace(row, width=notes.width, skipped=len(notes.skipped), recalibrated=recalibrated, full=not notes.cut)
