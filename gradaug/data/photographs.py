"""Files of photographs with boxes: what the layouts of COCO, Pascal VOC and YOLO have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torchvision.transforms import v2

from gradaug.data.augment import chosen
from gradaug.data.boxed import Boxed, Flipped, Moved, Rescaled
from gradaug.data.coco_form import Annotations, alike
from gradaug.data.decode import decode
from gradaug.data.paths import root, shown
from gradaug.data.source import DataSource
from gradaug.errors import DataError


@dataclass(frozen=True)
class Files:
    """Image files by their place, decoded as they are needed, upright."""

    folder: Path
    names: Sequence[str]

    def __call__(self, index: int) -> Tensor:
        return decode(self.folder / self.names[index], upright=True)


@dataclass(frozen=True)
class Part:
    """Training or validation: annotations and the folder that their names are below."""

    annotations: Annotations
    folder: Path

    def images(self, augment: Moved | None, seed: int, ignored: bool = False) -> Boxed:
        names = [picture.file_name for picture in self.annotations.pictures]
        return Boxed(self.annotations, Files(self.folder, names), augment, seed, ignored)


def place(name: str, folder: str, shape: tuple[int, ...], labels: int | None) -> Path:
    """The folder of a data set; DataError for a network or settings that photographs with boxes do not fit."""
    if not folder:
        raise DataError(f"{name} needs the folder of its files: --data {name}:DIR")
    if len(shape) != 3 or shape[0] != 3:
        raise DataError(f"{name} has photographs with 3 channels, but the network takes inputs of shape {shape}")
    if labels is not None:
        raise DataError(f"{name} has boxes for every image, and no labels to choose from: leave out --labels")
    found = root(folder)
    if not found.is_dir():
        raise DataError(f"{name} was looked for in {shown(found)}, which is no folder; give --data {name}:DIR")
    return found


def photographs(name: str, train: Part, validation: Part, seed: int, augment: str) -> DataSource:
    """The readings of a data set.

    Augmentation: mirrored half of the time; with "scale" also at a random scale between a half and two, at a random
    place. A detector that resizes its images to one size undoes no such scale, as what is in them changes.
    """
    table = {"standard": Flipped(), "scale": v2.Compose([Flipped(), Rescaled(0.5, 2)]), "none": None}
    moving = chosen(augment, table, name)
    first, second = alike(train.annotations, validation.annotations)
    train, validation = Part(first, train.folder), Part(second, validation.folder)
    return DataSource(
        name,
        len(first.names),
        train.images(moving, seed),
        train.images(None, seed),
        validation.images(None, seed, ignored=True),
        task="detection",
        categories=first.names,
        remarks=first.remarks + second.remarks,
    )
