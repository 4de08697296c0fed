"""Accuracy of the full network and of plain, extracted sub-networks of it.

A sub-network has no running statistics of its own (training leaves them to the full network), so they are estimated
anew on training images before it is scored, as in US-Nets and MutualNet.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gradaug.errors import DataError
from gradaug.fit import blank_images, device_of
from gradaug.losses import main_output
from gradaug.modes import evaluating
from netslim import SlimNet, cost
from netslim.extras import needed

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
    score: Score
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        return {**{k: v for k, v in values.items() if k != "score"}, **values["score"]}


@torch.no_grad()
def score(net: nn.Module, batches: Iterable[Batch], calibration: bool = False) -> Score:
    """Top-1, top-5 and cross-entropy of `net` in eval mode; every module's mode is put back afterwards.

    `calibration`: the calibration error too, by torchmetrics.
    """
    device, count, bins = device_of(net), 0, None
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    with evaluating(net):
        for images, labels in batches:
            labels = labels.to(device)
            logits = main_output(net(images.to(device)))
            losses = F.cross_entropy(logits, labels, reduction="sum")
            sums += torch.stack([top1_hits(logits, labels), _top5_hits(logits, labels), losses]).double()
            count += len(labels)
            if calibration:
                bins = bins or _calibration_error(logits.shape[-1]).to(device)
                bins.update(logits.softmax(-1), labels)
    hits, near, loss = (float(value) / max(count, 1) for value in sums.tolist())
    top5 = 100 * near if count and logits.shape[-1] > 5 else None
    return Score(100 * hits, loss, count, top5, 100 * float(bins.compute()) if bins else None)


def _calibration_error(classes: int) -> Any:
    with needed("torchmetrics", "calibration errors"):
        from torchmetrics.classification import MulticlassCalibrationError
    return MulticlassCalibrationError(classes, n_bins=BINS, norm="l1")


def merged(scores: Sequence[Score]) -> Score:
    """The score on all images, from those on parts of them (without the calibration error, which does not add up)."""
    images = sum(part.images for part in scores)

    def mean(name: str) -> float:
        return sum(getattr(part, name) * part.images for part in scores) / images

    return Score(mean("top1"), mean("loss"), images, None if scores[0].top5 is None else mean("top5"))


def top1_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of the (N, classes) logits have their largest value at the label (N,)."""
    return (logits.argmax(dim=-1) == labels).sum()


def _top5_hits(logits: Tensor, labels: Tensor) -> Tensor:
    nearest = logits.topk(min(5, logits.shape[-1]), dim=-1).indices
    return (nearest == labels.unsqueeze(-1)).any(-1).sum()


@torch.no_grad()
def recalibrate(net: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """Replaces the running statistics of every batch norm by their mean over `batches`; nothing else of `net` changes.

    Only the batch norms run in train mode (dropout stays off). Returns `net`, in eval mode.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return net.eval()
    momenta = [norm.momentum for norm in norms]
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean
        norm.train()
    for images, _ in batches:
        net(images.to(device_of(net)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval()


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
    statistics it was trained with, every other one recalibrated.
    """
    rows: list[SubnetScore] = []
    full = cost.count(net, width=1.0)
    for width, skip in itertools.product(widths, skips):
        depth = dict.fromkeys(spread(net, skip), False)
        size = cost.count(net, width, depth, round_to=round_to)
        if any((row.params, row.flops) == (size.params, size.flops) for row in rows):
            continue
        whole = (size.params, size.flops) == (full.params, full.flops)
        slim = net if whole else recalibrate(copy.deepcopy(net.extract(width, depth, round_to=round_to)), calibration)
        rows.append(
            SubnetScore(width, size.params, size.flops, not whole, score(slim, validation, calibration_error), skip)
        )
    return rows


def spread(net: SlimNet, skip: int) -> list[str]:
    """`skip` blocks of the network, evenly spaced, by name."""
    names = [block.name for block in net.blocks]
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
