"""Fashion-MNIST, MNIST, KMNIST, EMNIST and others of their form: grey images in idx files, plain or gzipped.

    load("fashion-mnist", (1, 28, 28))                      # where Debian's package dataset-fashion-mnist puts it
    load("idx:~/emnist/emnist-letters", (1, 28, 28))        # one of several sets in a folder

torchvision reads the files.
"""

from __future__ import annotations

import gzip
import re
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.mnist import read_image_file, read_label_file
from torchvision.transforms import v2

from gradaug.data.augment import Transform, crop_and_flip
from gradaug.data.in_memory import assemble, checked
from gradaug.data.paths import opened, reason, root, shown
from gradaug.data.source import DataSource
from gradaug.errors import DataError

PACKAGED = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package puts it."""
HOW_TO_GET = (
    f"`apt install dataset-fashion-mnist` (Debian, Ubuntu) puts it into {PACKAGED}, where it is found by itself, or "
    "download the four files of https://github.com/zalandoresearch/fashion-mnist into DIR and give "
    "--data fashion-mnist:DIR"
)
GZIPPED = b"\x1f\x8b"
LARGEST = 2**30
"""Bytes of an unzipped file; EMNIST's largest has 548 million."""

Files = dict[tuple[str, str], Path]
"""By part, "train" or "test", and kind, "images" or "labels"."""


@dataclass(frozen=True)
class Known:
    """What files of a set may hold, and how its images are augmented."""

    name: str
    most_classes: int
    sides: tuple[int, int] | None
    """Height and width; None where any will do."""
    standard: Callable[[tuple[int, int]], Transform]
    """The augmentation of images of a height and width."""


FASHION = Known("fashion-mnist", 10, (28, 28), lambda sides: crop_and_flip(sides[0], 4))
ANY = Known("idx", 256, None, lambda sides: v2.RandomCrop(sides, padding=2))
"""Shifted alone, since characters are not to be mirrored."""

_NAME = re.compile(r"(?:(?P<set>.+)[-_.])?(?P<part>train|t10k|test)[-_](?P<kind>images|labels)[-.]idx[13]-ubyte(\.gz)?")
_WHOLE = {(part, kind) for part in ("train", "test") for kind in ("images", "labels")}


def fashion_mnist(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """Fashion-MNIST (Xiao et al. 2017): 60,000 grey images of 28x28 to train on, 10,000 to validate, 10 classes."""
    place = root(folder) if folder else PACKAGED
    sets = _sets(place) or _sets(place / "FashionMNIST" / "raw")
    if "" not in sets:
        raise DataError(f"fashion-mnist was looked for in {shown(place)} and is not there; {HOW_TO_GET}")
    return _source(FASHION, sets[""], shape, seed, labels, augment)


def idx(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """The set in a folder, or DIR/NAME for one of several; its classes are the labels of its training images."""
    if not folder:
        raise DataError("idx needs the folder of its files: --data idx:DIR")
    return _source(ANY, _one(root(folder)), shape, seed, labels, augment)


def _one(place: Path) -> Files:
    """The only set in a folder, or the one that the last part of the path names. DataError where there is none."""
    within, beside = _sets(place), _sets(place.parent)
    if len(within) == 1:
        return next(iter(within.values()))
    if not within and place.name in beside:
        return beside[place.name]
    if within:
        known = ", ".join(f"--data idx:{shown(place / name)}" for name in sorted(within))
        raise DataError(f"{shown(place)} holds {len(within)} sets; say which: {known}")
    raise DataError(
        f"{shown(place)} does not have the four idx files of a set, named as train-images-idx3-ubyte, "
        "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, with .gz or without"
    )


def _sets(place: Path) -> dict[str, Files]:
    """The whole sets in a folder by the beginning of their names; of a file with and without .gz the plain one."""
    found: dict[str, Files] = {}
    for path in sorted(_files(place), reverse=True):
        if name := _NAME.fullmatch(path.name):
            part = "train" if name["part"] == "train" else "test"
            found.setdefault(name["set"] or "", {})[part, name["kind"]] = path
    return {name: files for name, files in found.items() if files.keys() == _WHOLE}


def _files(place: Path) -> list[Path]:
    """What a folder holds, nothing where there is none; DataError for one that cannot be read."""
    try:
        return list(place.iterdir()) if place.is_dir() else []
    except OSError as error:
        raise DataError(f"{shown(place)} cannot be read: {reason(error)}") from error


def _source(
    known: Known, files: Files, shape: tuple[int, ...], seed: int, labels: int | None, augment: str
) -> DataSource:
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"{known.name} has images with 1 channel, but the network takes inputs of shape {shape}")
    train = checked(files["train", "images"], _images, known.sides)
    sides = int(train.shape[-2]), int(train.shape[-1])
    test = checked(files["test", "images"], _images, sides)
    raw = (
        checked(files["train", "labels"], _labels, len(train), known.most_classes),
        checked(files["test", "labels"], _labels, len(test), known.most_classes),
    )
    numbered, classes = _numbered(*raw, files["test", "labels"])
    mean, std = _moments(train)
    pixels = _in_channels(train, shape[0]), _in_channels(test, shape[0])
    normal = (mean,) * shape[0], (std,) * shape[0]
    return assemble(known.name, classes, pixels, numbered, shape, seed, labels, augment, known.standard(sides), normal)


def _in_channels(pixels: Tensor, channels: int) -> Tensor:
    """Grey images (N, H, W) as (N, C, H, W), which take no more memory."""
    return pixels.unsqueeze(1).expand(-1, channels, -1, -1)


def _numbered(train: list[int], test: list[int], path: Path) -> tuple[tuple[list[int], list[int]], int]:
    """Labels of both parts, numbered from 0 without a gap, and how many there are. EMNIST's letters begin with 1."""
    numbers = {label: number for number, label in enumerate(sorted(set(train)))}
    if unknown := sorted(set(test) - numbers.keys()):
        raise DataError(f"{shown(path)} has the label {unknown[0]}, which no training image has")
    return ([numbers[label] for label in train], [numbers[label] for label in test]), len(numbers)


def _moments(pixels: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of uint8 images as numbers in [0, 1]; 1 in place of a deviation of 0."""
    share = torch.bincount(pixels.flatten(), minlength=256).double() / pixels.numel()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = float(share @ values)
    return mean, float(share @ (values - mean) ** 2) ** 0.5 or 1.0


def _images(path: Path, sides: tuple[int, int] | None) -> Tensor:
    """uint8 (N, H, W), of these sides; ValueError for something else."""
    pixels = _read(path, read_image_file)
    if sides and tuple(pixels.shape[1:]) != sides:
        raise ValueError(f"it has images of {pixels.shape[1]}x{pixels.shape[2]}, not {sides[0]}x{sides[1]}")
    return pixels


def _labels(path: Path, count: int, most: int) -> list[int]:
    """`count` numbers below `most`; ValueError for something else."""
    found: list[int] = _read(path, read_label_file).tolist()
    if len(found) != count:
        raise ValueError(f"it has {len(found)} labels for {count} images")
    if wrong := [label for label in found if label >= most]:
        raise ValueError(f"it has the label {wrong[0]}, and labels are from 0 to {most - 1}")
    return found


def _read(path: Path, reader: Callable[[str], Tensor]) -> Tensor:
    """What torchvision reads from a file, unzipped where it is gzipped. ValueError where it cannot be read."""
    with opened(path) as file:
        start = file.read(2)
    try:
        if start != GZIPPED:
            return reader(str(path))
        with tempfile.TemporaryDirectory() as folder:
            return reader(_unzipped(path, Path(folder) / "idx"))
    except (AssertionError, LookupError, RuntimeError, TypeError, EOFError, zlib.error) as error:
        raise ValueError(f"it is no whole idx file of bytes ({type(error).__name__})") from error


def _unzipped(path: Path, to: Path) -> str:
    with gzip.open(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    to.write_bytes(content)
    return str(to)
