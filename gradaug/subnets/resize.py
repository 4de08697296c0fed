"""What a sub-network sees: the same augmented batch at another resolution.

As in the authors' code: bilinear, align_corners=True, no anti-aliasing, on the normalised images, so that every
sub-network of a step has the full network's own batch and its output is a fair target.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from netslim.errors import InputError


def resize(images: Tensor, side: int | None) -> Tensor:
    """Images (N, C, H, W) with their shorter side at `side` pixels and the aspect ratio kept; None: unchanged."""
    if side is None:
        return images
    if images.ndim != 4:
        raise InputError(
            f"random resolution needs images (N, C, H, W), not inputs of shape {tuple(images.shape)}; "
            "pass no resolutions, or a transform of your own"
        )
    if side == min(images.shape[-2:]):
        return images
    return F.interpolate(images, size=resized(images.shape[-2:], side), mode="bilinear", align_corners=True)


def resized(size: Sequence[int], side: int) -> tuple[int, int]:
    """Height and width with the shorter one at `side`."""
    height, width = size
    return round(height * side / min(size)), round(width * side / min(size))


def default_resolutions(side: int) -> tuple[int, ...]:
    """The full side, 7/8 and 3/4 of it: the paper's (32, 28, 24) on CIFAR, (224, 196, 168) at ImageNet size."""
    return tuple(dict.fromkeys((side, max(1, round(side * 7 / 8)), max(1, round(side * 3 / 4)))))
