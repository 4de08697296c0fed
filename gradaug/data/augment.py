"""Augmentations by torchvision, each a function of (seed, epoch, index): the paper's, per kind of data set.

Image tensors are uint8 (C, H, W) until they are normalised.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from gradaug.errors import DataError
from gradaug.scopes import drawn_from

Transform = Callable[[Tensor], Tensor]
S = TypeVar("S")
T = TypeVar("T")

CIFAR_MEAN, CIFAR_STD = (125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)
"""Of the paper's code, for CIFAR-10 and CIFAR-100."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def chosen(name: str, table: Mapping[str, T], source: str) -> T:
    """What `table` has for ``--augment NAME``; DataError where the data set `source` has no such augmentation."""
    if name in table:
        return table[name]
    reason = {"color": "is for folders of photographs", "scale": "is for photographs with boxes"}.get(
        name, "is unknown"
    )
    raise DataError(f"--augment {name} {reason}; {source} has {' and '.join(table)}")


def crop_and_flip(side: int, padding: int) -> Transform:
    """A random crop of `side` pixels from the image padded by reflection, mirrored half of the time (paper: CIFAR)."""
    return v2.Compose([v2.RandomCrop(side, padding=padding, padding_mode="reflect"), v2.RandomHorizontalFlip()])


def resized_crop(side: int, color: bool, channels: int = 3) -> Transform:
    """A random part resized to `side` pixels, mirrored half of the time; `color` adds the paper's ImageNet jitter.

    Of it an image of one channel has brightness and contrast.
    """
    steps: list[nn.Module] = [v2.RandomResizedCrop(side, antialias=True), v2.RandomHorizontalFlip()]
    if color:
        steps += [v2.ColorJitter(0.4, 0.4, 0.4), Lighting(0.1)] if channels == 3 else [v2.ColorJitter(0.4, 0.4)]
    return v2.Compose(steps)


def centre_crop(side: int) -> Transform:
    """The shorter side resized to side * 256 / 224, then the middle (paper: ImageNet evaluation)."""
    return v2.Compose([v2.Resize(round(side * 256 / 224), antialias=True), v2.CenterCrop(side)])


class Lighting(nn.Module):
    """Adds a random multiple of ImageNet's principal colours to an image (Krizhevsky et al. 2012, section 4.1)."""

    VALUES = (0.2175, 0.0188, 0.0045)
    VECTORS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, image: Tensor) -> Tensor:
        alpha = torch.randn(3) * self.deviation
        shift = (torch.tensor(self.VECTORS) @ (alpha * torch.tensor(self.VALUES))).view(3, 1, 1)
        return (image.float() + 255 * shift).clamp(0, 255).round().to(torch.uint8)


def repeatable(transform: Callable[[S], T], image: S, *key: object) -> T:
    """`transform` with the random draws that `key` fixes; the global generator is left as it was.

    `image` is a tensor in main memory, or several that belong together.
    """
    seed = random.Random(f"gradaug/augment/{'/'.join(map(str, key))}").getrandbits(63)
    with drawn_from(torch.device("cpu"), seed):
        return transform(image)


def normalised(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """uint8 images (N, C, H, W) as float32, (pixel / 255 - mean) / std per channel."""
    scale = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)
    return (images.float() / 255 - scale[0]) / scale[1]
