"""Pascal VOC segmentation (Everingham et al. 2010): 20 kinds of objects and the background, 255 at their edges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradaug.data.masks import Files, Table, image_size, masked_source, not_there, paired
from gradaug.data.paths import opened, reason, root, shown
from gradaug.data.source import DataSource
from gradaug.errors import DataError

CLASSES = 21
LAYOUT = (
    "voc-masks:DIR with DIR/JPEGImages/NAME.jpg, DIR/SegmentationClass/NAME.png and the names in "
    "DIR/ImageSets/Segmentation/train.txt and val.txt (DIR is VOCdevkit/VOC2012)"
)
LONGEST = 2**26
"""Bytes of a list."""


def voc_masks(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """The images that ImageSets/Segmentation lists; numbers in the palette files are the classes."""
    size = image_size("voc-masks", path, shape, labels)
    place = root(path)
    parts = _files(place, "train"), _files(place, "val")
    return masked_source("voc-masks", CLASSES, parts, size, seed, augment)


def _files(place: Path, part: str) -> Sequence[Files]:
    table = Table({number: number for number in range(CLASSES)}, [255])
    file = place / "ImageSets" / "Segmentation" / f"{part}.txt"
    names = _names(file)
    images, masks = place / "JPEGImages", place / "SegmentationClass"
    return paired(file, LAYOUT, [Files(images / f"{name}.jpg", masks / f"{name}.png", table) for name in names])


def _names(file: Path) -> list[str]:
    try:
        with opened(file) as opening:
            lines = opening.read(LONGEST).decode("utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise not_there(file, LAYOUT, reason(error)) from error
    names = [line.strip() for line in lines if line.strip()]
    wrong = next((name for name in names if Path(name).name != name or len(name.split()) > 1), None)
    if wrong is not None:
        raise DataError(f"{shown(file)} lists {shown(wrong)!r}, which is no name of an image, such as 2007_000032")
    return names
