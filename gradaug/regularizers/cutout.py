"""Cutout (DeVries and Taylor 2017): a hole in every image."""

from __future__ import annotations

import random

from torch import Tensor

from gradaug.regularizers.hooks import Regularizer


class Cutout(Regularizer):
    """Of every image, labels as they are."""

    def on_batch(self, images: Tensor, labels: Tensor, chance: random.Random) -> tuple[Tensor, Tensor]:
        return cutout(images, self.settings.cutout_size, chance), labels


def cutout(images: Tensor, size: float, chance: random.Random) -> Tensor:
    """A square of zeros (the mean) in each image, `size` of its side, centred anywhere."""
    height, width = images.shape[-2:]
    half = max(1, round(size * min(height, width))) / 2
    images = images.clone()
    for image in images:
        y, x = chance.uniform(0, height), chance.uniform(0, width)
        top, left = max(0, round(y - half)), max(0, round(x - half))
        image[..., top : max(0, round(y + half)), left : max(0, round(x + half))] = 0
    return images
