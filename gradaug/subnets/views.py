"""Further transforms of a sub-network's images ("random rotation, random scale, random crop, etc.", the paper says).

    view = views(config, source.mean, source.std)
    images, mix = view(images, (seed, step, part, number of the sub-network))

`mix` is None, or maps the full network's probabilities to those of images that a view has mixed. All transforms are
torchvision's, on normalised images (N, C, H, W), the same draw for the whole batch, fixed by the key.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.transforms import v2

from gradaug.regularizers.mixing import cutout, pasted
from gradaug.seeding import drawn_from

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
    steps = [IMPLEMENTED[name] for name in config.views]

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


def _crop(images: Tensor) -> Tensor:
    return v2.RandomResizedCrop(images.shape[-2:], scale=(SMALLEST_CROP, 1.0), antialias=True)(images)


def _randaugment(pixels: Tensor) -> Tensor:
    """RandAugment (Cubuk et al. 2020) image by image, on uint8."""
    augment = v2.RandAugment()
    whole = (pixels * 255).round().to(torch.uint8)
    return torch.stack([augment(image) for image in whole]).to(pixels) / 255


def _on_pixels(transform: Callable[[Tensor], Tensor], images: Tensor, scene: Scene) -> Tensor:
    """`transform` on the images' pixels in [0, 1]."""
    shape = (-1, *[1] * (images.ndim - 2))
    centre, scale = (images.new_tensor(values).view(shape) for values in (scene.mean, scene.std))
    return (transform((images * scale + centre).clamp(0, 1)) - centre) / scale


IMPLEMENTED: dict[str, Callable[[Tensor, Scene], tuple[Tensor, Mix | None]]] = {
    "rotation": lambda images, _: (v2.RandomRotation(ANGLE, v2.InterpolationMode.BILINEAR)(images), None),
    "crop": lambda images, _: (_crop(images), None),
    "color": lambda images, scene: (_on_pixels(v2.ColorJitter(0.4, 0.4, 0.4), images, scene), None),
    "randaugment": lambda images, scene: (_on_pixels(_randaugment, images, scene), None),
    "cutmix": lambda images, scene: pasted(images, scene.chance),
    "cutout": lambda images, scene: (cutout(images, scene.config.cutout_size, scene.chance), None),
}
"""What each name in config.VIEWS is: the images, and how the full network's probabilities are mixed for them."""
