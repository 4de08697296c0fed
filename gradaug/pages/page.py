"""Training runs as one page of HTML that holds all that it needs, and opens offline. It has no script.

Whatever stands in a run's files is text of the page, never markup: every part of it is made by :func:`element`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from gradaug.pages.curves import COLOURS, SAID, Panel, panels, svg
from gradaug.report import changed, named, result_cells, said_value, shown_time
from gradaug.training.record import counted
from netslim.files import atomic_write

if TYPE_CHECKING:
    from gradaug.training.record import Record

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Of the browser: nothing is fetched, and no script runs, whatever a page says."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(tag: str, *parts: str, **attributes: str) -> Markup:
    """<tag attributes>parts</tag>; parts that are no Markup, and attributes, are escaped."""
    inner = "".join(part if isinstance(part, Markup) else escape(part) for part in parts)
    said = "".join(f' {name.rstrip("_")}="{escape(value)}"' for name, value in attributes.items())
    return Markup(f"<{tag}{said}>{inner}</{tag}>")


def write_page(records: Sequence[Record], path: str | Path) -> None:
    """Writes runs to a page: curves, sub-networks, settings, time and versions, of several runs side by side.

    Raises MissingError without matplotlib, ArchiveError where `path` cannot be written.
    """
    text = page(records)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def page(records: Sequence[Record]) -> str:
    """The page."""
    names = named(records)
    title = names[0] if len(names) == 1 else f"{len(names)} runs"
    drawn = panels(records)
    body = [
        element("h1", title),
        _overview(records, names),
        element("h2", "Curves"),
        element("div", *map(_panel, drawn), class_="curves") if drawn else element("p", "Nothing is recorded yet."),
        *([] if any("validation" in _styles(one) for one in drawn) else [element("p", "Nothing is validated yet.")]),
        element("h2", "Sub-networks"),
        *(part for one, name in zip(records, names, strict=True) for part in _subnets(one, name)),
        *(part for one, name in zip(records, names, strict=True) for part in _picture(one, name)),
        element("h2", "Settings"),
        *_settings(records, names),
        element("h2", "Versions"),
        _side_by_side([one.versions for one in records], names),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    )
    style = Markup(files("gradaug.pages").joinpath("page.css").read_text(encoding="utf-8"))
    top = element("head", Markup(head), element("title", title), element("style", style))
    return f'<!doctype html>\n<html lang="en">\n{top}\n{element("body", Markup(chr(10).join(body)))}\n</html>\n'


def _table(
    head: Sequence[str], rows: Iterable[tuple[Sequence[str], bool]], caption: str = "", number: int = 1
) -> Markup:
    """Rows of cells, each with whether it is to be seen at once; `number`: the first column of numbers."""
    kinds = [{"class_": "number"} if i >= number else {} for i in range(len(head))]
    titles = element("tr", *(element("th", cell, **kind) for cell, kind in zip(head, kinds, strict=True)))
    body = (
        element(
            "tr",
            *(element("td" if i else "th", cell, **kinds[i]) for i, cell in enumerate(cells)),
            **({"class_": "differs"} if seen else {}),
        )
        for cells, seen in rows
    )
    told = [element("caption", caption)] if caption else []
    return element("div", element("table", *told, element("thead", titles), element("tbody", *body)), class_="wide")


def _side_by_side(values: Sequence[Mapping[str, object]], names: Sequence[str], only: set[str] | None = None) -> Markup:
    """A row for each name that one of the runs has, a column for each run; rows that differ are marked."""
    rows = []
    for name in dict.fromkeys(name for one in values for name in one):
        if only is None or name in only:
            cells = [said_value(one[name]) if name in one else "" for one in values]
            rows.append(((name, *cells), len(set(cells)) > 1))
    if not rows:
        return element("p", "None are recorded.")
    return _table(("", *names), rows, number=len(names) + 1)


def _overview(records: Sequence[Record], names: Sequence[str]) -> Markup:
    """A row for each run, with the colour of its curves."""
    head, rows = ("run", "state", "before", "after", "time", "last written", ""), []
    for number, (one, name) in enumerate(zip(records, names, strict=True)):
        colour = element("span", class_="key", style=f"background: {COLOURS[number % len(COLOURS)]}")
        written = time.strftime("%Y-%m-%d %H:%M", time.localtime((one.path / "metrics.jsonl").stat().st_mtime))
        cells = (one.state, *_headlines(one), shown_time(one.seconds), written, one.about)
        rows.append(element("tr", element("th", colour, name), *(element("td", cell) for cell in cells)))
    titles = element("tr", *(element("th", cell) for cell in head))
    return element("div", element("table", element("thead", titles), element("tbody", *rows)), class_="wide overview")


def _headlines(record: Record) -> tuple[str, str]:
    """The task's first figure before training and after it, or after the last epoch that was validated."""
    column = next(iter(record.columns.values()))
    before = column.said(record.before.headline) if record.before else ""
    full = next((row for row in record.subnets if row.full), None)
    if full and record.finished:
        return before, column.said(full.score.headline)
    last = next((v for line in reversed(record.epochs) if (v := line.get(f"val_{column.name}")) is not None), None)
    return before, "" if last is None else column.said(last)


def _styles(panel: Panel) -> list[str]:
    return list(dict.fromkeys(curve.style for curve in panel.curves))


def _panel(panel: Panel) -> Markup:
    told = ", ".join(f"{style} {SAID[style]}" for style in _styles(panel) if style in SAID)
    caption = element("figcaption", panel.title, element("span", f" {told}", class_="lines"))
    return element("figure", caption, Markup(svg(panel)))


def _subnets(record: Record, name: str) -> list[Markup]:
    heading = [element("h3", name)]
    if not record.subnets:
        return [*heading, element("p", "They are scored at the end of the run.")]
    head, rows, note = result_cells(record.subnets, record.before)
    after = "" if record.finished else f"after {counted(record.scored or 0)}. "
    return [*heading, _table(head, ((row, False) for row in rows), after + note)]


def _picture(record: Record, name: str) -> list[Markup]:
    if record.picture is None:
        return []
    data = base64.b64encode(record.picture.read_bytes()).decode()
    alt = "validation images with what is in them, beside what the network says of them"
    return [element("h3", f"{name}: {alt}"), Markup(f'<img alt="{alt}" src="data:image/png;base64,{data}">')]


def _settings(records: Sequence[Record], names: Sequence[str]) -> list[Markup]:
    """What is not as it is by default, or not the same in all runs; the rest folded away."""
    values = [one.settings for one in records]
    if not any(values):
        return [element("p", "They are not recorded in these runs.")]
    told = {name for one in values for name in changed(one)}
    told |= {name for one in values for name in one if any(name in v and v[name] != one[name] for v in values)}
    rest = {name for one in values for name in one} - told
    folded = element("details", element("summary", "as by default"), _side_by_side(values, names, rest))
    return [_side_by_side(values, names, told), *([folded] if rest else [])]
