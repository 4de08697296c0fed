"""`netslim inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import SourceOptions, json_option, open_net, source_options, trust_option

if TYPE_CHECKING:
    from netslim import SlimNet

PARTS = ("groups", "blocks", "frozen")


@click.command()
@click.argument("target", metavar="SOURCE|converted.pt")
@click.option("--groups", is_flag=True, help="Only the elastic groups.")
@click.option("--blocks", is_flag=True, help="Only the skippable blocks.")
@click.option("--frozen", is_flag=True, help="Only what stays at full width, and why.")
@click.option(
    "--why",
    metavar="NAME",
    multiple=True,
    help="Say what ties or froze a parameter, module or group, operator by operator; A,B: what ties these two.",
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="groups.png", help="Draw the groups as lanes.")
@click.option("--html", type=click.Path(path_type=Path), metavar="page.html", help="Write a page that shows all of it.")
@source_options
@trust_option
@json_option
def inspect(
    target: str,
    groups: bool,
    blocks: bool,
    frozen: bool,
    why: tuple[str, ...],
    plot: Path | None,
    html: Path | None,
    trust: bool,
    as_json: bool,
    options: SourceOptions,
) -> None:
    """Show the channel groups of a model and what is frozen.

    A group is a set of dimensions of parameters that must keep the same channels. SOURCE is mymodel.py,
    package.module:callable, torchvision:NAME or timm:NAME.
    """
    names = [name.strip() for given in why for name in given.split(",")]
    if len(names) > 2 or not all(names):
        raise click.UsageError("--why takes one name, or two whose tie it is to explain.")
    _check_pictures(plot, html)
    net = open_net(target, options, trust)
    from netslim.report import inspection, inspection_dict, say

    wanted = [part for part, chosen in zip(PARTS, (groups, blocks, frozen), strict=True) if chosen] or list(PARTS)
    if as_json:
        found = inspection_dict(net, wanted)
        click.echo(json.dumps(found | {"why": net.why(*names).to_data()} if names else found, indent=2))
    elif names:
        say(str(net.why(*names)))
    else:
        say(inspection(net, wanted))
    _draw(net, target, plot, html)


def _check_pictures(plot: Path | None, html: Path | None) -> None:
    """Raises for pictures that cannot be drawn or written, before the work that comes before them."""
    from netslim.extras import require
    from netslim.files import check_writable

    if plot is not None:
        require("matplotlib", "pictures")
    for path in (plot, html):
        if path is not None:
            check_writable(path)


def _draw(net: SlimNet, target: str, plot: Path | None, html: Path | None) -> None:
    if plot is not None:
        from netslim.pictures.lanes import plot_groups

        plot_groups(net, plot)
        click.echo(f"drawn in {plot}", err=True)
    if html is not None:
        from netslim.pictures.page import write_page
        from netslim.report import stages

        with stages() as progress:
            write_page(net, html, Path(target).name, progress)
        click.echo(f"drawn in {html}", err=True)
