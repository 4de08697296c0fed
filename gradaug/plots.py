"""A picture of an assessment: the task's first figure over FLOPs, over an attack's strength, by kind of corruption.

Below, where the task has such a picture, images beside what the network says of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gradaug.errors import OutputError
from netslim.extras import needed
from netslim.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from gradaug.evaluation.assessment import Assessment


WIDE = 13.0
"""Inches of a picture of images."""


def plot(found: Assessment, path: Path, title: str = "", examples: Tensor | None = None) -> None:
    """Writes a panel for each thing that was measured, and below them `examples` (3, H, W) uint8.

    MissingError without matplotlib, OutputError where it cannot.
    """
    with needed("matplotlib", "pictures"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    panels = [_sizes] + [_attacks] * bool(found.attacks) + [_corruptions] * bool(found.corruptions)
    width = max(5.0 * len(panels), 0.0 if examples is None else WIDE)
    heights = [4.0] if examples is None else [4.0, width * examples.shape[1] / examples.shape[2]]
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    above, *below = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for draw, axes in zip(panels, above.subplots(1, len(panels), squeeze=False)[0], strict=True):
        draw(found, axes)
        axes.set_ylabel(found.column.heading)
    for part in below:
        _images(examples, part.subplots())
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:] not in formats:
        raise OutputError(f"cannot write {path}: the name must end in one of .{', .'.join(sorted(formats))}")
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
