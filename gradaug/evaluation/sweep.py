"""A network over a grid of widths and depths: score, parameters, FLOPs, measured time, and which are worth having.

    found = sweep(net, training, validation, widths=(0.5, 0.75, 1.0), skips=(0, 2))
    for point in found.front("seconds"):
        print(point.row.width, point.blocks, point.row.score.headline, point.seconds)

Every sub-network is scored as :func:`gradaug.evaluation.score.subnetworks` does it. Times are those of plain, extracted
networks, taken last and in turns, so that the machine's noise falls on all of them alike.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from gradaug.config.values import whole
from gradaug.evaluation.score import CLASSIFICATION, Cut, SubnetScore, grid, repeatable, reported_skips, scored
from gradaug.inputs import device_of, images_in_example
from netslim import SlimNet
from netslim.choosing.latency import computing_with, seconds_in_turns, torch_run
from netslim.errors import InputError
from netslim.ir.inputs import batch
from netslim.net.runtime import runtime

if TYPE_CHECKING:
    from gradaug.config.kinds import JSON
    from gradaug.data import Batch
    from gradaug.tasks.task import AnyTask, Column
    from netslim.net.subnet import Ranking

WIDTHS = (0.25, 0.5, 0.75, 1.0)

Cost = Literal["flops", "seconds"]
Progress = Callable[[str, float], None]
"""Called with what is being done, and the fraction of it that is done."""


@dataclass(frozen=True, slots=True)
class Point:
    """One sub-network of a grid."""

    row: SubnetScore
    """Its width, parameters, FLOPs for one image, and score."""
    blocks: tuple[str, ...]
    """Names of the blocks that are left out of it."""
    seconds: float | None = None
    """The median time of a forward; None before it is measured."""

    def cost(self, of: Cost) -> float | None:
        return self.row.flops if of == "flops" else self.seconds


@dataclass(frozen=True)
class Sweep:
    """All sub-networks of a grid, and how their times were taken."""

    points: tuple[Point, ...]
    images: int
    """In the batch of a timed forward."""
    threads: int
    """That torch computed a timed forward with, on the CPU."""
    device: str

    @property
    def column(self) -> Column:
        """The task's first figure, which the fronts are about."""
        return self.points[0].row.score.columns[0]

    def front(self, cost: Cost) -> tuple[Point, ...]:
        """The Pareto front of score against FLOPs or time, the cheapest first.

        No other sub-network is at least as good and as cheap as one of these, and better in one of the two.
        """
        there = [(p.cost(cost), p.row.score.headline, p) for p in self.points]
        known = [(c, s, p) for c, s, p in there if c is not None and math.isfinite(s)]
        best = [
            (c, p) for c, s, p in known if not any(c2 <= c and s2 >= s and (c2 < c or s2 > s) for c2, s2, _ in known)
        ]
        return tuple(p for _, p in sorted(best, key=lambda pair: pair[0]))

    def to_dict(self) -> dict[str, JSON]:
        """JSON values: times in seconds, FLOPs of one image, the task's figures by their names."""
        by_flops, by_time = self.front("flops"), self.front("seconds")
        points = [
            {
                **point.row.to_dict(),
                "blocks": point.blocks,
                "seconds": point.seconds,
                "pareto_flops": point in by_flops,
                "pareto_seconds": point in by_time,
            }
            for point in self.points
        ]
        return {"images": self.images, "threads": self.threads, "device": self.device, "points": points}


def sweep(
    net: SlimNet,
    training: Iterable[Batch],
    validation: Iterable[Batch],
    widths: Sequence[float] = WIDTHS,
    skips: Sequence[int] | None = None,
    *,
    task: AnyTask = CLASSIFICATION,
    scope: str | None = None,
    round_to: int = 1,
    ranking: Ranking | None = None,
    images: int = 1,
    threads: int | None = None,
    known: Sequence[Point] = (),
    note: Callable[[Sweep], None] = lambda _found: None,
    progress: Progress = lambda _stage, _done: None,
) -> Sweep:
    """Scores and times the sub-networks of `net` at each width, with each number of blocks left out, evenly spread.

    Args:
        training, validation: batches to recalibrate batch norm on, and to score on.
        skips: numbers of blocks; None: none, a tenth, a fifth and two fifths of those that can be skipped.
        task: what is learned, and measured; classification, if not given.
        scope: the module that is narrowed, or "all"; None: the task's.
        ranking: which channels are kept; the first ones, if not given.
        images: in the batch of a timed forward.
        threads: for timed forwards; None: as many as torch takes.
        known: points of a sweep of this network before, which are not scored again. Times are measured anew.
        note: called with all that there is after every point, without times, and at the end; all of `known` is in it.

    All extracted networks are kept at once while times are measured. `net` is left as it is.
    Raises InputError for a number of blocks, images or threads that cannot be, and for a known point that the grid does
    not have; SubnetError for a width out of range.
    """
    if not widths or (skips is not None and not skips):
        raise InputError("a sweep needs one width and one number of blocks at least")
    cut_at = functools.partial(grid, net, round_to=round_to, scope=scope or task.scope)
    cuts = cut_at(widths, _skips(net, skips))
    count, threads = _images(net, images), _threads(threads)
    training, validation = repeatable(training), repeatable(validation)
    rows = _rows(cuts, [(cut, point) for point in known for cut in cut_at([point.row.width], [point.row.skipped])])
    found = Sweep((), count, threads, str(device_of(net)))
    for number, cut in enumerate(cuts):
        progress("scoring", number / len(cuts))
        if _key(cut) not in rows:
            rows[_key(cut)] = scored(net, cut, training, validation, False, task, ranking)
        found = replace(found, points=tuple(Point(rows[_key(c)], c.skipped) for c in cuts if _key(c) in rows))
        note(found)
    times = _times(net, cuts, ranking, images, threads, progress)
    found = replace(found, points=tuple(replace(p, seconds=s) for p, s in zip(found.points, times, strict=True)))
    note(found)
    return found


def _key(cut: Cut) -> object:
    return cut.counts, cut.skipped


def _rows(cuts: Sequence[Cut], known: Iterable[tuple[Cut, Point]]) -> dict[object, SubnetScore]:
    """The scores that are known, by what each sub-network keeps. InputError for one that the grid does not have."""
    rows, keys = dict[object, SubnetScore](), set(map(_key, cuts))
    for cut, point in known:
        if _key(cut) not in keys or cut.skipped != point.blocks:
            blocks = f", {cut.skip} block{'s' * (cut.skip > 1)} left out," if cut.skip else ""
            raise InputError(
                f"width {cut.width:g}{blocks} is in the sweep that goes on, and not in this grid: name it too, or "
                "begin another sweep"
            )
        rows[_key(cut)] = point.row
    return rows


def _skips(net: SlimNet, skips: Sequence[int] | None) -> Sequence[int]:
    return reported_skips(len(runtime(net).plan.blocks)) if skips is None else skips


def _images(net: SlimNet, images: int) -> int:
    """How many images a timed forward has; InputError for a number that this network cannot take."""
    if batch(runtime(net).plan.inputs):
        return whole("images", images, 1)
    own = images_in_example(net)
    if whole("images", images, 1) not in (1, own):
        raise InputError(f"this network takes no batch of any size: it is timed on the {own} of its example")
    return own


def _threads(threads: int | None) -> int:
    return torch.get_num_threads() if threads is None else whole("threads", threads, 1)


def _times(
    net: SlimNet, cuts: Sequence[Cut], ranking: Ranking | None, images: int, threads: int, progress: Progress
) -> list[float]:
    """Seconds of a forward of each, as a plain network."""
    inputs = runtime(net).plan.inputs
    runs = [torch_run(cut.extract(net, ranking), inputs, images) for cut in cuts]
    with computing_with(threads):
        try:
            for run in runs:
                run()
        except Exception as error:
            if images == 1:
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"the network does not run on {images} images at once ({reason}): take fewer") from error
        return seconds_in_turns(runs, lambda done: progress("timing", done))
