"""CIFAR-10, CIFAR-100 and STL-10: small images that fit into memory, read from their published files as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.data import pickles
from gradaug.data.augment import (
    CIFAR_MEAN,
    CIFAR_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Transform,
    chosen,
    crop_and_flip,
    normalised,
    repeatable,
)
from gradaug.data.paths import opened, reason, root, shown
from gradaug.data.source import Batch, DataSource, Images, Joined, Key
from gradaug.data.splits import few_labels
from gradaug.errors import DataError

T = TypeVar("T")
P = ParamSpec("P")

URLS = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "stl10": "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
}
FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "stl10": "stl10_binary"}
"""What the archives unpack to."""
LARGEST_PICKLE = 2**28
"""Bytes; CIFAR-100's larger one has 155 million."""


class Stored(Images):
    """uint8 images (N, C, H, W) in memory. `augment` is drawn anew for every key; None leaves the images alone."""

    def __init__(
        self,
        pixels: Tensor,
        labels: Sequence[int],
        shape: tuple[int, ...],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        augment: Transform | None,
        seed: int,
    ) -> None:
        self.pixels, self.labels = pixels, torch.tensor(labels, dtype=torch.int64)
        self.shape, self.mean, self.std = shape, mean, std
        self.augment, self.seed = augment, seed

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = torch.tensor([index for _, index in keys])
        images = self.pixels[index]
        if self.augment:
            drawn = zip(images, keys, strict=True)
            images = torch.stack([repeatable(self.augment, image, self.seed, *key) for image, key in drawn])
        images = normalised(images, self.mean, self.std)
        if images.shape[-2:] != self.shape[1:]:
            images = F.interpolate(images, self.shape[1:], mode="bilinear", antialias=True)
        return images, self.labels[index]


def cifar10(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """CIFAR-10 (Krizhevsky 2009): 50,000 images of 32x32 to train on and 10,000 to validate, 10 classes."""
    parts = [f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]
    return _cifar("cifar10", 10, "labels", _found("cifar10", folder, parts), shape, seed, labels, augment)


def cifar100(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """CIFAR-100: the same with 100 classes."""
    parts = _found("cifar100", folder, (["train"], ["test"]))
    return _cifar("cifar100", 100, "fine_labels", parts, shape, seed, labels, augment)


def stl10(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """STL-10 (Coates et al. 2011): 5,000 images of 96x96 to train on, 8,000 to validate, 100,000 without labels."""
    train, test = _found("stl10", folder, (["train_X.bin", "train_y.bin"], ["test_X.bin", "test_y.bin"]))
    pixels = checked(train[0], _upright), checked(test[0], _upright)
    known = checked(train[1], _from_one, len(pixels[0])), checked(test[1], _from_one, len(pixels[1]))
    more = train[0].with_name("unlabeled_X.bin")
    unlabelled = checked(more, _upright) if os.path.exists(more) else None
    normal = IMAGENET_MEAN, IMAGENET_STD
    return assemble("stl10", 10, pixels, known, shape, seed, labels, augment, crop_and_flip(96, 12), normal, unlabelled)


def assemble(
    name: str,
    classes: int,
    pixels: tuple[Tensor, Tensor],
    known: tuple[list[int], list[int]],
    shape: tuple[int, ...],
    seed: int,
    labels: int | None,
    augment: str,
    standard: Transform,
    normal: tuple[tuple[float, ...], tuple[float, ...]],
    unlabelled: Tensor | None = None,
) -> DataSource:
    """The readings of a data set from its pixels and labels (training, validation) and its unlabelled images.

    `standard` is what ``--augment standard`` means.
    """
    channels = pixels[0].shape[1]
    if len(shape) != 3 or shape[0] != channels:
        raise DataError(f"{name} has images with {channels} channels, but the network takes inputs of shape {shape}")
    drawn = chosen(augment, {"standard": standard, "none": None}, name)
    train = Stored(pixels[0], known[0], shape, *normal, drawn, seed)
    plain: Images = Stored(pixels[0], known[0], shape, *normal, None, seed)
    validation = Stored(pixels[1], known[1], shape, *normal, None, seed)
    used, plain, others = few_labels(train, plain, known[0], classes, labels, seed)
    if unlabelled is not None:
        more = Stored(unlabelled, [-1] * len(unlabelled), shape, *normal, drawn, seed)
        others = more if others is None else Joined([others, more])
    return DataSource(name, classes, used, plain, validation, others, *normal)


Parts = tuple[list[Path], list[Path]]
"""Files to train on and to validate on."""


def _found(name: str, folder: str, parts: tuple[list[str], list[str]]) -> Parts:
    """The files of a data set in `folder`, which may also be the unpacked archive's own folder."""
    if not folder:
        raise DataError(f"{name} needs the folder of its files: --data {name}:DIR")
    place = root(folder)
    inside = place if place.name == FOLDERS[name] else place / FOLDERS[name]
    if not all(os.path.exists(inside / file) for part in parts for file in part):
        raise DataError(
            f"{name} was looked for in {shown(inside)} and is not there; download {URLS[name]}, unpack it in "
            f"{shown(inside.parent)}, and give --data {name}:{shown(inside.parent)}"
        )
    return [inside / file for file in parts[0]], [inside / file for file in parts[1]]


def _cifar(
    name: str, classes: int, key: str, parts: Parts, shape: tuple[int, ...], seed: int, labels: int | None, augment: str
) -> DataSource:
    batches = [[checked(path, _cifar_batch, key, classes) for path in part] for part in parts]
    pixels = [torch.cat([images for images, _ in part]) for part in batches]
    known = [[label for _, labels in part for label in labels] for part in batches]
    normal = CIFAR_MEAN, CIFAR_STD
    moved = crop_and_flip(32, 4)
    return assemble(
        name, classes, (pixels[0], pixels[1]), (known[0], known[1]), shape, seed, labels, augment, moved, normal
    )


def checked(path: Path, read: Callable[Concatenate[Path, P], T], *options: P.args, **named: P.kwargs) -> T:
    """What `read` makes of a file; DataError with its path for one that holds something else."""
    try:
        return read(path, *options, **named)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the files of {shown(path.parent)} are damaged ({path.name}: {reason(error)}); "
            "unpack them again, or download them"
        ) from error


def _cifar_batch(path: Path, key: str, classes: int) -> tuple[Tensor, list[int]]:
    """uint8 images (N, 3, 32, 32) and N labels of a pickle. ValueError for another one."""
    with opened(path) as file:
        pickled = file.read(LARGEST_PICKLE + 1)
    if len(pickled) > LARGEST_PICKLE:
        raise ValueError(f"it is larger than {LARGEST_PICKLE:,} bytes")
    content = pickles.plain(pickled)
    if not isinstance(content, dict) or not isinstance(content.get("data"), pickles.Array) or key not in content:
        raise ValueError(f"it is not a dictionary with data and {key}")
    pixels = content["data"].numpy()
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (3 * 32 * 32,) or not len(pixels):
        raise ValueError(f"its data has the shape {pixels.shape} and type {pixels.dtype}, not (N, 3072) and uint8")
    return torch.tensor(pixels.reshape(-1, 3, 32, 32)), _labels(content[key], len(pixels), classes)


def _labels(found: object, count: int, classes: int) -> list[int]:
    """`count` whole numbers from 0 to `classes` - 1; ValueError otherwise."""
    listed = found.numpy().tolist() if isinstance(found, pickles.Array) else found
    plain = [each.numpy().tolist() if isinstance(each, pickles.Array) else each for each in _list(listed)]
    if len(plain) != count:
        raise ValueError(f"it has {count} images and {len(plain)} labels")
    known = [label for label in plain if type(label) is int and 0 <= label < classes]
    if len(known) < count:
        raise ValueError(f"it has labels that are not from 0 to {classes - 1}")
    return known


def _list(found: object) -> list[object]:
    if not isinstance(found, list):
        raise ValueError("its labels are no list")
    return found


def _upright(path: Path) -> Tensor:
    """uint8 images (N, 3, 96, 96) of one of STL-10's files, which hold them column by column."""
    with opened(path) as file:
        pixels = np.fromfile(file, np.uint8)
    if not len(pixels) or len(pixels) % (3 * 96 * 96):
        raise ValueError(f"it has {len(pixels):,} bytes, which is no number of images of 3x96x96")
    return torch.from_numpy(pixels.reshape(-1, 3, 96, 96)).transpose(2, 3)


def _from_one(path: Path, count: int) -> list[int]:
    """The labels in one of STL-10's files, which count from 1."""
    with opened(path) as file:
        return _labels([label - 1 for label in file.read(count + 1)], count, 10)
