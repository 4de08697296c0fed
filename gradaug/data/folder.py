"""ImageNet-style folders: DIR/train/CLASS/*.jpg and DIR/val/CLASS/*.jpg, decoded as they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor

from gradaug.data.augment import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Transform,
    centre_crop,
    normalised,
    repeatable,
    resized_crop,
)
from gradaug.data.images import Batch, DataSource, Images, Key, Subset, Unlabelled
from gradaug.data.splits import balanced
from gradaug.errors import DataError
from netslim.extras import needed

VALIDATION = ("val", "validation", "test")


class Files(Images):
    """Image files with their labels. Random transforms are drawn anew for every key."""

    def __init__(self, samples: Sequence[tuple[str, int]], transform: Transform, seed: int) -> None:
        self.samples, self.transform, self.seed = list(samples), transform, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        images = [
            repeatable(self.transform, read(self.samples[index][0]), self.seed, *(epoch, index))
            for epoch, index in keys
        ]
        labels = torch.tensor([self.samples[index][1] for _, index in keys])
        return normalised(torch.stack(images), IMAGENET_MEAN, IMAGENET_STD), labels


def read(path: str) -> Tensor:
    """An image file as uint8 (3, H, W); DataError names one that cannot be read."""
    with needed("pillow", "image files"):
        from PIL import Image

    try:
        with Image.open(path) as image:
            return pil_to_tensor(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} cannot be read as an image ({reason}); repair or remove it") from error


def folder(path: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """The classes are the names of the folders in DIR/train; DIR/val must have the same."""
    if not path:
        raise DataError("folder needs the folder of the images: --data folder:DIR with DIR/train and DIR/val")
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise DataError(f"folders hold colour images, cropped square, but the network takes inputs of shape {shape}")
    root = Path(path).expanduser()
    train = _listed(root / "train")
    validation = _listed(next((root / name for name in VALIDATION if (root / name).is_dir()), root / "val"))
    if train.classes != validation.classes:
        different = sorted(set(train.classes) ^ set(validation.classes))
        raise DataError(f"{train.root} and {validation.root} have different classes: {', '.join(different[:5])}")
    side = shape[1]
    still = centre_crop(side)
    moving = still if augment == "none" else resized_crop(side, augment == "color")
    used: Images = Files(train.samples, moving, seed)
    plain: Images = Files(train.samples, still, seed)
    rest: Images | None = None
    if labels is not None:
        chosen, others = balanced(train.targets, len(train.classes), labels, seed)
        rest = Unlabelled(Subset(used, others)) if others else None
        used, plain = Subset(used, chosen), Subset(plain, chosen)
    seen = Files(validation.samples, still, seed)
    return DataSource(root.name, len(train.classes), used, plain, seen, rest, IMAGENET_MEAN, IMAGENET_STD)


def _listed(path: Path) -> datasets.ImageFolder:
    try:
        return datasets.ImageFolder(str(path))
    except FileNotFoundError as error:
        raise DataError(
            f"images were looked for in {path}/CLASS/*.jpg and are not there ({error}); give --data folder:DIR with "
            "DIR/train/CLASS and DIR/val/CLASS"
        ) from error
