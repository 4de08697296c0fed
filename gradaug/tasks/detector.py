"""What is read off a detector: how it resizes its images, how many classes it tells apart, what its losses need.

By the attributes that torchvision's detectors have, so that any other network with the same ones is understood too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from gradaug.tasks.boxes import BoxTarget

if TYPE_CHECKING:
    from torch import Tensor, nn

    from netslim import SlimNet

_CLASSES = (
    "roi_heads.box_predictor.cls_score.out_features",
    "head.classification_head.num_classes",
    "head.classification_head.num_columns",
    "yolo.num_classes",
)
"""Where a network says how many classes it tells apart."""
_LEARNT = {"masks": "roi_heads.mask_predictor", "keypoints": "roi_heads.keypoint_predictor"}
"""What a network with such a part needs of a target."""


def classes(net: nn.Module) -> int | None:
    """How many classes a network tells apart, the background among them; None where it does not say."""
    found = (_at(net, path) for path in _CLASSES)
    return next((number for number in found if isinstance(number, int)), None)


def learnt(net: nn.Module) -> tuple[str, ...]:
    """What the losses need of a target besides boxes and labels."""
    found = tuple(name for name, path in _LEARNT.items() if _at(net, path) is not None)
    said: tuple[str, ...] = _at(net, "yolo.learnt") or ()
    return found + said


def invented(net: nn.Module, image: Tensor) -> BoxTarget:
    """A target with one object, to try a network on."""
    height, width = image.shape[-2:]
    box = image.new_tensor([[width / 4, height / 4, width / 2, height / 2]])
    target = {"boxes": box, "labels": torch.ones(1, dtype=torch.int64, device=image.device)}
    needed = learnt(net)
    if "masks" in needed:
        target["masks"] = torch.ones(1, height, width, dtype=torch.uint8, device=image.device)
    if "keypoints" in needed:
        points = _at(net, "roi_heads.keypoint_predictor.kps_score_lowres.out_channels")
        points = points or (_at(net, "yolo.kpt_shape") or (1,))[0]
        target["keypoints"] = torch.cat([box[:, :2], box.new_ones(1, 1)], 1).expand(1, points, 3).float()
    return target


def side(net: nn.Module) -> int | None:
    """The shorter side that a network gives its images; None where it takes them as they are."""
    transform = _transform(net)
    if transform is None:
        return None
    fixed = getattr(transform, "fixed_size", None)
    return int(min(fixed) if fixed else _sides(transform)[-1])


@contextlib.contextmanager
def resizing(net: SlimNet, to: int | None) -> Iterator[None]:
    """Inside, a network that resizes its images gives them this shorter side; the longest side that it allows and a
    fixed size change alike."""
    transform, full = _transform(net), side(net)
    if to is None or transform is None or full is None:
        yield
        return
    names = ("min_size", "max_size", "fixed_size")
    kept = {name: getattr(transform, name) for name in names if hasattr(transform, name)}
    fixed = kept.get("fixed_size")
    try:
        transform.min_size, transform.max_size = (to,), round(kept["max_size"] * to / full)
        if fixed:
            transform.fixed_size = tuple(round(n * to / full) for n in fixed)
        yield
    finally:
        for name, value in kept.items():
            setattr(transform, name, value)


def _transform(net: nn.Module) -> Any:
    """The part that resizes images, where a network has one; torchvision's may leave them alone in training."""
    found = getattr(net, "transform", None)
    resizes = hasattr(found, "min_size") and hasattr(found, "max_size") and not getattr(found, "_skip_resize", False)
    return found if resizes else None


def _sides(transform: Any) -> tuple[int, ...]:
    found = transform.min_size
    return (found,) if isinstance(found, int) else tuple(found)


def _at(net: nn.Module, path: str) -> Any:
    """An attribute of an attribute; None where there is none."""
    found: Any = net
    for name in path.split("."):
        found = getattr(found, name, None)
    return found
