"""Accuracy of the full network and of plain, extracted sub-networks of it.

A sub-network has no running statistics of its own (training leaves them to the full network), so they are estimated
anew on training images before it is scored, as in US-Nets and MutualNet.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gradaug.config.values import whole
from gradaug.errors import DataError
from gradaug.evaluation.recalibration import estimate
from gradaug.evaluation.recalibration import recalibrate as recalibrate
from gradaug.inputs import blank_images, device_of
from gradaug.scopes import evaluating
from gradaug.tasks.losses import UNLABELLED, fitted, main_output
from netslim import SlimNet, cost
from netslim.errors import InputError
from netslim.extras import needed
from netslim.net.subnet import keep_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradaug.data import Batch, DataSource


BINS = 15
"""Of the calibration error: equal intervals of confidence."""


@dataclass(frozen=True, slots=True)
class Score:
    """How well a network does on a set of images."""

    top1: float
    """Correct answers in percent, 0 to 100."""
    loss: float
    """Mean cross-entropy in nats."""
    images: int
    top5: float | None = None
    """The label among the five largest logits, in percent; None with five classes or fewer."""
    calibration_error: float | None = None
    """Expected calibration error in percent (Guo et al. 2017), where it was asked for."""


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
    score: Score
    skipped: int = 0
    full: bool = False
    """Whether it is the whole network."""

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {**{k: v for k, v in values.items() if k != "score"}, **values["score"]}


@torch.no_grad()
def score(net: nn.Module, batches: Iterable[Batch], calibration: bool = False) -> Score:
    """Top-1, top-5 and cross-entropy of `net` in eval mode; every module's mode is put back afterwards.

    For a network that answers every position, (N, classes, ...), each is an image's mean over its labelled positions.
    `calibration`: the calibration error too, by torchmetrics.
    """
    device, count, bins = device_of(net), 0, None
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    with evaluating(net):
        for images, labels in batches:
            logits = main_output(net(images.to(device)))
            labels = fitted(labels.to(device), logits)
            losses = over_images(F.cross_entropy(logits, labels, reduction="none", ignore_index=UNLABELLED), labels)
            sums += torch.stack([top1_hits(logits, labels), _top5_hits(logits, labels), losses]).double()
            count += len(labels)
            if calibration:
                bins = bins or _calibration_error(logits.shape[1]).to(device)
                known = labels != UNLABELLED
                bins.update(logits.softmax(1).movedim(1, -1)[known], labels[known])
    hits, near, loss = (float(value) / max(count, 1) for value in sums.tolist())
    top5 = 100 * near if count and logits.shape[1] > 5 else None
    return Score(100 * hits, loss, count, top5, 100 * float(bins.compute()) if bins else None)


def _calibration_error(classes: int) -> Any:
    with needed("torchmetrics", "calibration errors"):
        from torchmetrics.classification import MulticlassCalibrationError
    return MulticlassCalibrationError(classes, n_bins=BINS, norm="l1")


def merged(scores: Sequence[Score]) -> Score:
    """The score on all images, from those on parts of them (without the calibration error, which does not add up)."""
    scores = [part for part in scores if part.images] or [scores[0]]  # fewer images than parts leave some without
    images = sum(part.images for part in scores)
    if not images:
        return scores[0]

    def mean(name: str) -> float:
        return sum(getattr(part, name) * part.images for part in scores) / images

    return Score(mean("top1"), mean("loss"), images, None if scores[0].top5 is None else mean("top5"))


def top1_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of the (N, classes, ...) logits have their largest value at the label (N, ...); parts of an image
    where it has several labels."""
    return over_images((logits.argmax(dim=1) == labels).float(), labels)


def _top5_hits(logits: Tensor, labels: Tensor) -> Tensor:
    nearest = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return over_images((nearest == labels.unsqueeze(1)).any(1).float(), labels)


def over_images(values: Tensor, labels: Tensor) -> Tensor:
    """The sum, over images, of each image's mean of `values` (N, ...) over the positions that have a label."""
    if values.ndim == 1:
        return values.sum()
    known = (labels != UNLABELLED).flatten(1)
    return ((values.flatten(1) * known).sum(1) / known.sum(1).clamp(min=1)).sum()


def subnetworks(
    net: SlimNet,
    widths: Sequence[float],
    calibration: Iterable[Batch],
    validation: Iterable[Batch],
    round_to: int = 1,
    skips: Sequence[int] = (0,),
    calibration_error: bool = False,
) -> list[SubnetScore]:
    """Scores `net` at each width and with each number of blocks left out, evenly spread over the network.

    A sub-network that keeps exactly what one before it keeps is left out. The full network is scored with the running
    statistics it was trained with, every other one with those that :mod:`gradaug.evaluation.recalibration` estimates.
    Raises SubnetError for a width out of range, InputError for a number of blocks that the network does not have.
    """
    calibration, validation = _repeatable(calibration), _repeatable(validation)
    rows: dict[Any, SubnetScore] = {}
    full = keep_counts(net.plan, 1.0), ()
    for width, skip in itertools.product(widths, skips):
        skipped = tuple(spread(net, skip))
        kept = keep_counts(net.plan, width, round_to), skipped
        if kept in rows:
            continue
        depth = dict.fromkeys(skipped, False)
        size = cost.count(net, width, depth, round_to=round_to)
        slim: nn.Module = net
        if kept != full:
            slim = copy.deepcopy(net.extract(width, depth, round_to=round_to))
        norms = estimate(slim, calibration) if kept != full else 0
        found = score(slim, validation, calibration_error)
        rows[kept] = SubnetScore(width, size.params, size.flops, norms > 0, found, skip, kept == full)
    return list(rows.values())


def _repeatable(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Batches that every sub-network can go through: an iterator is spent after the first."""
    return list(batches) if isinstance(batches, Iterator) else batches


def spread(net: SlimNet, skip: int) -> list[str]:
    """`skip` blocks of the network, evenly spaced, by name; InputError where it has not so many."""
    names = [block.name for block in net.blocks]
    if whole("skip", skip) > len(names):
        raise InputError(f"skip is {skip}, and this network has {len(names)} blocks that can be skipped")
    return [names[int((i + 0.5) * len(names) / skip)] for i in range(skip)]


@torch.no_grad()
def require_fit(net: SlimNet, source: DataSource) -> None:
    """DataError unless the network answers an image with one logit per class of the data."""
    with evaluating(net):
        logits = main_output(net(blank_images(net, 1)))
    if logits.ndim != 2:
        raise DataError(f"the network returns {tuple(logits.shape)} for one image; a classifier returns (1, classes)")
    if logits.shape[1] != source.classes:
        raise DataError(
            f"the network has {logits.shape[1]} outputs and {source.name} has {source.classes} classes; build the "
            f"model for {source.classes} and convert it again (netslim convert ... --arg num_classes={source.classes})"
        )
