"""Images of any size in one square tensor, as Ultralytics sees them, and what is in them there and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netslim.errors import InputError

GREY = 114 / 255
MASK_RATIO = 4
"""Pixels of the image to one of a mask that is learnt."""


class Frame(NamedTuple):
    """Where an image is: its own height and width, those that it has in the square, and the corner that it is at."""

    height: int
    width: int
    inner_height: int
    inner_width: int
    left: int
    top: int

    def boxes_in(self, boxes: Tensor) -> Tensor:
        """Boxes (n, 4), left, top, right, bottom in the image, in the square."""
        return boxes * self._factors(boxes) + self._corner(boxes)

    def boxes_out(self, boxes: Tensor) -> Tensor:
        """Boxes (n, 4) in the square, in the image, which they end at."""
        found = (boxes - self._corner(boxes)) / self._factors(boxes)
        return found.minimum(boxes.new_tensor([self.width, self.height] * 2)).clamp(min=0)

    def masks_in(self, masks: Tensor, side: int) -> Tensor:
        """Masks (n, H, W) of the image in a square of `side`."""
        inner = F.interpolate(masks[:, None].float(), (self.inner_height, self.inner_width), mode="nearest")[:, 0]
        return self._placed(inner, side, 0.0)

    def masks_out(self, masks: Tensor) -> Tensor:
        """Masks (n, side, side) of the square as (n, H, W) of the image."""
        if not len(masks):
            return masks.new_zeros(0, self.height, self.width)
        inner = masks[:, self.top : self.top + self.inner_height, self.left : self.left + self.inner_width]
        return F.interpolate(inner[:, None], (self.height, self.width), mode="nearest")[:, 0]

    def image_in(self, image: Tensor, side: int) -> Tensor:
        """An image (C, H, W) in a grey square of `side`."""
        size = (self.inner_height, self.inner_width)
        inner = F.interpolate(image[None], size, mode="bilinear", align_corners=False)[0]
        return self._placed(inner, side, GREY)

    def _placed(self, inner: Tensor, side: int, around: float) -> Tensor:
        right, below = side - self.left - self.inner_width, side - self.top - self.inner_height
        return F.pad(inner, (self.left, right, self.top, below), value=around)

    def _factors(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.inner_width / self.width, self.inner_height / self.height] * 2)

    def _corner(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.left, self.top] * 2)


def frame(height: int, width: int, side: int) -> Frame:
    """The image as large as it can be in the square, in its middle."""
    gain = side / max(height, width)
    inner = max(1, round(height * gain)), max(1, round(width * gain))
    return Frame(height, width, *inner, (side - inner[1]) // 2, (side - inner[0]) // 2)


class Letterbox(nn.Module):
    """Gives images (C, H, W) of any sizes one square size, a multiple of `stride`.

    Its attributes are called as those of torchvision's GeneralizedRCNNTransform, and are changed as they are.
    """

    def __init__(self, side: int, stride: int) -> None:
        super().__init__()
        self.min_size, self.max_size, self.stride = (side,), side, stride

    @property
    def side(self) -> int:
        return math.ceil(self.min_size[0] / self.stride) * self.stride

    def forward(self, images: Sequence[Tensor]) -> tuple[Tensor, list[Frame]]:
        """The square images (N, C, side, side), and where in them each is."""
        frames = [frame(image.shape[-2], image.shape[-1], self.side) for image in images]
        return torch.stack([at.image_in(i, self.side) for i, at in zip(images, frames, strict=True)]), frames


def batch(images: Tensor, frames: Sequence[Frame], targets: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """What Ultralytics' losses are of: objects of all images in a row, boxes as shares of the square."""
    side = images.shape[-1]
    pairs = list(zip(frames, targets, strict=True))
    boxes = torch.cat([at.boxes_in(target["boxes"]) for at, target in pairs]) / side
    made = {
        "img": images,
        "batch_idx": torch.cat([torch.full_like(t["labels"], i) for i, t in enumerate(targets)]).to(images.dtype),
        "cls": torch.cat([target["labels"] for target in targets])[:, None].to(images.dtype) - 1,
        "bboxes": torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1),
    }
    if all("masks" in target for target in targets):
        masks = [_small(at.masks_in(target["masks"], side)) for at, target in pairs]
        made["masks"] = torch.cat(masks)
        made["sem_masks"] = torch.stack([_classes(m, t["labels"]) for m, t in zip(masks, targets, strict=True)])
    if all("keypoints" in target for target in targets):
        made["keypoints"] = torch.cat([_points(at, target["keypoints"], side) for at, target in pairs])
    return made


def _small(masks: Tensor) -> Tensor:
    return masks[:, MASK_RATIO // 2 :: MASK_RATIO, MASK_RATIO // 2 :: MASK_RATIO]


def _classes(masks: Tensor, labels: Tensor) -> Tensor:
    """The class at every pixel (H, W), from 0; of several objects the smallest one's."""
    made = masks.new_zeros(masks.shape[1:])
    for i in masks.sum((1, 2)).argsort(descending=True):
        made[masks[i] > 0] = (labels[i] - 1).to(made.dtype)
    return made


def _points(at: Frame, points: Tensor, side: int) -> Tensor:
    """Key points (n, K, 3) with their places as shares of the square."""
    places = at.boxes_in(points[..., [0, 1, 0, 1]])[..., :2] / side
    return torch.cat([places, points[..., 2:]], -1)


def require(targets: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """InputError unless every target has these."""
    for number, target in enumerate(targets):
        missing = [name for name in names if name not in target]
        if missing:
            raise InputError(f"target {number} has no {missing[0]}, which this model of Ultralytics learns from")
