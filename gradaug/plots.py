"""A picture of an assessment: the task's first figure over FLOPs, over an attack's strength, by kind of corruption."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradaug.errors import OutputError
from netslim.extras import needed
from netslim.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gradaug.evaluation.assessment import Assessment


def plot(found: Assessment, path: Path, title: str = "") -> None:
    """Writes a panel for each thing that was measured. MissingError without matplotlib, OutputError where it cannot."""
    with needed("matplotlib", "pictures"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    panels = [_sizes] + [_attacks] * bool(found.attacks) + [_corruptions] * bool(found.corruptions)
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for draw, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw(found, axes)
        axes.set_ylabel(found.column.heading)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:] not in formats:
        raise OutputError(f"cannot write {path}: the name must end in one of .{', .'.join(sorted(formats))}")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])


def _sizes(found: Assessment, axes: Axes) -> None:
    rows = sorted(found.scores, key=lambda row: row.flops)
    axes.plot([row.flops / 1e6 for row in rows], [row.score.headline for row in rows], "o-")
    axes.set(xlabel="MFLOPs", title="sub-networks")


def _attacks(found: Assessment, axes: Axes) -> None:
    axes.plot(list(found.attacks), list(found.attacks.values()), "o-")
    axes.set(xlabel="epsilon", title="FGSM", ylim=(0, 100))


def _corruptions(found: Assessment, axes: Axes) -> None:
    means = {kind: sum(values.values()) / len(values) for kind, values in found.corruptions.items()}
    axes.bar(range(len(means)), list(means.values()))
    axes.set_xticks(range(len(means)), [kind.replace("_", " ") for kind in means], rotation=90)
    axes.set(title="corruptions", ylim=(0, 100))
