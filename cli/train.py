"""``gradaug train``. Its settings are the table in gradaug/config, filled in by recipes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .networks import network, require_named, trusted_teacher
from .options import explicit, json_option, trust_option
from .settings import Sectioned, checked, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradaug.config.settings import TrainConfig
    from gradaug.recipes import Recipe
    from gradaug.training.folder import RunFolder
    from gradaug.training.opening import Opened
    from netslim import SlimNet


@click.command("train", cls=Sectioned, short_help="Train a converted network, with GradAug or plainly.")
@click.option(
    "--model",
    metavar="FILE",
    help="The network: a file that netslim convert or gradaug train wrote, or, with --trust, the folder or .pt file of "
    "netslim extract.  [default: the recipe's]",
)
@click.option("--recipe", metavar="NAME", help="Settings of an experiment, or several: NAME,NAME (gradaug recipes).")
@click.option(
    "--allow-code",
    multiple=True,
    metavar="SOURCE",
    help="Run this code (mymodel.py, package.module:callable) where the recipe's network is it; repeat.",
)
@settings
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/RECIPE or runs/MODE]")
@click.option(
    "--resume",
    "resumed",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with the run in this folder, or in --out, where its checkpoint is; with --epochs, to another end.",
)
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option("--dry-run", is_flag=True, help="Train nothing: print the settings and what the run will cost.")
@click.option("--tflops", type=click.FloatRange(min=0, min_open=True), help="With --dry-run: speed, for the hours.")
@click.option(
    "--gpus", type=click.IntRange(min=1), help="Start so many processes, one a GPU (with --device cpu: on the CPU)."
)
@click.option(
    "--max-restarts", type=click.IntRange(min=0), default=0, show_default=True, help="With --gpus: after a failure."
)
@trust_option
@json_option
@click.pass_context
def train(
    context: click.Context,
    model: str | None,
    recipe: str | None,
    allow_code: tuple[str, ...],
    out: Path | None,
    resumed: str | None,
    overwrite: bool,
    dry_run: bool,
    tflops: float | None,
    gpus: int | None,
    max_restarts: int,
    trust: bool,
    as_json: bool,
    **values: object,
) -> None:
    """Train the converted network MODEL, or the recipe's, and write the run to a folder.

    The folder gets metrics.jsonl and TensorBoard files as training goes, checkpoint.pt after every epoch, and at the
    end trained.pt (the network with its trained weights) and result.json. A network that netslim extract wrote is
    converted, and at the end also there in the form that it came in, as slim or slim.pt. Progress goes to stderr, the
    result to stdout.
    """
    chosen = _recipe(recipe)
    given = explicit(context, values)
    resume = resumed is not None
    require_named(model, chosen, resume)
    out = _out(out, resumed) or Path("runs") / (recipe or str(values["mode"])).replace(",", "-")
    config = _continued(out, given) if resume else checked({**(chosen.settings if chosen else {}), **given})

    from gradaug.training.folder import RunFolder

    folder, started = RunFolder(out), "RANK" in os.environ
    teaches = trusted_teacher(config.teacher, "teacher" in given, trust)
    if dry_run:
        net = network(model, chosen, allow_code, folder, trust, overwrite, dry_run).net
        _show_estimate(net, config, tflops, gpus or 1, as_json, teaches)
        return

    from rich.console import Console

    from gradaug.report import score_table
    from gradaug.training.progress import progress_for

    slim: Path | None = None
    with _held(folder, resume, overwrite, started):
        found = network(model, chosen, allow_code, folder, trust, overwrite, dry_run)
        if gpus is None or started:
            from gradaug.training.loop import train as run

            progress = progress_for(Console(stderr=True))
            result = run(
                found.net, config, folder, resume=resume, overwrite=overwrite, progress=progress, trust=teaches
            )
            slim = _written(found, folder, trust)
    if gpus is not None and not started:
        _launch(gpus, max_restarts, config.device)
        return
    if int(os.environ.get("RANK", "0")) > 0:
        return
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    Console().print(score_table(result.subnets, result.before, title="validation"))
    files = " and ".join(map(str, filter(None, (folder.trained, slim))))
    reached = result.after.columns[0].said(result.after.headline)
    click.echo(f"validation {reached} after {result.seconds:.0f} s; written to {files}")


def _out(out: Path | None, resumed: str | None) -> Path | None:
    """The folder that the command line names."""
    if resumed and out is not None and Path(resumed) != out:
        raise click.UsageError(f"--resume {resumed} goes on in that folder: leave out --out {out}")
    return Path(resumed) if resumed else out


def _written(found: Opened, folder: RunFolder, trust: bool) -> Path | None:
    """Where the run's result is in the form that the network came in; of several processes the first one writes it."""
    import netslim

    if found.form is None or int(os.environ.get("RANK", "0")) > 0:
        return None
    return found.write(netslim.load(folder.trained, trust=trust), folder)


def _recipe(name: str | None) -> Recipe | None:
    from gradaug.recipes import load

    return load(name) if name else None


def _continued(out: Path, given: dict[str, object]) -> TrainConfig:
    """The settings of the run in `out`; what the command line says explicitly takes precedence (and must agree)."""
    from gradaug.training.checkpoint import load
    from gradaug.training.folder import RunFolder

    return checked({**load(RunFolder(out).checkpoint).config, **given})


@contextlib.contextmanager
def _held(folder: RunFolder, resume: bool, overwrite: bool, started: bool) -> Iterator[None]:
    """Keeps other runs out while a recipe's network is written, and until the end of a run in this process.

    Of several processes that were started together, the first one holds the folder from where it trains.
    """
    if started:
        yield
        return
    with folder.held():
        folder.require_free(resume, overwrite)
        yield


def _show_estimate(
    net: SlimNet, config: TrainConfig, tflops: float | None, processes: int, as_json: bool, trust: bool
) -> None:
    from rich.console import Console

    from gradaug import data
    from gradaug.errors import DataError
    from gradaug.inputs import image_shape
    from gradaug.report import estimate_table
    from gradaug.training.configured import grad_aug, resolve
    from gradaug.training.estimate import estimate, known_images
    from gradaug.training.opening import opened

    config = resolve(config, net)
    try:
        source = data.load(config.data, image_shape(net), config.seed, labels=config.labels, augment=config.augment)
        images, known = len(source.train), True
    except DataError:
        images, known = known_images(config), False
    teacher = None if config.teacher is None else opened(config.teacher, trust=trust, prove=False).net
    found = estimate(net, config, grad_aug(net, config).space, images, processes, teacher)
    hours = None if tflops is None else found.hours(tflops)
    if as_json:
        values = {"config": config.to_dict(), "images": images, "images_known": known, **found.to_dict()}
        click.echo(json.dumps(values | ({} if hours is None else {"hours": hours}), indent=2))
        return
    Console().print(estimate_table(found, config, images, known, hours))


def _launch(processes: int, max_restarts: int, device: str) -> None:
    """This command again, in several processes."""
    from gradaug.distributed.launch import launch
    from gradaug.training.device import wants_cuda

    if wants_cuda(device):
        import torch

        if processes > torch.cuda.device_count():
            raise click.BadParameter(f"this machine has {torch.cuda.device_count()} GPUs", param_hint="--gpus")
    elif device != "cpu":
        raise click.BadParameter(
            "this machine has no GPU; with --device cpu the processes run there", param_hint="--gpus"
        )
    launch(processes, sys.argv[1:], max_restarts)
