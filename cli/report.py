"""`gradaug report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report", short_help="Show training runs: results and settings, with --html as a page.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    help="Write a page that opens offline: curves, sub-networks, settings, time, versions; several runs side by side.",
)
def report(runs: tuple[Path, ...], page: Path | None) -> None:
    """Show training runs: results and settings, with --html as a page.

    RUN is the folder of a run, the --out of gradaug train; it may be unfinished, or going on.
    """
    from netslim.extras import require
    from netslim.files import check_writable

    if page is not None:
        require("matplotlib", "curves")
        check_writable(page)
    from gradaug.report import named, run_tables
    from gradaug.training.record import read
    from netslim.report import say

    records = [read(run) for run in dict.fromkeys(runs)]
    if page is None:
        for record, name in zip(records, named(records), strict=True):
            for table in run_tables(record, name):
                say(table)
        return
    from gradaug.pages.page import write_page

    write_page(records, page)
    say(f"drawn in {page}")
