"""What differs between the versions of torchvision that gradaug runs with, asked of torchvision itself."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from torch import Tensor
from torchvision import tv_tensors, utils

from gradaug.errors import DataError

Colour = tuple[int, int, int]


def keypoints(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Points (..., 2) that move with their image of `size` (H, W). DataError up to torchvision 0.22."""
    kind = getattr(tv_tensors, "KeyPoints", None)
    if kind is None:
        raise DataError("keypoints are augmented by torchvision 0.23 and newer; upgrade it, or take --augment none")
    moving: Tensor = kind(points, canvas_size=size)
    return moving


def label_style(colours: Sequence[Colour]) -> dict[str, object]:
    """How `draw_bounding_boxes` writes names: black on the object's colour, up to torchvision 0.22 in that colour."""
    if "label_background_colors" in inspect.signature(utils.draw_bounding_boxes).parameters:
        return {"label_colors": "black", "label_background_colors": colours, "fill_labels": True}
    return {"label_colors": list(colours)}
