"""Images with a mask file each, as segmentation learns them: read, checked against each other, augmented together.

A layout (:mod:`gradaug.data.voc_masks` and its neighbours) lists the files and says which class a number is; the rest
is here, the same for all. The network's input size is the scale: a whole image fits into it. For training the image has
0.5 to 2 times that size, is padded where it is small, cropped at random and mirrored half of the time, as in DeepLab
and torchvision's reference; for validation it is the whole image, padded below and on the right. Padding is black and
has no label.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from gradaug.data.augment import chosen, normalised, repeatable
from gradaug.data.decode import decode, decode_mask
from gradaug.data.paths import reason, shown
from gradaug.data.photo_sets import normal
from gradaug.data.source import DataSource, Images, Key
from gradaug.errors import DataError

UNLABELLED = -100
"""Mask value of a pixel without a label, as in torch's ``cross_entropy``."""
VOID = 255
"""The same while masks are bytes."""
FILL = {tv_tensors.Image: 0, tv_tensors.Mask: VOID}
"""Of padding."""
SCALES = 0.5, 2.0
LARGEST = 2**16
"""Numbers of a mask of 16 bits."""

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


class Table:
    """From the numbers in the files to classes; what is `void` has no label, and any other number is an error."""

    def __init__(self, classes: Mapping[int, int], void: Sequence[int]) -> None:
        known = {**dict.fromkeys(void, VOID), **classes}
        self.words = _spans(sorted(known))
        self.labels = torch.full((LARGEST,), -1, dtype=torch.int16)
        for number, label in known.items():
            self.labels[number] = label

    def __call__(self, mask: Tensor, path: Path) -> Tensor:
        """uint8 (H, W): classes, and 255 where there is no label; DataError for numbers that are not in the table."""
        labels = self.labels[mask]
        wrong = mask[labels < 0]
        if wrong.numel():
            raise DataError(
                f"the mask {shown(path)} has the number {int(wrong[0])}, which is no class of this data set: known are "
                f"{self.words}"
            )
        return labels.to(torch.uint8)


def _spans(numbers: Sequence[int]) -> str:
    """0, 1, 2, 255 as "0 to 2, 255"."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in zip(starts, ends, strict=True))


@dataclass(frozen=True)
class Files:
    """One image, its mask, and what the numbers in this mean."""

    image: Path
    mask: Path
    table: Table


class Masked(Images):
    """Images (N, C, H, W), in colour or grey, and masks (N, H, W) of class numbers, -100 where there is no label."""

    together: int = 16
    """Images of a batch in evaluation: they are large, and so is an answer for each of their pixels."""

    def __init__(self, files: Sequence[Files], transform: nn.Module, channels: int, seed: int) -> None:
        self.files, self.transform, self.channels, self.seed = list(files), transform, channels, seed

    def __len__(self) -> int:
        return len(self.files)

    def __getitems__(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor]:
        pairs = [self._pair(epoch, index) for epoch, index in keys]
        images = normalised(torch.stack([image for image, _ in pairs]), *normal(self.channels))
        masks = torch.stack([mask for _, mask in pairs]).long()
        return images, masks.masked_fill_(masks == VOID, UNLABELLED)

    def _pair(self, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        files = self.files[index]
        image, mask = decode(files.image, channels=self.channels), decode_mask(files.mask)
        if image.shape[1:] != mask.shape:
            raise DataError(
                f"the image {shown(files.image)} has {_sides(image)} pixels and its mask {shown(files.mask)} "
                f"{_sides(mask)}: they belong to different pictures, or one was resized"
            )
        labels = tv_tensors.Mask(files.table(mask, files.mask))
        moved = repeatable(lambda each: self.transform(tv_tensors.Image(each), labels), image, self.seed, epoch, index)
        return moved[0].as_subclass(Tensor), moved[1].as_subclass(Tensor)


def _sides(image: Tensor) -> str:
    return " x ".join(map(str, image.shape[-2:]))


class Scaled(nn.Module):
    """Resizes an image and its mask to so many times the size at which the whole image fits, drawn from `scales`."""

    def __init__(self, size: tuple[int, int], scales: tuple[float, float]) -> None:
        super().__init__()
        self.size, self.scales = size, scales

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        low, high = self.scales
        drawn = low + (high - low) * float(torch.rand(()))
        factor = drawn * min(wanted / side for wanted, side in zip(self.size, image.shape[-2:], strict=True))
        sides = [max(1, round(side * factor)) for side in image.shape[-2:]]
        return functional.resize(image, sides, antialias=True), _resized(mask, sides)


def _resized(mask: tv_tensors.Mask, sides: list[int]) -> tv_tensors.Mask:
    """Of each pixel the number at its middle. torchvision's own resizing of masks takes a corner, beside the image."""
    numbers = functional.resize(mask.as_subclass(Tensor)[None], sides, InterpolationMode.NEAREST_EXACT, antialias=False)
    return tv_tensors.Mask(numbers[0])


class Filled(nn.Module):
    """Pads an image that fits, and its mask, to `size`, below and on the right."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, image: tv_tensors.Image, mask: tv_tensors.Mask) -> Pair:
        height, width = (wanted - side for wanted, side in zip(self.size, image.shape[-2:], strict=True))
        padding = [0, 0, width, height]
        return functional.pad(image, padding), functional.pad(mask, padding, fill=VOID)


def masked_source(
    name: str,
    classes: int,
    parts: tuple[Sequence[Files], Sequence[Files]],
    shape: tuple[int, int, int],
    seed: int,
    augment: str,
) -> DataSource:
    """The data set of files to train on and files to validate; `shape` is that of the network's images."""
    channels, size = shape[0], shape[1:]
    still = v2.Compose([Scaled(size, (1.0, 1.0)), Filled(size)])
    moving = v2.Compose(
        [
            Scaled(size, SCALES),
            v2.RandomCrop(size, pad_if_needed=True, fill=FILL),
            v2.RandomHorizontalFlip(),
        ]
    )
    transform = chosen(augment, {"standard": moving, "none": still}, name)
    train, validation = parts
    return DataSource(
        name,
        classes,
        Masked(train, transform, channels, seed),
        Masked(train, still, channels, seed),
        Masked(validation, still, channels, seed),
        None,
        *normal(channels),
        task="segmentation",
    )


# ------------------------------------------------------------------------------------------ what layouts share


def image_size(name: str, path: str, shape: tuple[int, ...], labels: int | None) -> tuple[int, int, int]:
    """Channels, height and width of the network's images; DataError for others, and for what masks cannot do."""
    if not path:
        raise DataError(f"{name} needs the folder of the images: --data {name}:DIR")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"{name} has images in colour or grey, but the network takes inputs of shape {shape}")
    if labels is not None:
        raise DataError(f"{name} has a mask for every image, and no labels to choose from: leave out --labels")
    return shape[0], shape[1], shape[2]


def listed(path: Path, layout: str) -> list[str]:
    """Names in a folder, in order, without hidden ones; DataError that says the `layout` where it cannot be listed."""
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
    except (OSError, ValueError) as error:
        raise not_there(path, layout, reason(error)) from error


def not_there(path: Path, layout: str, why: str) -> DataError:
    return DataError(
        f"images and masks were looked for in {shown(path)} and are not there ({why}); give --data {layout}"
    )


def paired(path: Path, layout: str, files: Sequence[Files]) -> Sequence[Files]:
    """`files`, of which there is one at least and whose images and masks are there; else a DataError that names one."""
    if not files:
        raise not_there(path, layout, "it names none")
    for each in files:
        for there, missing, kind in ((each.image, each.mask, "mask"), (each.mask, each.image, "image")):
            if not os.path.isfile(missing):
                raise DataError(
                    f"{shown(there)} has no {kind}: there is no {shown(missing)}; add it, or remove the first"
                )
    return files
