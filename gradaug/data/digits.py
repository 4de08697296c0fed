"""scikit-learn's digits: 1,797 real images that need no download, and so the embedded default."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.data.augment import chosen
from gradaug.data.source import Batch, DataSource, Images, Key
from gradaug.data.splits import few_labels
from gradaug.errors import DataError
from netslim.extras import needed


class Digits(Images):
    """scikit-learn's hand-written digits (8x8, 10 classes), resized to the network's input, standardised.

    Augmentation: a random shift by up to an eighth of the side in each direction (CIFAR's padding of 4 at 32x32), the
    background moving in. No flip: a mirrored 2 is no digit.
    """

    def __init__(
        self, pixels: Tensor, labels: Tensor, shape: tuple[int, ...], mean: float, std: float, shift_seed: int | None
    ) -> None:
        self.pixels, self.labels, self.shape = pixels, labels, shape
        self.mean, self.std = mean, std
        self.shift_seed = shift_seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        channels, height, width = self.shape
        index = torch.tensor([index for _, index in keys])
        images = F.interpolate(self.pixels[index], size=(height, width), mode="bilinear", align_corners=False)
        if self.shift_seed is not None:
            images = shift(images, [self._offset(key) for key in keys])
        images = ((images - self.mean) / self.std).expand(-1, channels, -1, -1)
        return images.contiguous(), self.labels[index]

    def _offset(self, key: Key) -> tuple[int, int]:
        rng = random.Random(f"gradaug/shift/{self.shift_seed}/{key[0]}/{key[1]}")
        return tuple(rng.randint(-(side // 8), side // 8) for side in self.shape[1:])  # type: ignore[return-value]


def shift(images: Tensor, offsets: Sequence[tuple[int, int]]) -> Tensor:
    """Each image of (N, C, H, W) moved down and right by its offset in pixels, zeros moving in."""
    height, width = images.shape[-2:]
    pad_y = max(abs(down) for down, _ in offsets)
    pad_x = max(abs(right) for _, right in offsets)
    padded = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
    return torch.stack(
        [
            image[:, pad_y - down : pad_y - down + height, pad_x - right : pad_x - right + width]
            for image, (down, right) in zip(padded, offsets, strict=True)
        ]
    )


def digits(
    _: str, shape: tuple[int, ...], seed: int, count: int | None = None, augment: str = "standard"
) -> DataSource:
    """1,797 digits: 1,437 to train on and 360 to validate, a stratified split that is always the same."""
    with needed("scikit-learn", "the digits"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise DataError(f"digits are images with 1 or 3 channels, but the network takes inputs of shape {shape}")
    moving_seed = chosen(augment, {"standard": seed, "none": None}, "digits")
    bunch = load_digits()
    train, validation = train_test_split(range(len(bunch.target)), test_size=360, random_state=0, stratify=bunch.target)
    pixels = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    mean, std = float(pixels[train].mean()), float(pixels[train].std())
    normal = (mean,) * shape[0], (std,) * shape[0]

    def part(indices: list[int], shift_seed: int | None) -> Digits:
        return Digits(pixels[indices], labels[indices], shape, mean, std, shift_seed)

    whole = part(train, moving_seed), part(train, None)
    used, plain, rest = few_labels(*whole, labels[train].tolist(), 10, count, seed)
    return DataSource("digits", 10, used, plain, part(validation, None), rest, *normal)
