"""Hugging Face data on disk: what ``DatasetDict.save_to_disk`` writes, or parquet files as they are downloaded.

    hf:DIR      DIR/dataset_dict.json, or train-*.parquet and validation-*.parquet in DIR or DIR/data

The package `datasets` opens both: Arrow files mapped into memory (parquet files are turned into some once, in its own
cache), so that an image at any place is read as fast as from a file of its own. Nothing is downloaded, no code of a
data set is run, and images are decoded here, as those of any other layout.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradaug.data.decode import decode, decode_bytes
from gradaug.data.paths import reason, root, shown
from gradaug.data.photo_sets import PARTS, image_shape, photo_source, sorted_out
from gradaug.data.source import DataSource
from gradaug.errors import DataError
from netslim.extras import needed

LAYOUT = "hf:DIR with what DatasetDict.save_to_disk wrote, or with train-*.parquet and validation-*.parquet"
USUAL = ("label", "labels", "fine_label", "cls", "class", "target")
"""Columns of class numbers where the features do not tell which they are."""


def hf(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """One column of images, one of class numbers; or of lists of them, which is for ``--task multilabel``."""
    size = image_shape("hf", path, shape, LAYOUT)
    place = root(path)
    with needed("datasets", "Hugging Face data sets"):
        import datasets
    with _silent(datasets):
        parts = _opened(datasets, place)
        image, label = _columns(datasets, parts["train"], place)
        classes, several = _classes(parts["train"].features[label])
        train, validation = (
            Rows(_plain(datasets, rows, image, place), _labels(rows, label, classes, several, place), place)
            for rows in (parts["train"], parts["val"])
        )
    count = classes or 1 + max(int(rows.labels.max()) for rows in (train, validation))
    task = "multilabel" if several else "classification"
    return photo_source(shown(place.name), task, count, (train, validation), size, seed, labels, augment, "hf")


class Rows:
    """The images of a data set that is mapped into memory."""

    def __init__(self, images: Any, labels: Tensor, place: Path) -> None:
        self.images, self.labels, self.place = images, labels, place

    def pixels(self, index: int, channels: int) -> Tensor:
        (found,) = self.images[index].values()
        if found is None:
            raise DataError(f"{self._called(index)} is empty; leave the row out")
        if found["bytes"] is None:
            return decode(self.place / found["path"], channels=channels)
        return decode_bytes(found["bytes"], self._called(index), channels)

    def _called(self, index: int) -> str:
        return f"{shown(self.place)}, image {index}{'' if self.images.split is None else f' of {self.images.split}'},"


@contextlib.contextmanager
def _silent(datasets: Any) -> Iterator[None]:
    """Without the library's bars, which would lie over ours."""
    shown_before = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown_before:
            datasets.enable_progress_bars()


def _opened(datasets: Any, place: Path) -> Mapping[str, Any]:
    """The data sets to train on and to validate on."""
    if os.path.exists(place / "dataset_dict.json"):
        return _parts(_tried(lambda: datasets.load_from_disk(str(place)), place), place)
    if os.path.exists(place / "state.json"):
        raise DataError(f"{shown(place)} has one part alone; save a DatasetDict with train and validation to disk")
    files = sorted(place.glob("*.parquet")) or sorted((place / "data").glob("*.parquet"))
    if not files:
        raise DataError(f"Hugging Face data was looked for in {shown(place)} and is not there; give --data {LAYOUT}")
    listed = {name: [str(file) for file in some] for name, some in sorted_out(files, LAYOUT).items() if some}
    return _tried(lambda: datasets.load_dataset("parquet", data_files=listed), place)


def _parts(found: Mapping[str, Any], place: Path) -> Mapping[str, Any]:
    parts = {PARTS[name]: found[name] for name in found if name in PARTS}
    validation = parts.get("val", parts.get("test"))
    if "train" not in parts or validation is None:
        raise DataError(
            f"{shown(place)} has the parts {', '.join(map(shown, found))}: one is to be called train, and one "
            "validation or test"
        )
    return {"train": parts["train"], "val": validation}


def _tried(load: Any, place: Path) -> Any:
    try:
        return load()
    except Exception as error:  # several libraries' own on a damaged file
        raise DataError(
            f"{shown(place)} cannot be read as Hugging Face data ({reason(error)}); save it again"
        ) from error


def _columns(datasets: Any, rows: Any, place: Path) -> tuple[str, str]:
    """The names of the columns of images and of labels."""
    features = rows.features
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image) or _holds_bytes(kind)]
    labels = [name for name, kind in features.items() if _classes(kind)[0]]
    labels = labels or [name for name in USUAL if getattr(features.get(name), "dtype", "").startswith(("int", "uint"))]
    for kind, found in (("images", images), ("class numbers", labels)):
        if len(found) != 1:
            raise DataError(
                f"{shown(place)} has {len(found)} columns of {kind} ({', '.join(map(shown, features))}), and one is "
                "needed: keep one with select_columns, give class numbers the feature ClassLabel, and save it again"
            )
    return images[0], labels[0]


def _holds_bytes(kind: object) -> bool:
    """Images in a parquet file that does not say that they are."""
    return isinstance(kind, dict) and set(kind) == {"bytes", "path"}


def _classes(kind: Any) -> tuple[int, bool]:
    """How many classes a column says that it has (0: it does not say), and whether a cell holds several of them."""
    inner = getattr(kind, "feature", None)
    return int(getattr(kind if inner is None else inner, "num_classes", None) or 0), inner is not None


def _plain(datasets: Any, rows: Any, image: str, place: Path) -> Any:
    """The images alone, as they are stored."""
    return _tried(lambda: rows.select_columns([image]).cast_column(image, datasets.Image(decode=False)), place)


def _labels(rows: Any, name: str, classes: int, several: bool, place: Path) -> Tensor:
    if name not in rows.features:
        raise DataError(
            f"{shown(place)} has no column {shown(name)} in one of its parts; save them with the same columns"
        )
    cells = _tried(lambda: rows.select_columns([name])[:][name], place)
    if not cells:
        raise DataError(f"{shown(place)} has a part without images; save it again")
    most = (classes or 2**31) - 1
    for index, cell in enumerate(cells):
        for number in cell or () if several else (cell,):
            if number is None or not 0 <= number <= most:
                raise DataError(
                    f"{shown(place)}, row {index}: {number} is no class number from 0 to {most}; rows without a label "
                    "belong to neither part"
                )
    return _hot(cells, classes) if several else torch.from_numpy(np.array(cells, dtype=np.int64))


def _hot(cells: Sequence[Sequence[int] | None], classes: int) -> Tensor:
    hot = torch.zeros(len(cells), classes)
    for row, cell in zip(hot, cells, strict=True):
        row[list(cell or ())] = 1
    return hot
