"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019): images of a batch mixed, and their labels alike.

Of the two a batch gets one, at random; a share ``mix_probability`` of the batches is mixed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import v2

from gradaug.regularizers.hooks import Regularizer


class Mixup(Regularizer):
    """Weighted means of two images each."""

    takes_turns = True

    def on_batch(self, images: Tensor, labels: Tensor, chance: random.Random) -> tuple[Tensor, Tensor]:
        return v2.MixUp(alpha=self.settings.mixup_alpha, num_classes=self.classes)(images, labels)


class CutMix(Regularizer):
    """Rectangles of other images pasted in."""

    takes_turns = True

    def on_batch(self, images: Tensor, labels: Tensor, chance: random.Random) -> tuple[Tensor, Tensor]:
        return v2.CutMix(alpha=self.settings.cutmix_alpha, num_classes=self.classes)(images, labels)


def pasted(images: Tensor, chance: random.Random) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """CutMix of a batch with its own reversal: the images, and the same mixture of their probabilities (N, classes)."""
    height, width = images.shape[-2:]
    side = (1 - chance.random()) ** 0.5
    y, x = chance.uniform(0, height), chance.uniform(0, width)
    rows = slice(max(0, round(y - side * height / 2)), min(height, round(y + side * height / 2)))
    columns = slice(max(0, round(x - side * width / 2)), min(width, round(x + side * width / 2)))
    other = torch.roll(images, 1, 0)
    mixed = images.clone()
    mixed[..., rows, columns] = other[..., rows, columns]
    share = (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return mixed, lambda p: (1 - share) * p + share * torch.roll(p, 1, 0)
