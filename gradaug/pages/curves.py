"""What runs recorded as curves, drawn as SVG that holds numbers alone: every name stands in the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netslim.extras import needed

if TYPE_CHECKING:
    from gradaug.training.record import Record

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#000000")
"""Of runs, in turn (Okabe and Ito's, which most eyes tell apart)."""

_MOST = 1200
"""Points of a curve: means over stretches, where there are more."""
_MOST_DOTS = 3000
_LARGEST = 1e100
"""Of a figure: the span of larger ones is no number."""

Places = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Curve:
    """What one run recorded of one figure over epochs."""

    run: int
    style: str
    """A key of STYLES."""
    places: Places


@dataclass(frozen=True)
class Panel:
    """One diagram."""

    title: str
    curves: tuple[Curve, ...]


STYLES: dict[str, dict[str, Any]] = {
    "validation": {"linestyle": "-", "linewidth": 1.8},
    "training": {"linestyle": "--", "linewidth": 1.2},
    "sub-networks": {"linestyle": ":", "linewidth": 1.5},
    "": {"linestyle": "-", "linewidth": 1.5},
    "dots": {"linestyle": "", "marker": ".", "markersize": 5, "alpha": 0.5},
}
SAID = {"validation": "solid", "training": "dashed", "sub-networks": "dotted"}


def panels(records: Sequence[Record]) -> list[Panel]:
    """The diagrams that these runs have something for."""
    names = dict.fromkeys(
        name.partition("_")[2] for one in records for line in one.epochs for name in line if name.startswith("val_")
    )
    found = [Panel("loss", tuple(_figure(records, "loss", loss=True)))]
    for name in names:
        if name != "loss":
            column = next((one.columns[name] for one in records if name in one.columns), None)
            found.append(Panel(column.heading if column else name, tuple(_figure(records, name))))
    found += [
        Panel("learning rate", tuple(_curves(records, "", _rates))),
        Panel("widths drawn", tuple(_curves(records, "dots", lambda one: _dots(one, "widths")))),
        Panel("resolutions drawn", tuple(_curves(records, "dots", lambda one: _dots(one, "resolutions")))),
        Panel("blocks skipped", tuple(_curves(records, "dots", lambda one: _dots(one, "skipped")))),
    ]
    return [panel for panel in found if panel.curves]


def _figure(records: Sequence[Record], name: str, loss: bool = False) -> Iterator[Curve]:
    parts = {"training": f"train_{name}", "validation": f"val_{name}"}
    for style, key in (parts | ({"sub-networks": "subnet_loss"} if loss else {})).items():
        yield from _curves(records, style, lambda one, key=key: _over_epochs(one, key))  # type: ignore[misc]


def _curves(records: Sequence[Record], style: str, places: Callable[[Record], Places]) -> Iterator[Curve]:
    for run, record in enumerate(records):
        drawable = [(x, y) for x, y in zip(*places(record), strict=True) if not abs(y) > _LARGEST]
        if drawable:
            yield Curve(run, style, ([x for x, _ in drawable], [y for _, y in drawable]))


def _over_epochs(record: Record, key: str) -> Places:
    """A figure of the epochs' lines; the loss of sub-networks that there are none of is left out."""
    known = [(line["epoch"] or 0.0, value) for line in record.epochs if (value := line.get(key)) is not None]
    if key == "subnet_loss" and not any(value for _, value in known):
        known = []
    return thinned([x for x, _ in known], [y for _, y in known])


def _rates(record: Record) -> Places:
    if record.steps:
        return thinned([s.step / record.per_epoch for s in record.steps], [s.lr for s in record.steps])
    return _over_epochs(record, "lr")


def _dots(record: Record, name: str) -> Places:
    found = [(s.step / record.per_epoch, value) for s in record.steps for value in getattr(s, name)]
    found = found[:: max(1, -(-len(found) // _MOST_DOTS))]
    return [x for x, _ in found], [y for _, y in found]


def thinned(x: list[float], y: list[float], most: int = _MOST) -> Places:
    """At most so many places, each the mean over a stretch."""
    if len(x) <= most:
        return x, y
    size = -(-len(x) // most)
    parts = range(0, len(x), size)
    return [_mean(x[i : i + size]) for i in parts], [_mean(y[i : i + size]) for i in parts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def svg(panel: Panel) -> str:
    """The diagram, to stand in a page. MissingError without matplotlib."""
    with needed("matplotlib", "curves"):
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "gradaug"}):
        figure = Figure(figsize=(5.0, 3.0), layout="constrained")
        axes = figure.subplots()
        for curve in panel.curves:
            marker = {"marker": "o"} if len(curve.places[0]) == 1 and curve.style != "dots" else {}
            axes.plot(*curve.places, color=COLOURS[curve.run % len(COLOURS)], **{**STYLES[curve.style], **marker})
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(alpha=0.25)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = text.getvalue()
    return re.sub(r' id="[\w.]+_\d+"', "", drawn[drawn.index("<svg") :])  # those ids are in every diagram
