"""ADE20K as of the scene parsing benchmark (Zhou et al. 2017): 150 classes, whose numbers begin at 1; 0 is none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradaug.data.decode import SUFFIXES
from gradaug.data.masks import Files, Table, image_size, listed, masked_source, paired
from gradaug.data.paths import root
from gradaug.data.source import DataSource

CLASSES = 150
LAYOUT = (
    "ade20k:DIR with DIR/images/training/NAME.jpg, DIR/annotations/training/NAME.png and the same in validation "
    "(DIR is ADEChallengeData2016)"
)


def ade20k(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """All images of both folders; class 0 is the number 1 in the files."""
    size = image_size("ade20k", path, shape, labels)
    parts = _files(root(path), "training"), _files(root(path), "validation")
    return masked_source("ade20k", CLASSES, parts, size, seed, augment)


def _files(place: Path, part: str) -> Sequence[Files]:
    table = Table({number + 1: number for number in range(CLASSES)}, [0])
    images, masks = place / "images" / part, place / "annotations" / part
    names = [name for name in listed(images, LAYOUT) if name.lower().endswith(SUFFIXES)]
    return paired(images, LAYOUT, [Files(images / name, masks / f"{Path(name).stem}.png", table) for name in names])
