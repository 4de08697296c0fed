"""ImageNet-style folders: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, decoded as they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gradaug.data.decode import SUFFIXES, decode
from gradaug.data.paths import reason, root, shown
from gradaug.data.photo_sets import image_shape, photo_source
from gradaug.data.source import DataSource
from gradaug.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

VALIDATION = ("val", "validation", "test")
LAYOUT = "folder:DIR with DIR/train and DIR/val"


class Files:
    """Image files with their labels."""

    def __init__(self, paths: Sequence[str], labels: Tensor) -> None:
        self.paths, self.labels = list(paths), labels

    def pixels(self, index: int, channels: int) -> Tensor:
        return decode(self.paths[index], channels=channels)


def folder(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """The classes are the names of the folders in DIR/train; DIR/val must have the same."""
    size = image_shape("folder", path, shape, LAYOUT)
    place = root(path)
    train = _listed(place / "train")
    validation = _listed(next((place / name for name in VALIDATION if os.path.isdir(place / name)), place / "val"))
    if train.classes != validation.classes:
        different = ", ".join(map(shown, sorted(set(train.classes) ^ set(validation.classes))[:5]))
        raise DataError(f"{shown(train.path)} and {shown(validation.path)} have different classes: {different}")
    parts = train.files(), validation.files()
    return photo_source(
        shown(place.name), "classification", len(train.classes), parts, size, seed, labels, augment, "folder"
    )


@dataclass(frozen=True)
class _Listing:
    """The classes of a folder in the order of their names, and its images with their classes' numbers."""

    path: Path
    classes: list[str]
    samples: list[tuple[str, int]]

    def files(self) -> Files:
        return Files([file for file, _ in self.samples], torch.tensor([label for _, label in self.samples]))


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
