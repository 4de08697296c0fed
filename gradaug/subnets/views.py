"""Further transforms of a sub-network's images ("random rotation, random scale, random crop, etc.", the paper says).

    view = views(config, source.mean, source.std)
    images, mix = view(images, (seed, step, part, number of the sub-network))

`mix` is None, or maps the full network's probabilities to those of images that a view has mixed. All transforms are
torchvision's, on normalised images (N, C, H, W), the same draw for the whole batch, fixed by the key. A new one is a
function here and a row in gradaug/config/registry.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.transforms import v2

from gradaug.config.registry import VIEWS
from gradaug.regularizers.cutout import cutout as holes
from gradaug.regularizers.mixing import pasted
from gradaug.scopes import drawn_from

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig

Mix = Callable[[Tensor], Tensor]
"""Probabilities (N, classes) of the images as they were -> of the images as a view mixed them, the same shape."""
View = Callable[[Tensor, tuple[int, ...]], tuple[Tensor, "Mix | None"]]

ANGLE = 30
"""Largest rotation, in degrees."""
SMALLEST_CROP = 0.64
"""Area of the smallest crop, as a share."""


def views(config: TrainConfig, mean: Sequence[float], std: Sequence[float]) -> View | None:
    """The transforms that ``config.views`` names, in that order; None when there are none."""
    if not config.views:
        return None
    steps = [VIEWS[name].load() for name in config.views]

    def view(images: Tensor, key: tuple[int, ...]) -> tuple[Tensor, Mix | None]:
        scene, mix = Scene(random.Random(f"gradaug/view/{key}"), config, mean, std), None
        with drawn_from(images.device, scene.chance.getrandbits(63)):
            for step in steps:
                images, mixed = step(images, scene)
                mix = mixed or mix
        return images, mix

    return view


@dataclass(frozen=True)
class Scene:
    """What the transforms of one view share."""

    chance: random.Random
    config: TrainConfig
    mean: Sequence[float]
    std: Sequence[float]


Seen = tuple[Tensor, "Mix | None"]
"""The images, and how the full network's probabilities are mixed for them."""


def rotation(images: Tensor, _: Scene) -> Seen:
    return v2.RandomRotation(ANGLE, v2.InterpolationMode.BILINEAR)(images), None


def crop(images: Tensor, _: Scene) -> Seen:
    return v2.RandomResizedCrop(images.shape[-2:], scale=(SMALLEST_CROP, 1.0), antialias=True)(images), None


def color(images: Tensor, scene: Scene) -> Seen:
    return _on_pixels(v2.ColorJitter(0.4, 0.4, 0.4), images, scene), None


def randaugment(images: Tensor, scene: Scene) -> Seen:
    """RandAugment (Cubuk et al. 2020) image by image, on uint8."""
    augment = v2.RandAugment()

    def augmented(pixels: Tensor) -> Tensor:
        whole = (pixels * 255).round().to(torch.uint8)
        return torch.stack([augment(image) for image in whole]).to(pixels) / 255

    return _on_pixels(augmented, images, scene), None


def cutmix(images: Tensor, scene: Scene) -> Seen:
    return pasted(images, scene.chance)


def cutout(images: Tensor, scene: Scene) -> Seen:
    return holes(images, scene.config.cutout_size, scene.chance), None


def _on_pixels(transform: Callable[[Tensor], Tensor], images: Tensor, scene: Scene) -> Tensor:
    """`transform` on the images' pixels in [0, 1]."""
    shape = (-1, *[1] * (images.ndim - 2))
    centre, scale = (images.new_tensor(values).view(shape) for values in (scene.mean, scene.std))
    return (transform((images * scale + centre).clamp(0, 1)) - centre) / scale
