"""A batch of a detector: images of different sizes in a list, and what is in each of them.

Images are (C, H, W), pixels in [0, 1]. A target is a dict: ``boxes`` (n, 4), left, top, right, bottom in pixels;
``labels`` (n,) int64 from 1, 0 being the background; ``masks`` (n, H, W) and ``keypoints`` (n, K, 3) where there are
some. Every function raises InputError, in one sentence, for what is something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from gradaug.subnets.resize import resized as sides
from netslim.errors import InputError

Images = list[Tensor]
BoxTarget = dict[str, Tensor]
Targets = list[BoxTarget]


def require_images(images: object) -> Images:
    """The images as a list."""
    if not isinstance(images, (list, tuple)) or not images:
        shown = f"a tensor of shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"{type(images).__name__}"
        raise InputError(
            f"images of a detector are a list of tensors (C, H, W), one or more, and not {shown}: a batch "
            "(N, C, H, W) is list(batch)"
        )
    for number, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3 or not image.is_floating_point():
            shown = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise InputError(
                f"image {number} is {shown}: images are floating-point tensors (C, H, W) with pixels in [0, 1]"
            )
    return list(images)


def require_targets(images: Images, targets: object, classes: int | None = None, needed: Sequence[str] = ()) -> None:
    """InputError unless these are the targets of the images.

    `classes`: how many classes the network tells apart, the background among them, if that is known; `needed`: what its
    losses need besides boxes and labels.
    """
    if not isinstance(targets, (list, tuple)) or len(targets) != len(images):
        shown = f"{len(targets)} of them" if isinstance(targets, (list, tuple)) else f"{type(targets).__name__}"
        raise InputError(
            f"a detector learns from a list of targets, a dict with boxes and labels for each of the {len(images)} "
            f"images, and this is {shown}"
        )
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        _require_target(f"target {number}", image, target, classes, needed)


def _require_target(name: str, image: Tensor, target: object, classes: int | None, needed: Sequence[str]) -> None:
    wanted = ("boxes", "labels", *needed)
    if not isinstance(target, Mapping) or not all(isinstance(target.get(key), Tensor) for key in wanted):
        has = f"has {', '.join(map(str, target)) or 'nothing'}" if isinstance(target, Mapping) else "is no dict"
        raise InputError(f"{name} {has}: this network learns from a dict with the tensors {', '.join(wanted)}")
    boxes, labels = target["boxes"], target["labels"]
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise InputError(
            f"{name} has boxes {boxes.dtype} {tuple(boxes.shape)}: they are floating-point numbers (n, 4), left, top, "
            "right, bottom in pixels, and (0, 4) for an image without objects"
        )
    if labels.dtype != torch.int64 or labels.shape != boxes.shape[:1]:
        raise InputError(
            f"{name} has labels {labels.dtype} {tuple(labels.shape)} for {len(boxes)} boxes: they are int64, one a box"
        )
    _require_numbers(name, boxes, labels, classes)
    masks = target.get("masks")
    if isinstance(masks, Tensor) and masks.shape != (len(boxes), *image.shape[-2:]):
        raise InputError(
            f"{name} has masks {tuple(masks.shape)} for {len(boxes)} boxes in an image of {tuple(image.shape[-2:])}: "
            "they are (n, H, W)"
        )


def _require_numbers(name: str, boxes: Tensor, labels: Tensor, classes: int | None) -> None:
    wrong = ~(torch.isfinite(boxes).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1))
    if wrong.any():
        raise InputError(
            f"{name} has a box {boxes[wrong][0].tolist()}: boxes are (left, top, right, bottom), right beyond left and "
            "bottom beyond top"
        )
    high = torch.iinfo(torch.int64).max if classes is None else classes
    outside = (labels < 1) | (labels >= high)
    if outside.any():
        most = "upwards" if classes is None else f"to {classes - 1}, since this network tells {classes} classes apart"
        raise InputError(
            f"{name} has the label {int(labels[outside][0])}: labels go from 1 (0 is the background) {most}"
        )


def resized(images: Images, targets: Targets | None, side: int | None) -> tuple[Images, Targets | None]:
    """Every image with its shorter side at `side` pixels, and what is in it at the same scale."""
    if side is None:
        return images, targets
    sizes = [list(sides(image.shape[-2:], side)) for image in images]
    made = [v2.functional.resize(tv_tensors.Image(image), size) for image, size in zip(images, sizes, strict=True)]
    plain = [image.as_subclass(Tensor) for image in made]
    if targets is None:
        return plain, None
    return plain, [_at_size(t, i.shape[-2:], size) for t, i, size in zip(targets, images, sizes, strict=True)]


def _at_size(target: BoxTarget, old: Sequence[int], new: Sequence[int]) -> BoxTarget:
    found = dict(target)
    boxes = tv_tensors.BoundingBoxes(target["boxes"], format="XYXY", canvas_size=(old[0], old[1]))
    found["boxes"] = v2.functional.resize(boxes, list(new)).as_subclass(Tensor)
    if "masks" in target:
        found["masks"] = v2.functional.resize(tv_tensors.Mask(target["masks"]), list(new)).as_subclass(Tensor)
    if "keypoints" in target:
        points = target["keypoints"]
        found["keypoints"] = points * points.new_tensor([new[1] / old[1], new[0] / old[0], 1.0])
    return found
