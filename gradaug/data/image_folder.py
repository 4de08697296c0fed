"""ImageNet-style folders: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, decoded as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

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
from gradaug.data.decode import SUFFIXES, decode
from gradaug.data.paths import reason, root, shown
from gradaug.data.source import Batch, DataSource, Images, Key
from gradaug.data.splits import few_labels
from gradaug.errors import DataError

VALIDATION = ("val", "validation", "test")


class Files(Images):
    """Image files with their labels. Random transforms are drawn anew for every key."""

    def __init__(self, samples: Sequence[tuple[str, int]], transform: Transform, seed: int) -> None:
        self.samples, self.transform, self.seed = list(samples), transform, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images = [
            repeatable(self.transform, decode(self.samples[index][0]), self.seed, *(epoch, index))
            for epoch, index in keys
        ]
        labels = torch.tensor([self.samples[index][1] for _, index in keys])
        return normalised(torch.stack(images), IMAGENET_MEAN, IMAGENET_STD), labels


def folder(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """The classes are the names of the folders in DIR/train; DIR/val must have the same."""
    if not path:
        raise DataError("folder needs the folder of the images: --data folder:DIR with DIR/train and DIR/val")
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise DataError(f"folders hold colour images, cropped square, but the network takes inputs of shape {shape}")
    place, side = root(path), shape[1]
    still = centre_crop(side)
    known = {"standard": resized_crop(side, False), "color": resized_crop(side, True), "none": still}
    moving = chosen(augment, known, "folder")
    train = _listed(place / "train")
    validation = _listed(next((place / name for name in VALIDATION if os.path.isdir(place / name)), place / "val"))
    if train.classes != validation.classes:
        different = ", ".join(map(shown, sorted(set(train.classes) ^ set(validation.classes))[:5]))
        raise DataError(f"{shown(train.path)} and {shown(validation.path)} have different classes: {different}")
    whole = Files(train.samples, moving, seed), Files(train.samples, still, seed)
    known_classes = [label for _, label in train.samples]
    used, plain, rest = few_labels(*whole, known_classes, len(train.classes), labels, seed)
    seen = Files(validation.samples, still, seed)
    return DataSource(shown(place.name), len(train.classes), used, plain, seen, rest, IMAGENET_MEAN, IMAGENET_STD)


@dataclass(frozen=True)
class _Listing:
    """The classes of a folder in the order of their names, and its images with their classes' numbers."""

    path: Path
    classes: list[str]
    samples: list[tuple[str, int]]


def _listed(path: Path) -> _Listing:
    try:
        classes = [name for name in sorted(os.listdir(path)) if _is_class(path / name)]
        found = {name: list(_images(path / name, (os.path.realpath(path),))) for name in classes}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"images were looked for in {shown(path)}/CLASS/*.jpg and are not there ({reason(error)}); give --data "
            "folder:DIR with DIR/train/CLASS and DIR/val/CLASS"
        ) from error
    empty = [shown(name) for name in classes if not found[name]]
    if empty or not classes:
        missing = f"no images in {', '.join(empty[:5])}" if empty else "no folders of classes"
        raise DataError(
            f"images were looked for in {shown(path)}/CLASS/*.jpg and are not there ({missing}); known are "
            f"{', '.join(SUFFIXES)}"
        )
    return _Listing(path, classes, [(file, label) for label, name in enumerate(classes) for file in found[name]])


def _is_class(path: Path) -> bool:
    """Whether an entry is a class's folder. What is hidden, and a list or a note beside the classes, is left alone."""
    if path.name.startswith("."):
        return False
    if not os.path.isdir(path) and (not path.suffix or path.suffix.lower() in SUFFIXES):
        raise DataError(
            f"{shown(path)} is a file where the folder of a class belongs; move images into DIR/train/CLASS and "
            "DIR/val/CLASS, and remove what is none"
        )
    return os.path.isdir(path)


def _images(folder: Path, above: tuple[str, ...]) -> Iterator[str]:
    """Paths of a folder's images, then of those of its folders, each by name; links are followed, not in circles.

    Whatever is named as an image is one: that it is a folder or a pipe is said when it is read.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise DataError(f"{shown(folder)} is a link to a folder that it lies in; remove it")
    names = sorted(os.listdir(folder))
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    yield from (str(folder / name) for name in images)
    for name in sorted(set(names) - set(images)):
        if os.path.isdir(folder / name):
            yield from _images(folder / name, (*above, real))
