"""Cutout, Mixup and CutMix on a batch; each a function of a key, so that a resumed run repeats them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.transforms import v2

from gradaug.config.settings import MIXERS
from gradaug.seeding import drawn_from

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig

Key = tuple[int, ...]
Mixer = Callable[[Tensor, Tensor, Key], tuple[Tensor, Tensor]]
"""(images, labels, key) -> images, and labels or, where they were mixed, probabilities (N, classes)."""


def mixer(config: TrainConfig, classes: int) -> Mixer | None:
    """What ``config.regularizers`` does to a batch, or None. Of Mixup and CutMix a batch gets one, at random.

    Mixup: Zhang et al. 2018; CutMix: Yun et al. 2019; a share ``mix_probability`` of the batches is mixed.
    """
    chosen = [name for name in MIXERS if name in config.regularizers]
    mixes = [_MIXES[name](config, classes) for name in chosen if name not in _HOLES]
    holes = [_HOLES[name] for name in chosen if name not in _MIXES]
    if not chosen:
        return None

    def mix(images: Tensor, labels: Tensor, key: Key) -> tuple[Tensor, Tensor]:
        chance = random.Random(f"gradaug/mix/{key}")
        for hole in holes:
            images = hole(images, config.cutout_size, chance)
        if mixes and chance.random() < config.mix_probability:
            with drawn_from(images.device, chance.getrandbits(63)):
                images, labels = chance.choice(mixes)(images, labels)
        return images, labels

    return mix


def cutout(images: Tensor, size: float, chance: random.Random) -> Tensor:
    """A square of zeros (the mean) in each image, `size` of its side, centred anywhere (DeVries and Taylor 2017)."""
    height, width = images.shape[-2:]
    half = max(1, round(size * min(height, width))) / 2
    images = images.clone()
    for image in images:
        y, x = chance.uniform(0, height), chance.uniform(0, width)
        top, left = max(0, round(y - half)), max(0, round(x - half))
        image[..., top : max(0, round(y + half)), left : max(0, round(x + half))] = 0
    return images


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


_HOLES = {"cutout": cutout}
_MIXES: dict[str, Callable[[TrainConfig, int], Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]]] = {
    "mixup": lambda config, classes: v2.MixUp(alpha=config.mixup_alpha, num_classes=classes),
    "cutmix": lambda config, classes: v2.CutMix(alpha=config.cutmix_alpha, num_classes=classes),
}
IMPLEMENTED = {**_HOLES, **_MIXES}
"""What each name in config.MIXERS is: what it does to every batch, or to one batch in turn with the others."""
