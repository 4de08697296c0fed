"""The network that a run trains: a file's, converted or extracted, a recipe's, or that of a run that goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.recipes import Model, Recipe
    from gradaug.training.folder import RunFolder
    from gradaug.training.opening import Opened
    from netslim import SlimNet


def require_named(model: str | None, recipe: Recipe | None, resume: bool) -> None:
    """UsageError where nothing says which network is meant."""
    if model is None and not resume and (recipe is None or recipe.model is None):
        raise click.UsageError(
            "say what to train: --model FILE (from netslim convert or extract), or a --recipe with a network"
        )


def trusted_teacher(teacher: str | None, named: bool, trust: bool) -> bool:
    """Whether a teacher may run code that it brings: one that the command line names, where it trusts.

    InputError for an extracted one that a recipe or a checkpoint names alone, where naming it is all that is missing.
    """
    from netslim.export.reading import form_of

    if trust and not named and teacher is not None and form_of(Path(teacher).expanduser()) is not None:
        raise InputError(
            f"the teacher {teacher} runs code, and a recipe or a checkpoint alone names it, which --trust is not for: "
            f"if you trust it as well, add --teacher {teacher}"
        )
    return trust and named


def network(
    model: str | None,
    recipe: Recipe | None,
    allowed: tuple[str, ...],
    folder: RunFolder,
    trust: bool,
    overwrite: bool,
    dry_run: bool,
) -> Opened:
    """The file's network, or the recipe's, which is converted once and kept in the run's folder, or that folder's."""
    from gradaug.training.opening import Opened, of_run, opened

    if model is not None:
        return opened(model, trust=trust, prove=not dry_run)
    if recipe is not None and recipe.model is not None:
        return Opened(_of_recipe(recipe.model, allowed, folder.converted, trust, overwrite, dry_run))
    found = of_run(folder, trust=trust)
    if found is None:
        raise InputError(
            f"{folder.path} does not hold the network of its run: name the file that it began with, --model"
        )
    return found


def _of_recipe(
    model: Model, allowed: tuple[str, ...], path: Path, trust: bool, overwrite: bool, dry_run: bool
) -> SlimNet:
    import netslim

    if "RANK" in os.environ or (path.exists() and not overwrite):
        if not path.exists():
            raise InputError(f"convert the recipe's network first: {model.command()} -o {path}")
        return netslim.load(path, trust=trust)
    model.require_allowed(allowed)
    return _converted(model, None if dry_run else path)


def _converted(model: Model, path: Path | None) -> SlimNet:
    """The recipe's network; proved and written unless `path` is None."""
    import torch

    import netslim
    from netslim.conversion import convert
    from netslim.source.spec import load_source

    click.echo(f"converting {model.source}" + (f" to {path}" if path else ""), err=True)
    loaded = load_source(model.source, args=model.arguments)
    net = convert(loaded.model, torch.randn(2, *model.input), prove=path is not None)
    if path is not None:
        netslim.save(net, path)
    return net
