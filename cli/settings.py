"""The settings of a training run as command-line options, from the one table in gradaug/config."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from gradaug.config.settings import TrainConfig, flag
from gradaug.config.subnets import MODES
from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


class Listed(click.ParamType):
    """Comma-separated values: 32,28,24. An empty text is an empty list."""

    def __init__(self, kind: type[int] | type[float] | type[str]) -> None:
        self.kind = kind
        self.name = f"{kind.__name__},..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | float | str, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.kind(part) for part in str(value).split(",") if part)
        except ValueError:
            self.fail(f"{value!r} is not a comma-separated list of numbers", param, ctx)


TYPES: dict[str, click.ParamType | type[int] | type[float] | type[str]] = {
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


def settings(command: Callable[..., None]) -> Callable[..., None]:
    """Adds one option per field of TrainConfig."""
    for field in reversed(dataclasses.fields(TrainConfig)):
        name, kind = flag(field.name), str(field.type).removesuffix(" | None")
        shown = None if field.default in (None, ()) else field.default
        common = {"default": field.default, "help": field.metadata["help"], "show_default": shown is not None}
        if kind == "bool":
            command = click.option(f"{name}/--no-{name[2:]}", field.name, **common)(command)
        else:
            option_type = click.Choice(list(MODES)) if field.name == "mode" else TYPES[kind]
            command = click.option(name, field.name, type=option_type, **common)(command)
    return command


def checked(values: dict[str, object]) -> TrainConfig:
    """The settings; one out of its range is bad usage."""
    try:
        return TrainConfig.from_dict(values)
    except InputError as error:
        raise click.UsageError(str(error)) from error
