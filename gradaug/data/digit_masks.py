"""Scenes of scikit-learn's digits with a mask each: real images for segmentation that need no download."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.data.augment import chosen
from gradaug.data.digits import shift
from gradaug.data.source import Batch, DataSource, Images, Key
from gradaug.errors import DataError
from netslim.extras import needed

BACKGROUND, VOID = 0, -100
"""Mask values besides a digit's own number plus one; void are the soft edges of a stroke, which count nowhere."""
INK, PAPER = 0.5, 0.15
"""Pixels in [0, 1]: a stroke from here up, background up to here."""
CELL = 8
"""Pixels of a digit's side; a scene has two by two."""


class Scenes(Images):
    """Scenes (1, 16, 16) and masks (16, 16), resized to the network's input together, standardised.

    Augmentation: both are moved by one random shift, up to an eighth of the side, the background moving in.
    """

    def __init__(
        self, pixels: Tensor, masks: Tensor, shape: tuple[int, ...], mean: float, std: float, shift_seed: int | None
    ) -> None:
        size = shape[1:]
        self.pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        self.masks = F.interpolate(masks.unsqueeze(1).float(), size=size, mode="nearest").squeeze(1).long()
        self.shape, self.mean, self.std, self.shift_seed = shape, mean, std, shift_seed

    def __len__(self) -> int:
        return len(self.masks)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = torch.tensor([index for _, index in keys])
        images, masks = self.pixels[index], self.masks[index]
        if self.shift_seed is not None:
            offsets = [self._offset(key) for key in keys]
            images = shift(images, offsets)
            masks = shift(masks.unsqueeze(1), offsets).squeeze(1)
        return ((images - self.mean) / self.std).expand(-1, self.shape[0], -1, -1).contiguous(), masks

    def _offset(self, key: Key) -> tuple[int, int]:
        rng = random.Random(f"gradaug/shift/{self.shift_seed}/{key[0]}/{key[1]}")
        height, width = (rng.randint(-(side // 8), side // 8) for side in self.shape[1:])
        return height, width


def scenes(pixels: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """As many scenes (N, 1, 16, 16) as there are digits (N, 1, 8, 8), and their masks (N, 16, 16).

    Digit n is the first of scene n, at a random one of the four places; the other three are drawn. A function of the
    seed.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(pixels)
    members = torch.randint(count, (count, 4), generator=generator)
    members[:, 0] = torch.arange(count)
    order = torch.rand(count, 4, generator=generator).argsort(1)
    members = members.gather(1, order)
    classes = (labels + 1).view(-1, 1, 1).expand(-1, CELL, CELL)
    masks = torch.where(pixels.squeeze(1) >= INK, classes, VOID)
    masks = torch.where(pixels.squeeze(1) <= PAPER, BACKGROUND, masks)
    return _tiled(pixels.squeeze(1)[members]).unsqueeze(1), _tiled(masks[members])


def _tiled(cells: Tensor) -> Tensor:
    """(N, 4, 8, 8) as (N, 16, 16)."""
    return cells.view(-1, 2, 2, CELL, CELL).transpose(2, 3).reshape(-1, 2 * CELL, 2 * CELL)


def digit_masks(
    _: str, shape: tuple[int, ...], seed: int, count: int | None = None, augment: str = "standard"
) -> DataSource:
    """1,437 scenes to train on and 360 to validate, always the same; 11 classes: background, then the digits."""
    with needed("scikit-learn", "the digits"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"digit-masks has images with 1 or 3 channels, but the network takes inputs of shape {shape}")
    if count is not None:
        raise DataError("digit-masks has a mask for every image, and no labels to choose from: leave out --labels")
    moving = chosen(augment, {"standard": seed, "none": None}, "digit-masks")
    bunch = load_digits()
    split = train_test_split(range(len(bunch.target)), test_size=360, random_state=0, stratify=bunch.target)
    pixels = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    train, validation = (scenes(pixels[part], labels[part], number) for number, part in enumerate(split))
    mean, std = float(train[0].mean()), float(train[0].std())
    normal = (mean,) * shape[0], (std,) * shape[0]
    return DataSource(
        "digit-masks",
        11,
        Scenes(*train, shape, mean, std, moving),
        Scenes(*train, shape, mean, std, None),
        Scenes(*validation, shape, mean, std, None),
        None,
        *normal,
        task="segmentation",
    )
