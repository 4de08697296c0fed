"""Figures of the full network and of plain, extracted sub-networks of it.

A sub-network has no running statistics of its own (training leaves them to the full network), so they are estimated
anew on training images before it is scored, as in US-Nets and MutualNet.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gradaug.config.values import whole
from gradaug.evaluation.recalibration import estimate
from gradaug.evaluation.recalibration import recalibrate as recalibrate
from gradaug.inputs import copied, device_of, images_in_example, on_device
from gradaug.scopes import evaluating
from gradaug.subnets.limits import narrowed
from gradaug.tasks.classification import Classification
from gradaug.tasks.task import AnyTask, Meter, TaskScore
from netslim import SlimNet, cost
from netslim.errors import InputError
from netslim.net.runtime import runtime
from netslim.net.subnet import keep_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradaug.config.kinds import JSON
    from gradaug.data import Batch, DataSource

CLASSIFICATION = Classification()
"""The task where none is said."""


@dataclass(frozen=True, slots=True)
class SubnetScore:
    """One sub-network: its width, its size, its cost for one image (forward FLOPs, two per multiply-add), its score.

    `skipped` blocks are left out of it.
    """

    width: float
    params: int
    flops: int
    recalibrated: bool
    """Whether it has running statistics, which were estimated anew."""
    score: TaskScore
    skipped: int = 0
    full: bool = False
    """Whether it is the whole network."""

    def to_dict(self) -> dict[str, JSON]:
        values = asdict(self)
        return {**{k: v for k, v in values.items() if k != "score"}, **values["score"]}


def score(
    net: nn.Module, batches: Iterable[Batch], calibration: bool = False, task: AnyTask = CLASSIFICATION
) -> TaskScore:
    """The figures of `task` for `net` in eval mode; every module's mode is put back afterwards.

    `calibration`: a classifier's calibration error too, by torchmetrics.
    """
    return measure(net, batches, calibration, task).score()


@torch.no_grad()
def measure(
    net: nn.Module, batches: Iterable[Batch], calibration: bool = False, task: AnyTask = CLASSIFICATION
) -> Meter[Tensor]:
    """As :func:`score`, before the sums are made into figures."""
    device, meter = device_of(net), task.meter(calibration)
    with evaluating(net):
        for images, labels in batches:
            meter.add(net(copied(images, device)), on_device(labels, device))
    return meter


def subnetworks(
    net: SlimNet,
    widths: Sequence[float],
    training: Iterable[Batch],
    validation: Iterable[Batch],
    round_to: int = 1,
    skips: Sequence[int] = (0,),
    calibration: bool = False,
    task: AnyTask = CLASSIFICATION,
    scope: str | None = None,
) -> list[SubnetScore]:
    """Scores `net` at each width and with each number of blocks left out, evenly spread over the network.

    Widths are those of the module `scope` alone, or of "all"; None is what the task's training narrows.
    A sub-network that keeps exactly what one before it keeps is left out. The full network is scored with the running
    statistics it was trained with, every other one with those that :mod:`gradaug.evaluation.recalibration` estimates.
    Raises SubnetError for a width out of range, InputError for a number of blocks that the network does not have.
    """
    training, validation = _repeatable(training), _repeatable(validation)
    rows: dict[tuple[object, tuple[str, ...]], SubnetScore] = {}
    plan = runtime(net).plan
    full = keep_counts(plan, 1.0), ()
    narrow = {width: narrowed(net, width, scope or task.scope) for width in widths}
    for width, skip in itertools.product(widths, skips):
        skipped = tuple(spread(net, skip))
        kept = keep_counts(plan, narrow[width], round_to), skipped
        if kept in rows:
            continue
        depth = dict.fromkeys(skipped, False)
        size = cost.count(net, narrow[width], depth, round_to=round_to)
        slim: nn.Module = net
        if kept != full:
            slim = copy.deepcopy(net.extract(narrow[width], depth, round_to=round_to))
        norms = estimate(slim, training) if kept != full else 0
        found = score(slim, validation, calibration, task)
        flops = size.flops // images_in_example(net)
        rows[kept] = SubnetScore(width, size.params, flops, norms > 0, found, skip, kept == full)
    return list(rows.values())


def _repeatable(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Batches that every sub-network can go through: an iterator is spent after the first."""
    return list(batches) if isinstance(batches, Iterator) else batches


def spread(net: SlimNet, skip: int) -> list[str]:
    """`skip` blocks of the network, evenly spaced, by name; InputError where it has not so many."""
    names = [block.name for block in runtime(net).plan.blocks]
    if whole("skip", skip) > len(names):
        raise InputError(f"skip is {skip}, and this network has {len(names)} blocks that can be skipped")
    return [names[int((i + 0.5) * len(names) / skip)] for i in range(skip)]


@torch.no_grad()
def require_fit(net: SlimNet, source: DataSource, task: AnyTask = CLASSIFICATION) -> None:
    """DataError unless the network's answer to an image is one that can learn the labels of `source`."""
    with evaluating(net):
        output = task.trial(net)
    task.require_fit(output, source)
