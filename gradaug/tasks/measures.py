"""What multi-label classification and regression share: an answer of several numbers, and numbers that are known."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gradaug.errors import DataError
from gradaug.tasks.losses import wide, without_autocast
from gradaug.tasks.outputs import heads, main_output
from netslim.errors import InputError

HeadLoss = Callable[[Tensor, object], Tensor]
"""(answer of a head in float32, labels) -> scalar."""


def answer(output: object) -> Tensor:
    """The main output (N, numbers, ...); one number an image may come as (N,). InputError where it holds no floats."""
    return _in_columns(main_output(output))


def answers(output: object) -> tuple[Tensor, ...]:
    """The output of every head, the main one first."""
    return tuple(_in_columns(head) for head in heads(output))


def _in_columns(found: Tensor) -> Tensor:
    if not found.is_floating_point() or not found.ndim:
        raise InputError(
            f"the network returns {found.dtype} of shape {tuple(found.shape)}: return floats (N, numbers), before any "
            "rounding"
        )
    return found.unsqueeze(1) if found.ndim == 1 else found


def fitted(labels: object, found: Tensor) -> Tensor:
    """`labels` as floats of the shape of `found` (N, numbers, ...); of one number an image they may be (N, ...).

    InputError where they are of another shape or device.
    """
    if not isinstance(labels, Tensor):
        raise InputError(f"labels are a {type(labels).__name__}: give a tensor")
    shape, given = tuple(found.shape), tuple(labels.shape)
    if given == (shape[0], *shape[2:]) and shape[1] == 1:
        labels = labels.unsqueeze(1)
    elif given != shape:
        raise InputError(
            f"labels of shape {given} do not fit an output of shape {shape}: they are to have its shape; one class "
            "number an image is task=Classification() (--task classification)"
        )
    if labels.device != found.device:
        raise InputError(f"labels are on {labels.device} and the network's output on {found.device}: move the labels")
    return labels if labels.dtype == torch.float64 else labels.float()


def known(values: Tensor, labels: Tensor) -> Tensor:
    """`values` of the shape of `labels`, 0 where a label is nan: not known."""
    return torch.where(labels.isnan(), 0.0, values)


def mean_of_known(values: Tensor, labels: Tensor) -> Tensor:
    """The mean over all labels that are known; 0 where none is."""
    return known(values, labels).sum() / (~labels.isnan()).sum().clamp(min=1)


def over_heads(output: object, labels: object, one: HeadLoss, auxiliary: float) -> Tensor:
    """The loss of the main head, and `auxiliary` times that of each other; in float32 at least, under autocast too."""
    losses = []
    for head in answers(output):
        with without_autocast(head):
            losses.append(one(wide(head), labels))
    return sum((auxiliary * loss for loss in losses[1:]), start=losses[0])


def require_numbers(found: Tensor, name: str, count: int, source: str, what: str) -> None:
    """DataError unless the answer to one image is `count` numbers."""
    if found.ndim != 2 or found.shape[1] != count:
        raise DataError(
            f"the network returns {tuple(found.shape)} for one image and {source} has {count} {what} an image: "
            f"{name} needs (1, {count}); build the model with {count} outputs and convert it again "
            f"(netslim convert ... --arg num_classes={count})"
        )
