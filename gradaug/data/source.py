"""What a data set is to the rest of gradaug: sets of images that answer keys (epoch, index) with one batch.

A key fixes the image and its augmentation, so the number of workers and processes, a resume in mid-epoch and the
training mode change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

Key = tuple[int, int]
"""(epoch, index of the image)."""
Batch = tuple[Tensor, Tensor]
"""Images (N, C, H, W) float32, labels (N,) int64, -1 where there is none; or what else a task learns, as masks."""


class Images(Dataset[Batch]):
    """A set of images that answers a list of keys with one batch."""

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
    """Per channel, with `std`: a pixel in [0, 1] is x * std + mean."""
    std: tuple[float, ...] = (1.0,)
    task: str = "classification"
    """What its labels are for, as in ``--task``."""


class Subset(Images):
    """Some images of a set, in a given order."""

    def __init__(self, images: Images, indices: Sequence[int]) -> None:
        self.images, self.indices = images, list(indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        return self.images.__getitems__([(epoch, self.indices[index]) for epoch, index in keys])


class Joined(Images):
    """Several sets, one after another."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = [(part, index) for part in parts for index in range(len(part))]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        batches = [self.parts[index][0].__getitems__([(epoch, self.parts[index][1])]) for epoch, index in keys]
        return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


class Unlabelled(Images):
    """A set without its labels: -1 everywhere."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images, labels = self.images.__getitems__(keys)
        return images, torch.full_like(labels, -1)


class TwoViews(Images):
    """Every image twice: a batch of N keys has N images and then the same images augmented differently."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        first, second = self.images.__getitems__(keys), self.images.__getitems__([(-1 - e, i) for e, i in keys])
        return torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
