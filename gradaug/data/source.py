"""What a data set is to the rest of gradaug: sets of images that answer keys (epoch, index) with one batch.

A key fixes the image and its augmentation, so the number of workers and processes, a resume in mid-epoch and the
training mode change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gradaug.errors import DataError

Key = tuple[int, int]
"""(epoch, index of the image)."""
Target = dict[str, Tensor]
"""The objects of one image, as torchvision's detectors take them.

``boxes`` (n, 4) float32, x and y of two corners in pixels; ``labels`` (n,) int64 from 1, as 0 is the background; where
the data has them ``masks`` (n, H, W) uint8 and ``keypoints`` (n, K, 3) float32: x, y, and 0 for one that is not known.
Images for validation also have ``iscrowd`` (n,) int64, ``area`` (n,) float32 and ``image_id`` () int64. Nothing at all
where an image has no labels.
"""
Batch = tuple[Tensor | list[Tensor], Tensor | list[Target]]
"""Images (N, C, H, W) float32, labels (N,) int64, -1 where there is none; or what else a task learns, as masks.

For detection N images (C, H, W) of sizes of their own, float32 in [0, 1], and N targets.
"""
Part = TypeVar("Part", Tensor | list[Tensor], Tensor | list[Target])

TOGETHER = 256
"""Images of one size that are evaluated together."""


class Images(Dataset[Batch]):
    """A set of images that answers a list of keys with one batch."""

    groups: Sequence[int] | None = None
    """A number for every image, where only those of one number are to share a training batch: images of a shape."""
    together: int = TOGETHER
    """Images of a batch in evaluation; 1 where they have sizes of their own, since padding changes an answer."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        raise NotImplementedError


@dataclass(frozen=True)
class DataSource:
    """One data set, and the readings of it that a run needs."""

    name: str
    classes: int
    train: Images
    """Training images with their labels, augmented."""
    calibration: Images
    """The same images without augmentation, for batch-norm recalibration."""
    validation: Images
    unlabelled: Images | None = None
    """Further training images, augmented, whose labels this run does not use."""
    mean: tuple[float, ...] = (0.0,)
    """Per channel, with `std`: a pixel in [0, 1] is x * std + mean. Images for detection are not standardised."""
    std: tuple[float, ...] = (1.0,)
    task: str = "classification"
    """What its labels are for, as in ``--task``."""
    categories: tuple[str, ...] = ()
    """For detection: names of the labels, "background" first, so that `classes` is their number."""
    remarks: tuple[str, ...] = ()
    """What was left out of the files, in a sentence each."""


class Subset(Images):
    """Some images of a set, in a given order."""

    def __init__(self, images: Images, indices: Sequence[int]) -> None:
        self.images, self.indices = images, list(indices)
        self.together = images.together
        self.groups = None if images.groups is None else [images.groups[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        return self.images.__getitems__([(epoch, self.indices[index]) for epoch, index in keys])


class Joined(Images):
    """Several sets, one after another."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = [(part, index) for part in parts for index in range(len(part))]
        self.together = min((part.together for part in parts), default=TOGETHER)
        if any(part.groups is not None for part in parts):
            self.groups = [0 if part.groups is None else part.groups[index] for part, index in self.parts]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        batches = [self.parts[index][0].__getitems__([(epoch, self.parts[index][1])]) for epoch, index in keys]
        return _joined([images for images, _ in batches]), _joined([labels for _, labels in batches])


class Unlabelled(Images):
    """A set without its labels: -1 everywhere, or targets that hold nothing."""

    def __init__(self, images: Images) -> None:
        self.images, self.groups, self.together = images, images.groups, images.together

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images, labels = self.images.__getitems__(keys)
        return images, torch.full_like(labels, -1) if isinstance(labels, Tensor) else [{} for _ in labels]


class TwoViews(Images):
    """Every image twice: a batch of N keys has N images and then the same images augmented differently."""

    def __init__(self, images: Images) -> None:
        self.images, self.groups, self.together = images, images.groups, images.together

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        first, second = self.images.__getitems__(keys), self.images.__getitems__([(-1 - e, i) for e, i in keys])
        return _joined([first[0], second[0]]), _joined([first[1], second[1]])


def _joined(parts: Sequence[Part]) -> Part:
    """Images or labels of several batches in one; DataError where some are tensors and others lists."""
    if any(isinstance(part, Tensor) for part in parts):
        return torch.cat([one_tensor(part) for part in parts])
    return [one for part in parts for one in part]


def one_tensor(images: Tensor | list[Tensor] | list[Target]) -> Tensor:
    """Images or labels, where a list of them is of no use; DataError for one."""
    if not isinstance(images, Tensor):
        raise DataError("images with boxes are a list, and here they are to be one tensor, with one label an image")
    return images
