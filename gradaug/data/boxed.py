"""Images with boxes, masks and keypoints, and augmentations that move all of them together.

Images come in [0, 1] and sizes of their own: torchvision's detectors standardise and resize them, boxes and all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from gradaug.data import versions
from gradaug.data.augment import repeatable
from gradaug.data.coco_form import Annotations
from gradaug.data.paths import shown
from gradaug.data.source import Batch, Images, Key, Target
from gradaug.errors import DataError

Sample = dict[str, Tensor]
"""An image as uint8 (C, H, W), and its target, in torchvision's kinds of tensors."""
Moved = Callable[[Sample], Sample]
Pixels = Callable[[int], Tensor]
"""An image as uint8 (C, H, W), by its place."""

GREY = 114
"""What moves in where a picture does not reach."""
TOGETHER = 16
"""Images of one size that are evaluated together: a detector needs more memory for one than a classifier."""
FLIPPED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO's 17 points of a person in the order of a mirrored one: left is right."""


class Boxed(Images):
    """Annotated images. Random transforms are drawn anew for every key; None leaves the images alone."""

    def __init__(
        self, annotations: Annotations, pixels: Pixels, augment: Moved | None, seed: int, ignored: bool = False
    ) -> None:
        self.annotations, self.pixels, self.augment = annotations, pixels, augment
        self.seed, self.ignored = seed, ignored
        sizes = [(picture.height, picture.width) for picture in annotations.pictures]
        alike = len(set(sizes)) == 1
        self.together = TOGETHER if alike else 1
        self.groups = None if alike else [aspect(*size) for size in sizes]

    def __len__(self) -> int:
        return len(self.annotations.pictures)

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        pairs = [self._one(*key) for key in keys]
        return [image for image, _ in pairs], [target for _, target in pairs]

    def _one(self, epoch: int, index: int) -> tuple[Tensor, Target]:
        image, picture = self.pixels(index), self.annotations.pictures[index]
        if image.shape[1:] != (picture.height, picture.width):
            raise DataError(
                f"{shown(picture.file_name)} has {image.shape[2]} x {image.shape[1]} pixels, and "
                f"{self.annotations.where} says {picture.width} x {picture.height}; repair one of them"
            )
        target = self.annotations.target(index, self.ignored)
        if self.augment is not None:
            sample = repeatable(self.augment, _sample(image, target), self.seed, epoch, index)
            image, target = _plain(sample)
        return image.float() / 255, target


def aspect(height: int, width: int) -> int:
    """The group of an image by its shape, in thirds of an octave from twice as high (-3) to twice as wide (3)."""
    return max(-3, min(3, round(3 * math.log2(width / height))))


def _sample(image: Tensor, target: Target) -> Sample:
    size = image.shape[-2], image.shape[-1]
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "boxes": lambda boxes: tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size),
        "masks": tv_tensors.Mask,
        "keypoints": lambda points: versions.keypoints(points[..., :2], size),
    }
    moved = {name: kinds[name](value) if name in kinds else value for name, value in target.items()}
    seen = {"seen": target["keypoints"][..., 2]} if "keypoints" in target else {}
    return {"image": tv_tensors.Image(image), **moved, **seen}


def _plain(sample: Sample) -> tuple[Tensor, Target]:
    """The image, and the objects that are still in it."""
    values = {name: value.as_subclass(Tensor) for name, value in sample.items()}
    image, seen = values.pop("image"), values.pop("seen", None)
    if seen is not None:
        values["keypoints"] = _points(values["keypoints"], seen, image)
    boxes = values["boxes"]
    left = (boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
    if "masks" in values:
        left &= values["masks"].bool().flatten(1).any(1)
    return image, {name: value[left] for name, value in values.items()}


def _points(points: Tensor, seen: Tensor, image: Tensor) -> Tensor:
    """Points with their visibility, 0 for those that have left the image."""
    size = torch.tensor([image.shape[-1], image.shape[-2]])
    inside = ((points >= 0) & (points < size)).all(-1)
    return torch.cat([points, (seen * inside).unsqueeze(-1)], -1)


class Flipped(nn.Module):
    """Mirrored half of the time. Keypoints only where they are COCO's of a person, as others know no left and right."""

    def forward(self, sample: Sample) -> Sample:
        points = sample.get("keypoints")
        if torch.rand(()) >= 0.5 or (points is not None and points.shape[1] != len(FLIPPED)):
            return sample
        sample = {
            name: functional.horizontal_flip(value) if name in MOVING else value for name, value in sample.items()
        }
        order = {"keypoints", "seen"} & sample.keys()
        return {**sample, **{name: sample[name][:, FLIPPED] for name in order}}


MOVING = ("image", "boxes", "masks", "keypoints")


class Rescaled(nn.Module):
    """Resized by a random factor, even on a logarithmic scale, and cropped or surrounded with grey to its own size."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = math.log(low), math.log(high)

    def forward(self, sample: Sample) -> Sample:
        height, width = sample["image"].shape[-2:]
        factor = math.exp(self.low + float(torch.rand(())) * (self.high - self.low))
        sides = max(1, round(height * factor)), max(1, round(width * factor))
        fill = {tv_tensors.Image: GREY, tv_tensors.Mask: 0}
        cut = v2.RandomCrop((height, width), pad_if_needed=True, fill=fill)
        moved: Sample = cut(v2.Resize(sides, antialias=True)(sample))
        return moved
