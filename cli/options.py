"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from netslim import SlimNet
    from netslim.source.spec import Loaded

Progress = Callable[[str, float], None]
Shape = tuple[int, ...]


class ShapeType(click.ParamType):
    """Sizes without the batch dimension: 3,224,224."""

    name = "sizes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Shape:
        try:
            shape = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            self.fail(f"{value!r} is not a list of sizes; write it as 3,224,224 (without the batch).", param, ctx)
        return shape


class Assignment(click.ParamType):
    """NAME=VALUE, where VALUE is a Python literal or else a string."""

    name = "name=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, object]:
        name, equals, text = str(value).partition("=")
        if not (equals and name.isidentifier()):
            self.fail(f"{value!r} is not NAME=VALUE.", param, ctx)
        try:
            return name, ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return name, text


class Pair(click.ParamType):
    """Two names: layer1,layer2."""

    name = "a,b"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        names = tuple(part.strip() for part in str(value).split(","))
        if len(names) != 2 or not all(names):
            self.fail(f"{value!r} is not two names; write them as conv1,conv2.", param, ctx)
        return names[0], names[1]


class WidthType(click.ParamType):
    """A ratio in (0, 1]."""

    name = "ratio"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            width = float(str(value))
        except ValueError:
            width = 0.0
        if not 0 < width <= 1:
            self.fail(f"{value!r} is not a ratio in (0, 1].", param, ctx)
        return width


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What says how to get from SOURCE to a model and its inputs."""

    entry: str | None = None
    args: tuple[tuple[str, object], ...] = ()
    weights: Path | None = None
    input_shape: tuple[Shape, ...] = ()
    freeze: tuple[str, ...] = ()
    tie: tuple[tuple[str, str], ...] = ()
    fixed_size: bool = False


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options of SourceOptions; the command gets them together, as `options`."""

    @functools.wraps(command)
    def gathering(
        entry: str | None,
        args: tuple[tuple[str, object], ...],
        weights: Path | None,
        input_shape: tuple[Shape, ...],
        freeze: tuple[str, ...],
        tie: tuple[tuple[str, str], ...],
        fixed_size: bool,
        **others: object,
    ) -> None:
        command(options=SourceOptions(entry, args, weights, input_shape, freeze, tie, fixed_size), **others)

    with_options: Callable[..., None] = gathering
    for option in (
        click.option("--weights", type=click.Path(path_type=Path), metavar="CKPT", help="Load this state_dict."),
        click.option(
            "--arg",
            "args",
            type=Assignment(),
            multiple=True,
            metavar="K=V",
            help="Argument of the constructor; repeat.",
        ),
        click.option("--tie", type=Pair(), multiple=True, metavar="A,B", help="Give two groups one width; repeat."),
        click.option(
            "--freeze", multiple=True, metavar="NAME", help="Keep a layer, parameter or group at full width; repeat."
        ),
        click.option(
            "--fixed-size",
            is_flag=True,
            help="Where forward depends on sizes in a way that cannot be written down, convert it for this size alone.",
        ),
        click.option("--entry", metavar="NAME", help="Class, factory or instance in mymodel.py."),
        click.option(
            "--input-shape",
            type=ShapeType(),
            multiple=True,
            metavar="3,224,224",
            help="Shape of one input without the batch; repeat for several inputs.",
        ),
    ):
        with_options = option(with_options)
    return with_options


def calibration_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what says which sub-network a width is, and on which images its batch norm is recalibrated."""
    round_to = click.option(
        "--round-to", type=_COUNT, default=1, show_default=True, help="Round widths to so many channels."
    )
    return round_to(data_options(command))


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds what says which training images are taken."""
    for option in (
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Chooses them."),
        click.option("--batch-size", type=_COUNT, default=64, show_default=True, help="Images in each of them."),
        click.option("--calibration-batches", type=_COUNT, default=16, show_default=True, help="Batches for it."),
    ):
        command = option(command)
    return command


_COUNT = click.IntRange(min=1)


def explicit(context: click.Context, values: dict[str, object]) -> dict[str, object]:
    """Those that the command line says, not the defaults."""
    said = click.core.ParameterSource.COMMANDLINE
    return {name: value for name, value in values.items() if context.get_parameter_source(name) == said}


def require_data(context: click.Context, calibration: dict[str, object]) -> None:
    """UsageError for options that choose training images where no data was named."""
    said = [f"--{name.replace('_', '-')}" for name in explicit(context, calibration)]
    if said:
        raise click.UsageError(f"{', '.join(said)} choose training images: say of which data, with --data.")


trust_option = click.option(
    "--trust", is_flag=True, help="Run code that the file holds or refers to (converted.pt: only where it keeps some)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def load_model(source: str, options: SourceOptions) -> Loaded:
    """The model behind SOURCE, with its arguments and weights."""
    from netslim.source.spec import load_source

    return load_source(source, options.entry, dict(options.args), options.weights)


def convert_loaded(
    loaded: Loaded, options: SourceOptions, *, prove: bool, quick: bool = False, progress: Progress | None = None
) -> SlimNet:
    """Converts a model for the shapes that were given, else those it offers, else the default (said on stderr)."""
    import netslim
    from netslim.errors import InputError, TraceError
    from netslim.source.shapes import DEFAULT, example_inputs, shown

    shapes = options.input_shape or loaded.shapes
    if not shapes:
        click.echo(f"note: no --input-shape given; using {shown(DEFAULT)}", err=True)
    try:
        return netslim.convert(
            loaded.model,
            example_inputs(shapes or DEFAULT),
            prove=prove,
            quick=quick,
            freeze=options.freeze,
            tie=options.tie,
            fixed_size=options.fixed_size,
            progress=progress,
        )
    except (InputError, TraceError) as error:
        if shapes:
            raise
        raise type(error)(f"{error} (The input shape was a guess: say it with --input-shape.)") from error


def open_net(target: str, options: SourceOptions, trust: bool = False) -> SlimNet:
    """The converted network in an archive, or a SOURCE converted in memory without proof."""
    import netslim
    from netslim.source.spec import is_source

    if is_source(target):
        return convert_loaded(load_model(target, options), options, prove=False)
    if options != SourceOptions():
        raise click.UsageError(
            f"{target} is converted already: --entry, --arg, --weights, --input-shape, --freeze, --tie and "
            "--fixed-size are for SOURCE."
        )
    return netslim.load(target, trust=trust)
