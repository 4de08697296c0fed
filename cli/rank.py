"""`netslim rank`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .budgets import CRITERIA, ranking_of, require_ranking
from .options import data_options, json_option, trust_option
from .training_data import DataOptions, together

if TYPE_CHECKING:
    from rich.table import Table

    from netslim.choosing.ranking import Ranked

_SHOWN = 5
"""Channels at either end of a group."""


@click.command()
@click.argument("archive", metavar="converted.pt")
@click.option(
    "--by",
    type=click.Choice(CRITERIA),
    default="l1",
    show_default=True,
    help="Norms of weights, scales of norms, what a loss on --data says of the weights (taylor, gradient), or chance.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write ranking.json, for netslim extract --ranking."
)
@click.option("--data", help="Training images of these, with their loss: digits, ...")
@data_options
@trust_option
@json_option
@together
def rank(archive: str, by: str, output: Path | None, images: DataOptions, trust: bool, as_json: bool) -> None:
    """Order the channels of each group by their importance.

    A channel counts at all its places: the filter that makes it, its norm, and everything that reads it. Importance is
    relative to the mean of the group, that of taylor to the mean of all channels.
    """
    require_ranking(by, images.data is not None, "--by")
    images.require(seeded=by == "random")
    import netslim
    from netslim.choosing.ranking import write_ranking
    from netslim.files import check_writable
    from netslim.report import say

    if output is not None:
        check_writable(output)
    net = netslim.load(archive, trust=trust)
    found = ranking_of(net, by, images.of(net), images.seed)
    assert found is not None
    if output is not None:
        write_ranking(found, output)
    if as_json:
        values = {
            name: {"order": order, "importance": found.importance[name].tolist()} for name, order in found.items()
        }
        click.echo(json.dumps({"by": by, "groups": values}, indent=2))
        return
    say(_table(found))
    if output is not None:
        say(f"written to {output}")


def _table(found: Ranked) -> Table:
    """One row per group: how far its channels differ, and which are at either end."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", title=f"channels by {found.by}", title_justify="left")
    for name, justify in (("group", "left"), ("channels", "right"), ("least", "right"), ("mean", "right"),
                          ("most", "right"), ("most important", "left"), ("least important", "left")):  # fmt: skip
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name, order in found.items():
        values = found.importance[name]
        numbers = (f"{float(value):.3g}" for value in (values.min(), values.mean(), values.max()))
        ends = (", ".join(map(str, part)) for part in (order[:_SHOWN], order[: -_SHOWN - 1 : -1]))
        table.add_row(Text(name), str(len(order)), *numbers, *ends)
    return table
