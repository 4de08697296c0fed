"""Batches and outputs that are made of tensors: images together, and the part of an output that belongs to some.

Every function raises InputError, in one sentence, for what is something else.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from netslim.errors import InputError

T = TypeVar("T")


def first_of(output: T, count: int, of: int) -> T:
    """The output for the first `count` images of `of`."""
    return output if count == of else _rows(output, slice(count), of)


def rows_of(images: object, target: T, numbers: Sequence[int]) -> tuple[Tensor, T]:
    """The images of these numbers, and the target that goes with them."""
    if not isinstance(images, Tensor):
        raise InputError(
            f"subnet_share takes a part of images in one tensor (N, ...), and these are a {type(images).__name__}: "
            "give the task a `part` that says what one is, or leave subnet_share out"
        )
    rows = torch.tensor(numbers).to(images.device, non_blocking=True)
    return images[rows], _rows(target, rows, len(images))


def _rows(output: T, rows: slice | Tensor, of: int) -> T:
    """Those rows of everything that has a row for each of `of` images."""
    if isinstance(output, Mapping):  # of any class, such as a library's own kind of dict
        cut: Any = copy.copy(output)
        for key, value in output.items():
            cut[key] = _rows(value, rows, of)
        return cut
    if dataclasses.is_dataclass(output):
        cut = copy.copy(output)
        for field in dataclasses.fields(output):
            object.__setattr__(cut, field.name, _rows(getattr(output, field.name), rows, of))
        return cut
    return tree_map_only(Tensor, lambda t: t[rows] if t.ndim and len(t) == of else t, output)


def batch_of(images: object, unlabelled: object) -> tuple[Tensor, int]:
    """All images together, and how many have labels: the first."""
    labelled = _images(images)
    if unlabelled is None:
        return labelled, len(labelled)
    others = _images(unlabelled)
    if others.shape[1:] != labelled.shape[1:]:
        raise InputError(
            f"unlabelled images of shape {tuple(others.shape[1:])} do not go with labelled ones of shape "
            f"{tuple(labelled.shape[1:])}: give both the same shape"
        )
    return torch.cat([labelled, others]), len(labelled)


def _images(batch: object) -> Tensor:
    if not isinstance(batch, Tensor) or batch.ndim == 0 or len(batch) == 0:
        shown = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
        raise InputError(f"images are to be a tensor (N, ...) with one image at least, not {shown}")
    return batch
