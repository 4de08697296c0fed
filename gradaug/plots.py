"""A picture of an assessment: the task's first figure over FLOPs, over an attack's strength, by kind of corruption.

Below, where the task has such a picture, images beside what the network says of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradaug.errors import OutputError
from netslim.extras import needed
from netslim.files import atomic_write, check_writable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from gradaug.evaluation.assessment import Assessment
    from gradaug.evaluation.sweep import Cost, Point, Sweep


WIDE = 13.0
"""Inches of a picture of images."""


def plot(found: Assessment, path: Path, title: str = "", examples: Tensor | None = None) -> None:
    """Writes a panel for each thing that was measured, and below them `examples` (3, H, W) uint8.

    MissingError without matplotlib, OutputError where it cannot.
    """
    require_drawable(path)
    from matplotlib.figure import Figure

    panels = [_sizes] + [_attacks] * bool(found.attacks) + [_corruptions] * bool(found.corruptions)
    width = max(5.0 * len(panels), 0.0 if examples is None else WIDE)
    heights = [4.0] if examples is None else [4.0, width * examples.shape[1] / examples.shape[2]]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    figure.suptitle(title, parse_math=False)
    above, *below = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for draw, axes in zip(panels, above.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw(found, axes)
        axes.set_ylabel(found.column.heading)
    for part in below:
        _images(examples, part.subplots())
    _save(figure, path)


def plot_sweep(found: Sweep, path: Path, title: str = "") -> None:
    """Writes the task's first figure over FLOPs and over time, a line for each number of blocks left out.

    What no other sub-network beats is ringed. MissingError without matplotlib, OutputError where it cannot.
    """
    require_drawable(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.5), layout="constrained")
    figure.suptitle(title, parse_math=False)
    batch = f"{found.images} image{'s' * (found.images > 1)} on {found.device}"
    axes = figure.subplots(1, 2, sharey=True)
    _swept(found, axes[0], "flops", 1e-6)
    axes[0].set(xlabel="MFLOPs of an image", ylabel=found.column.heading)
    _swept(found, axes[1], "seconds", 1e3)
    axes[1].set(xlabel=f"milliseconds, {batch}")
    axes[0].legend(title="blocks left out")
    _save(figure, path)


def _swept(found: Sweep, axes: Axes, cost: Cost, unit: float) -> None:
    for skipped in sorted({point.row.skipped for point in found.points}):
        line = [point for point in found.points if point.row.skipped == skipped]
        axes.plot(*_places(line, cost, unit), "o-", label=str(skipped))
    front = _places(found.front(cost), cost, unit)
    axes.plot(*front, "o", markersize=11, fillstyle="none", color="black", label="beaten by none")
    axes.grid(alpha=0.3)


def _places(points: Sequence[Point], cost: Cost, unit: float) -> tuple[list[float], list[float]]:
    known = [(value * unit, p.row.score.headline) for p in points if (value := p.cost(cost)) is not None]
    return [x for x, _ in sorted(known)], [y for _, y in sorted(known)]


def require_drawable(path: Path) -> None:
    """MissingError without matplotlib, OutputError for a name whose suffix is no form of pictures.

    ArchiveError where it cannot be written.
    """
    with needed("matplotlib", "pictures"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
    formats = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:] not in formats:
        raise OutputError(f"cannot write {path}: the name must end in one of .{', .'.join(sorted(formats))}")
    check_writable(path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:])


def _images(pixels: Tensor | None, axes: Axes) -> None:
    axes.set_axis_off()
    if pixels is not None:
        axes.imshow(pixels.permute(1, 2, 0).numpy())


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
