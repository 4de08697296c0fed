"""Images with what is in them drawn on them, as an eye checks it: boxes, masks, points, names, scores, classes.

picture = draw(images, targets, source.categories)              # what the data says
picture = draw(images, net.eval()(images), source.categories)   # what a detector says
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import utils
from torchvision.transforms.v2.functional import to_pil_image

from gradaug.data.source import Target
from gradaug.data.versions import label_style
from netslim.extras import require
from netslim.files import atomic_write

SIDE = 320
"""Pixels that the longer side of every image is enlarged to, by a whole number, so that names can be read."""
PAPER = 255
FAINT = 0.45
"""Opacity of a mask."""


def draw(
    images: Sequence[Tensor],
    objects: Sequence[Mapping[str, Tensor]],
    categories: Sequence[str] = (),
    columns: int = 4,
    threshold: float = 0.5,
) -> Tensor:
    """One picture (3, H, W) uint8 on the CPU of all images (C, H_i, W_i) in [0, 1], `columns` beside each other.

    `objects`: targets, or predictions of torchvision's detectors, of which those with a score of `threshold` and more
    are drawn. `categories`: names by label; a label without one is shown as its number. Every label has its colour.
    """
    return grid([_drawn(*pair, categories, threshold) for pair in zip(images, objects, strict=True)], columns)


def shaded(image: Tensor, classes: Sequence[Tensor], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An image (C, H, W) once for each of `classes` (h, w), which colour its pixels: their class's number from 1 on.

    `mean` and `std` are what the image was standardised with; pixels of class 0, or without one, stay as they are.
    """
    shift, scale = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
    factor = max(1, math.ceil(SIDE / max(image.shape[-2:])))
    pixels = (image.detach().cpu().float() * scale + shift).clamp(0, 1)
    picture = _enlarged((pixels * 255).round().to(torch.uint8), factor).expand(3, -1, -1).contiguous()
    return grid([_coloured(picture, each.detach().cpu()) for each in classes], len(classes))


def _coloured(picture: Tensor, classes: Tensor) -> Tensor:
    sized = F.interpolate(classes[None, None].float(), size=picture.shape[-2:], mode="nearest")[0, 0]
    there = [int(number) for number in sized.unique() if number > 0]
    if not there:
        return picture
    masks = torch.stack([sized == number for number in there])
    return utils.draw_segmentation_masks(picture, masks, FAINT, [colour(number) for number in there])


def grid(pictures: Sequence[Tensor], columns: int = 4) -> Tensor:
    """Pictures (3, H_i, W_i) uint8 as one, `columns` beside each other on white."""
    if not pictures:
        return torch.full((3, SIDE, SIDE), PAPER, dtype=torch.uint8)
    height, width = (max(one.shape[side] for one in pictures) for side in (1, 2))
    sheets = [F.pad(one, (0, width - one.shape[2], 0, height - one.shape[1]), value=PAPER) for one in pictures]
    return utils.make_grid(torch.stack(sheets), nrow=columns, padding=4, pad_value=PAPER)


def write(picture: Tensor, path: Path) -> None:
    """Writes a picture (3, H, W) uint8 in the format that the name ends in. MissingError without Pillow."""
    require("pillow", "pictures")
    with atomic_write(path) as temporary:
        to_pil_image(picture).save(temporary)


def _drawn(image: Tensor, objects: Mapping[str, Tensor], categories: Sequence[str], threshold: float) -> Tensor:
    factor = max(1, math.ceil(SIDE / max(image.shape[-2:])))
    picture = _enlarged((image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8), factor)
    picture = picture.expand(3, -1, -1).contiguous()
    shown = _shown(objects, threshold)
    if not len(shown.get("labels", ())):
        return picture
    labels = shown["labels"].tolist()
    colours = [colour(label) for label in labels]
    if "masks" in shown:
        picture = utils.draw_segmentation_masks(picture, _enlarged(shown["masks"], factor), FAINT, colours)
    names = _names(labels, shown.get("scores"), categories)
    picture = utils.draw_bounding_boxes(
        picture,
        shown["boxes"] * factor,
        names,
        colours,
        width=2,
        **label_style(colours),
    )
    if "keypoints" in shown:
        points, seen = shown["keypoints"][..., :2] * factor, shown["keypoints"][..., 2] > 0
        picture = utils.draw_keypoints(picture, points, visibility=seen, colors="yellow", radius=3)
    return picture


def _shown(objects: Mapping[str, Tensor], threshold: float) -> Target:
    """The objects that are drawn, on the CPU, masks as True and False; those with boxes without area cannot be."""
    plain = {name: value.detach().cpu() for name, value in objects.items()}
    if "boxes" not in plain:
        return {}
    boxes = plain["boxes"].float()
    left = (boxes[:, 2:] > boxes[:, :2]).all(1)
    if "scores" in plain:
        left &= plain["scores"] >= threshold
    shown: Target = {
        name: plain[name][left] for name in ("boxes", "labels", "scores", "masks", "keypoints") if name in plain
    }
    if "masks" in shown:  # predictions are probabilities (n, 1, H, W)
        masks = shown["masks"] > 0.5
        shown["masks"] = masks.squeeze(1) if masks.ndim == 4 else masks
    return shown


def _names(labels: Sequence[int], scores: Tensor | None, categories: Sequence[str]) -> list[str]:
    names = [categories[label] if label < len(categories) else str(label) for label in labels]
    return (
        names if scores is None else [f"{name} {100 * s:.0f} %" for name, s in zip(names, scores.tolist(), strict=True)]
    )


def colour(label: int) -> tuple[int, int, int]:
    """A bright colour; those of neighbouring labels lie far from each other."""
    red, green, blue = colorsys.hsv_to_rgb(label * 0.618 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _enlarged(image: Tensor, factor: int) -> Tensor:
    return image.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
