"""The two commands. Sub-commands are imported when they are called: torch takes seconds to import, help must not."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import click

from .streams import guarded

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a sub-command lives, and its line in the help of its group (a test holds the two together)."""

    module: str
    name: str
    short_help: str

    def load(self) -> click.Command:
        return getattr(importlib.import_module(f".{self.module}", __package__), self.name)


class Failure(click.ClickException):
    """A mistake the user can mend: the message on stderr, exit code 1 or the error's own.

    Of several processes on a machine, the first speaks for all; the others report only that a process is gone.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.exit_code = getattr(error, "exit_code", 1)  # type: ignore[misc]
        self.silent = _follows() and type(error).__name__ != "TrainingError"

    def show(self, file: IO[str] | None = None) -> None:
        if self.silent:
            return
        from rich.console import Console
        from rich.text import Text

        text = Text.assemble(("error: ", "bold red"), self.message)
        Console(file=file, stderr=file is None, soft_wrap=True).print(text)


def _follows() -> bool:
    """Whether this is one of several processes of a run, and not the first of its machine."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0"))) > 0


class LazyGroup(click.Group):
    """A group whose commands are entries of a table, and the one place that turns errors into exit codes."""

    def __init__(self, *args: Any, entries: dict[str, Entry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        return None if entry is None else entry.load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.short_help) for name, entry in self.entries.items()])

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with guarded():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> object:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
        try:
            with _warned():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            if not _follows():
                click.echo("stopped", err=True)
            ctx.exit(STOPPED)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:
            from netslim.errors import NetslimError
            from netslim.extras import explained

            if isinstance(known := explained(error) or error, NetslimError):
                raise Failure(known) from error
            error.add_note(f"This is a bug in {self.name}: please report it with the lines above.")
            raise


@contextlib.contextmanager
def _warned() -> Iterator[None]:
    """Warnings of ours are a line each, once; others are Python's to show."""
    from netslim.errors import NotProved

    with warnings.catch_warnings():
        warnings.simplefilter("once", NotProved)
        show = warnings.showwarning

        def shown(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, NotProved):
                show(message, category, *where, **more)
            elif not _follows():
                click.echo(f"warning: {message}", err=True)

        warnings.showwarning = shown
        yield


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from netslim import __version__

        click.echo(f"netslim-gradaug {__version__}")
        ctx.exit()


def _with_version(group: click.Group) -> click.Group:
    return click.option(
        "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
    )(group)


@_with_version
@click.group(
    cls=LazyGroup,
    entries={
        "convert": Entry("convert", "convert", "Make a model run at any width, and prove it."),
        "inspect": Entry("inspect", "inspect", "Show the channel groups of a model and what is frozen."),
        "verify": Entry(
            "verify",
            "verify",
            "Prove that every sub-network equals the masked full network, and the full network the model.",
        ),
        "rank": Entry("rank", "rank", "Order the channels of each group by their importance."),
        "extract": Entry(
            "extract",
            "extract",
            "Cut a plain, smaller network out of a converted one: of a width, or what a budget allows.",
        ),
        "restore": Entry("restore", "restore", "Write the trained weights under the original model's keys."),
    },
)
def netslim() -> None:
    """Run any PyTorch network at any width.

    SOURCE is mymodel.py, package.module:callable, torchvision:NAME or timm:NAME.
    """


@_with_version
@click.group(
    cls=LazyGroup,
    entries={
        "train": Entry("train", "train", "Train a converted network, with GradAug or plainly."),
        "eval": Entry("evaluate", "evaluate", "Score a converted network and its sub-networks."),
        "sweep": Entry("sweep", "sweep", "Score and time a network over a grid of widths and depths."),
        "report": Entry("report", "report", "Show training runs: results and settings, with --html as a page."),
        "recipes": Entry("recipes", "recipes", "List the recipes, or print one."),
    },
)
def gradaug() -> None:
    """Train a network together with sub-networks of itself.

    The network is a file written by `netslim convert`.
    """
