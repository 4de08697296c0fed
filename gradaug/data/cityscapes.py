"""Cityscapes (Cordts et al. 2016): streets from a car, 19 of the 34 classes of the fine annotation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradaug.data.masks import Files, Table, image_size, listed, masked_source, paired
from gradaug.data.paths import root
from gradaug.data.source import DataSource

EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""Label ids of the classes that are trained and evaluated, in the order of their train ids: road, sidewalk, building,
wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, person, rider, car, truck, bus, train,
motorcycle, bicycle (cityscapesscripts/helpers/labels.py)."""
IGNORED = (*(number for number in range(34) if number not in EVALUATED), 255)
IMAGE, IDS, TRAIN_IDS = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
LAYOUT = (
    f"cityscapes:DIR with DIR/leftImg8bit/train/CITY/NAME{IMAGE}, DIR/gtFine/train/CITY/NAME{IDS} or "
    f"NAME{TRAIN_IDS}, and the same in val"
)


def cityscapes(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """All cities of train and val; label ids become train ids, and files of train ids are taken where they are."""
    size = image_size("cityscapes", path, shape, labels)
    parts = _files(root(path), "train"), _files(root(path), "val")
    return masked_source("cityscapes", len(EVALUATED), parts, size, seed, augment)


def _files(place: Path, part: str) -> Sequence[Files]:
    images = place / "leftImg8bit" / part
    cities = [images / name for name in listed(images, LAYOUT) if (images / name).is_dir()]
    found = [city / name for city in cities for name in listed(city, LAYOUT) if name.endswith(IMAGE)]
    by_id = Table({number: label for label, number in enumerate(EVALUATED)}, IGNORED)
    by_train_id = Table({label: label for label in range(len(EVALUATED))}, [255])
    files = []
    for image in found:
        folder, stem = place / "gtFine" / part / image.parent.name, image.name.removesuffix(IMAGE)
        own = (folder / f"{stem}{TRAIN_IDS}").is_file()
        files.append(Files(image, folder / f"{stem}{TRAIN_IDS if own else IDS}", by_train_id if own else by_id))
    return paired(images, LAYOUT, files)
