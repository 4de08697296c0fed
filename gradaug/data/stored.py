"""CIFAR-10, CIFAR-100 and STL-10: small images that fit into memory, read from their published files by torchvision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets

from gradaug.data.augment import (
    CIFAR_MEAN,
    CIFAR_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Transform,
    crop_and_flip,
    normalised,
    repeatable,
)
from gradaug.data.images import Batch, DataSource, Images, Joined, Key, Subset, Unlabelled
from gradaug.data.splits import balanced
from gradaug.errors import DataError

URLS = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "stl10": "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
}


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
    return _cifar("cifar10", Cifar10, folder, shape, seed, labels, augment)


def cifar100(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """CIFAR-100: the same with 100 classes."""
    return _cifar("cifar100", Cifar100, folder, shape, seed, labels, augment)


def stl10(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """STL-10 (Coates et al. 2011): 5,000 images of 96x96 to train on, 8,000 to validate, 100,000 without labels."""
    train, test = (_read("stl10", Stl10, folder, "stl10_binary", split=split) for split in ("train", "test"))
    pixels = torch.from_numpy(train.data), torch.from_numpy(test.data)
    unlabelled = None
    if (Path(train.root) / "stl10_binary" / "unlabeled_X.bin").is_file():
        more = _read("stl10", Stl10, folder, "stl10_binary", split="unlabeled")
        unlabelled = torch.from_numpy(more.data)
    known = [*map(int, train.labels)], [*map(int, test.labels)]
    return assemble(
        "stl10", 10, pixels, known, shape, seed, labels, augment, 12, (IMAGENET_MEAN, IMAGENET_STD), unlabelled
    )


def assemble(
    name: str,
    classes: int,
    pixels: tuple[Tensor, Tensor],
    known: tuple[list[int], list[int]],
    shape: tuple[int, ...],
    seed: int,
    labels: int | None,
    augment: str,
    padding: int,
    normal: tuple[tuple[float, ...], tuple[float, ...]],
    unlabelled: Tensor | None = None,
) -> DataSource:
    """The readings of a data set from its pixels and labels (training, validation) and its unlabelled images."""
    side = pixels[0].shape[-1]
    if len(shape) != 3 or shape[0] != 3:
        raise DataError(f"{name} has images with 3 channels, but the network takes inputs of shape {shape}")
    if augment == "color":
        raise DataError(f"--augment color is for folders of photographs; {name} has standard and none")
    drawn = crop_and_flip(side, padding) if augment == "standard" else None
    train = Stored(pixels[0], known[0], shape, *normal, drawn, seed)
    plain: Images = Stored(pixels[0], known[0], shape, *normal, None, seed)
    validation = Stored(pixels[1], known[1], shape, *normal, None, seed)
    used: Images = train
    extra: list[Images] = []
    if labels is not None:
        chosen, rest = balanced(known[0], classes, labels, seed)
        used, plain, extra = Subset(train, chosen), Subset(plain, chosen), [Subset(train, rest)]
    if unlabelled is not None:
        extra.append(Stored(unlabelled, [-1] * len(unlabelled), shape, *normal, drawn, seed))
    others = Unlabelled(extra[0] if len(extra) == 1 else Joined(extra)) if extra and len(extra[0]) else None
    return DataSource(name, classes, used, plain, validation, others, *normal)


def _cifar(
    name: str, reader: Any, folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str
) -> DataSource:
    train, test = (_read(name, reader, folder, reader.base_folder, train=part) for part in (True, False))
    pixels = tuple(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test))
    known = list(train.targets), list(test.targets)
    classes = 100 if name == "cifar100" else 10
    normal = CIFAR_MEAN, CIFAR_STD
    return assemble(name, classes, (pixels[0], pixels[1]), known, shape, seed, labels, augment, 4, normal)


def _read(name: str, reader: Callable[..., Any], folder: str, inside: str, **options: Any) -> Any:
    """torchvision's data set in `folder`, which may also be the unpacked archive's own folder."""
    if not folder:
        raise DataError(f"{name} needs the folder of its files: --data {name}:DIR")
    root = Path(folder).expanduser()
    if root.name == inside:
        root = root.parent
    try:
        return reader(root=str(root), download=False, **options)
    except RuntimeError as error:
        raise DataError(
            f"{name} was looked for in {root / inside} and is not there; download {URLS[name]}, unpack it in {root}, "
            f"and give --data {name}:{root}"
        ) from error
    except Exception as error:
        raise DataError(f"the files of {name} in {root / inside} are damaged ({error}); unpack them again") from error


class _Unchecked:
    """Files that are there are read. torchvision's checksums would refuse copies that somebody packed anew."""

    root: Any
    base_folder: str

    def _check_integrity(self) -> bool:
        names = [name for name, _ in (*self.train_list, *self.test_list) if "unlabeled" not in name]  # type: ignore[attr-defined]
        return all((Path(self.root) / self.base_folder / name).is_file() for name in names)

    def _load_meta(self) -> None:
        """The names of the classes are not needed."""


class Cifar10(_Unchecked, datasets.CIFAR10):
    """torchvision's reader without its checksums."""


class Cifar100(_Unchecked, datasets.CIFAR100):
    """torchvision's reader without its checksums."""


class Stl10(_Unchecked, datasets.STL10):
    """torchvision's reader without its checksums."""
