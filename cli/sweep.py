"""`gradaug sweep`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradaug.config.settings import TrainConfig

from .budgets import FIRST, WidthsType, ranking_of, ranking_option, require_ranking
from .options import calibration_options, trust_option
from .settings import Listed
from .training_data import training_data

if TYPE_CHECKING:
    from gradaug.config.kinds import JSON
    from gradaug.evaluation.sweep import Sweep

STDOUT = Path("-")


@click.command("sweep", short_help="Score and time a network over a grid of widths and depths.")
@click.argument("model", metavar="MODEL")
@click.option("--data", default="digits", show_default=True, help="Images to score on (their validation part).")
@click.option(
    "--widths",
    type=WidthsType(),
    default="0.25,0.5,0.75,1.0",
    show_default=True,
    help="Widths of the grid; below 1 batch norm is recalibrated on training images.",
)
@click.option(
    "--depths",
    type=Listed(int),
    default="",
    help="Numbers of blocks to leave out, evenly spread.  [default: none, a tenth, a fifth, two fifths of them]",
)
@click.option("--scope", metavar="NAME", help="What widths narrow: all, or this module alone.  [default: the task's]")
@ranking_option
@calibration_options
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Processes for the images.")
@click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--time-batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images in a forward that is timed."
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of a forward that is timed, on the CPU.  [default: torch's]"
)
@click.option("--plot", type=click.Path(path_type=Path), help="Write a picture: score over FLOPs and over time.")
@click.option(
    "--json",
    "output",
    type=click.Path(path_type=Path, allow_dash=True),
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    help="Write the result as JSON, after every point; without FILE print it at the end.",
)
@click.option("--resume", is_flag=True, help="Go on from the points that the file of --json has.")
@trust_option
def sweep(
    model: str,
    data: str,
    widths: tuple[float, ...],
    depths: tuple[int, ...],
    ranking: str,
    time_batch: int,
    threads: int | None,
    plot: Path | None,
    output: Path | None,
    resume: bool,
    trust: bool,
    **values: object,
) -> None:
    """Score and time a network over a grid of widths and depths.

    MODEL is trained.pt or converted.pt, or, with --trust, the folder or .pt file of netslim extract. Of every
    sub-network: the task's figures on the validation images of a data set, parameters, FLOPs, and the median time of a
    forward of the extracted network in torch. All are timed in turns, at the end. Marked are those that no other one
    beats in both score and cost.
    """
    if resume and output in (None, STDOUT):
        raise click.UsageError("--resume goes on from a file: name it with --json FILE.")
    require_ranking(ranking, True, "--ranking")
    config = TrainConfig.from_dict({"data": data, **values})
    from netslim.files import check_writable

    if output not in (None, STDOUT):
        assert output is not None
        check_writable(output)
    if plot is not None:
        from gradaug.plots import require_drawable

        require_drawable(plot)
    from gradaug.data import calibration_batches, evaluation_batches, load
    from gradaug.evaluation import swept
    from gradaug.evaluation.score import require_fit
    from gradaug.evaluation.sweep import sweep as run
    from gradaug.inputs import image_shape
    from gradaug.tasks import TASKS
    from gradaug.training.device import choose_device
    from gradaug.training.opening import opened
    from netslim.export import WRITERS
    from netslim.net.runtime import runtime
    from netslim.report import stages

    its = opened(model, trust=trust)
    net = its.net
    net.to(choose_device(config.device))
    blocks = len(runtime(net).plan.blocks)
    if not all(0 <= depth <= blocks for depth in depths):
        raise click.BadParameter(f"this network has {blocks} blocks that can be skipped", param_hint="--depths")
    source = load(data, image_shape(net), config.seed)
    task = TASKS[source.task].load().of(config)
    require_fit(net, source, task)
    made_with: dict[str, JSON] = {
        "model": _digest(*([model] if its.form is None else WRITERS[its.form.suffix].at(Path(model)))),
        "data": data,
        "ranking": _digest(ranking) if Path(ranking).is_file() else ranking,
        **{name: getattr(config, name) for name in ("scope", "round_to", "batch_size", "calibration_batches", "seed")},
    }
    known = swept.read(output, made_with, task.scored) if resume and output else []
    images = calibration_batches(source, config.batch_size, config.calibration_batches, config.seed)
    learned = None
    if ranking != FIRST:
        learned = training_data(net, data, config.batch_size, config.calibration_batches, config.seed)
    ranked = ranking_of(net, ranking, learned, config.seed)

    def note(found: Sweep) -> None:
        if output not in (None, STDOUT):
            assert output is not None
            swept.write(found, made_with, output)

    with stages() as progress:
        found = run(
            net, images, evaluation_batches(source.validation, workers=config.workers), widths, depths or None,
            task=task, scope=config.scope, round_to=config.round_to or 1, ranking=ranked, images=time_batch,
            threads=threads, known=known, note=note, progress=progress,
        )  # fmt: skip
    title = f"{model} on the validation images of {data}"
    if plot is not None:
        from gradaug.plots import plot_sweep

        plot_sweep(found, plot, title)
    if output == STDOUT:
        click.echo(json.dumps(swept.document(found, made_with), indent=2))
        return
    from gradaug.report import sweep_table
    from netslim.report import say

    say(sweep_table(found, title))


def _digest(*paths: str | Path) -> str:
    """Which files they are, by their bytes."""
    import hashlib

    found = hashlib.sha256()
    for path in paths:
        found.update(Path(path).read_bytes())
    return f"sha256:{found.hexdigest()}"
