"""``gradaug recipes``."""

from __future__ import annotations

import click


@click.command("recipes", short_help="List the recipes, or print one.")
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes that come with gradaug, or print the YAML of NAME.

    gradaug train --recipe NAME uses one; NAME,NAME puts the second's settings on top of the first's.
    """
    from rich.console import Console
    from rich.table import Table

    from gradaug.recipes import load, names, text

    if name is not None:
        click.echo(text(name), nl=False)
        return
    table = Table("recipe", "network", "about", show_lines=False)
    for each in names():
        recipe = load(each)
        about = recipe.about.split(". ")[0].split(" (")[0]
        table.add_row(each, recipe.model.source if recipe.model else "on top of another", about)
    Console().print(table)
