"""Photographs of any size for networks that take them cropped square, with one answer an image: what layouts share.

A layout (:mod:`gradaug.data.image_folder` and its neighbours) finds the images and says what is known of them; the rest
is here, the same for all: the paper's augmentation of ImageNet, its normalisation, low-data splits, and a network that
sees one channel.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gradaug.data.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Transform,
    centre_crop,
    chosen,
    normalised,
    repeatable,
    resized_crop,
)
from gradaug.data.paths import shown
from gradaug.data.source import Batch, DataSource, Images, Key
from gradaug.data.splits import few_labels, some_labels
from gradaug.errors import DataError

GREY_MEAN, GREY_STD = (0.449,), (0.226,)
"""ImageNet's mean over the channels."""


class Records(Protocol):
    """Images that are decoded as they are needed, and what is known of each. It goes to the processes of workers."""

    labels: Tensor
    """(N,) class numbers int64, or (N, numbers) float32."""

    def pixels(self, index: int, channels: int) -> Tensor:
        """Image `index` as uint8 (channels, H, W), of 3 channels or 1; DataError says which cannot be read."""
        ...


class Photographs(Images):
    """Images (N, C, H, W) of records. Random transforms are drawn anew for every key."""

    def __init__(self, records: Records, transform: Transform, channels: int, seed: int) -> None:
        self.records, self.transform, self.channels, self.seed = records, transform, channels, seed

    def __len__(self) -> int:
        return len(self.records.labels)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images = [
            repeatable(self.transform, self.records.pixels(index, self.channels), self.seed, epoch, index)
            for epoch, index in keys
        ]
        chosen_labels = self.records.labels[torch.tensor([index for _, index in keys])]
        return normalised(torch.stack(images), *normal(self.channels)), chosen_labels


def normal(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel."""
    return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else (GREY_MEAN, GREY_STD)


def image_shape(name: str, path: str, shape: tuple[int, ...], layout: str) -> tuple[int, int]:
    """Channels and side of the network's images; DataError without a path, or where it takes others."""
    if not path:
        raise DataError(f"{name} needs the place of the images: --data {layout}")
    if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
        raise DataError(
            f"{name} has images in colour or grey, cropped square, but the network takes inputs of shape {shape}; "
            "convert it with --input-shape 3,SIDE,SIDE or 1,SIDE,SIDE"
        )
    return shape[0], shape[1]


def photo_source(
    name: str,
    task: str,
    classes: int,
    parts: tuple[Records, Records],
    size: tuple[int, int],
    seed: int,
    count: int | None,
    augment: str,
    layout: str,
) -> DataSource:
    """The readings of a data set from its images to train on and to validate on.

    `classes`: of class numbers, or how many numbers an image has; `size`: channels and side; `count`: labels that are
    used.
    """
    channels, side = size
    still = centre_crop(side)
    colored = resized_crop(side, True, channels)
    moving = chosen(augment, {"standard": resized_crop(side, False), "color": colored, "none": still}, layout)
    train, validation = parts
    both = Photographs(train, moving, channels, seed), Photographs(train, still, channels, seed)
    if train.labels.is_floating_point():
        split = some_labels(*both, count, seed)
    else:
        split = few_labels(*both, train.labels.tolist(), classes, count, seed)
    seen = Photographs(validation, still, channels, seed)
    return DataSource(name, classes, split[0], split[1], seen, split[2], *normal(channels), task=task)


PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "eval": "test"}
"""Words in the name of a file or of its folder, and what it is for; where nothing is for val, test is."""


def part(name: str) -> str | None:
    """What a name says that something is for: train, val or test; None where it says nothing, or several things."""
    said = {PARTS[word] for word in re.findall(r"[a-z]+", name.lower()) if word in PARTS}
    return said.pop() if len(said) == 1 else None


def sorted_out(files: Sequence[Path], layout: str) -> dict[str, list[Path]]:
    """Files to train on and to validate on; DataError where a name says neither, or one of them has none."""
    parts: dict[str, list[Path]] = {"train": [], "val": [], "test": []}
    for file in files:
        found = part(file.name) or part(file.parent.name)
        if found is None:
            raise DataError(
                f"{shown(file)} is for training or for validation? Neither its name nor its folder's has one of the "
                f"words {', '.join(PARTS)}"
            )
        parts[found].append(file)
    parts["val"] = parts["val"] or parts["test"]
    for name in ("train", "val"):
        if not parts[name]:
            raise DataError(f"no file is for {name}, by its name or its folder's; give --data {layout}")
    return parts
