"""``gradaug train`` and ``gradaug eval``. The options of ``train`` are the table in gradaug/config.py."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradaug.config import MODES, TrainConfig, flag
from netslim.errors import InputError

from .options import json_option, trust_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from netslim import SlimNet


class Listed(click.ParamType):
    """Comma-separated values: 32,28,24. An empty text is an empty list."""

    def __init__(self, kind: type[int] | type[float] | type[str]) -> None:
        self.kind = kind
        self.name = f"{kind.__name__},..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in str(value).split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is not a comma-separated list of numbers", param, ctx)


TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "tuple[int, ...]": Listed(int),
    "tuple[str, ...]": Listed(str),
}


class Sectioned(click.Command):
    """Shows the settings under the headings of TrainConfig's table."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                field = fields.get(param.name or "")
                sections.setdefault(field.metadata["section"] if field else "Options", []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


def settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds one option per field of TrainConfig."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        name, kind = flag(field.name), str(field.type).removesuffix(" | None")
        shown = None if field.default in (None, ()) else field.default
        common = {"default": field.default, "help": field.metadata["help"], "show_default": shown is not None}
        if kind == "bool":
            command = click.option(f"{name}/--no-{name[2:]}", field.name, **common)(command)
        else:
            option_type = click.Choice(MODES) if field.name == "mode" else TYPES[kind]
            command = click.option(name, field.name, type=option_type, **common)(command)
    return command


@click.command("train", cls=Sectioned, short_help="Train a converted network, with GradAug or plainly.")
@click.option("--model", "model", required=True, metavar="FILE", help="The network: a file written by netslim convert.")
@settings
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/MODE]")
@click.option("--resume", is_flag=True, help="Continue the run in --out after its last complete epoch.")
@click.option("--overwrite", is_flag=True, help="Replace the run in --out.")
@click.option(
    "--gpus", type=click.IntRange(min=1), help="Start so many processes, one a GPU (with --device cpu: on the CPU)."
)
@click.option(
    "--max-restarts",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="With --gpus: starts after a failure.",
)
@trust_option
@json_option
@click.pass_context
def train(
    context: click.Context,
    model: str,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    gpus: int | None,
    max_restarts: int,
    trust: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train the converted network MODEL and write the run to a folder.

    The folder gets metrics.jsonl and TensorBoard files as training goes, checkpoint.pt after every epoch, and at the
    end trained.pt (the network with its trained weights) and result.json. Progress goes to stderr, the result to
    stdout.
    """
    out = out or Path("runs") / values["mode"]
    config = _continued(context, out, values) if resume else _config(values)
    if gpus is not None and "RANK" not in os.environ:
        _launch(gpus, max_restarts, config.device)
        return

    from rich.console import Console

    from gradaug.loop import train as run
    from gradaug.report import progress_for, score_table

    net = _load(model, trust)
    result = run(net, config, out, resume=resume, overwrite=overwrite, progress=progress_for(Console(stderr=True)))
    if int(os.environ.get("RANK", "0")) > 0:
        return
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    Console().print(score_table(result.subnets, result.before, title="validation"))
    click.echo(
        f"validation top-1 {result.after.top1:.2f} % after {result.seconds:.0f} s; written to {out / 'trained.pt'}"
    )


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

    from gradaug.assess import assess
    from gradaug.data import load
    from gradaug.evaluate import require_fit
    from gradaug.fit import image_shape
    from gradaug.report import attack_table, corruption_table, score_table
    from gradaug.robust import KINDS
    from gradaug.run import choose_device

    net = _load(model, trust).to(choose_device(config.device))
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


def _launch(processes: int, max_restarts: int, device: str) -> None:
    """This command again, in several processes."""
    from gradaug.launch import launch
    from gradaug.run import choose_device

    if choose_device(device).type == "cuda":
        import torch

        if processes > torch.cuda.device_count():
            raise click.BadParameter(f"this machine has {torch.cuda.device_count()} GPUs", param_hint="--gpus")
    elif device != "cpu":
        raise click.BadParameter(
            "this machine has no GPU; with --device cpu the processes run there", param_hint="--gpus"
        )
    launch(processes, sys.argv[1:], max_restarts)


def _config(values: dict[str, Any]) -> TrainConfig:
    """The settings; one out of its range is bad usage."""
    try:
        return TrainConfig.from_dict(values)
    except InputError as error:
        raise click.UsageError(str(error)) from error


def _continued(context: click.Context, out: Path, values: dict[str, Any]) -> TrainConfig:
    """The settings of the run in `out`; what the command line says explicitly takes precedence (and must agree)."""
    from gradaug.checkpoint import load
    from gradaug.folder import RunFolder

    stored = load(RunFolder(out).checkpoint).config
    given = {name: value for name, value in values.items() if _is_given(context, name)}
    return _config({**stored, **given})


def _is_given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE


def _load(path: str, trust: bool) -> SlimNet:
    import netslim

    return netslim.load(path, trust=trust)
