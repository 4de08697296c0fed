"""Outlines of objects as COCO's files have them, polygons or run lengths, as masks by pycocotools.

Its C code believes what it is given: what is handed to it has been held to the image's size before.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from torch import Tensor

from netslim.extras import needed

Polygons = list[list[float]]
"""x, y, x, y, ... in pixels; several where an object has parts."""


class RunLengths(msgspec.Struct, frozen=True, gc=False):
    """Pixels column by column, outside and inside of the object by turns: numbers, or pycocotools' text of them."""

    size: tuple[int, int]
    """Height, width."""
    counts: list[int] | str


Outline = Polygons | RunLengths


def held(outline: Outline, height: int, width: int) -> Outline | None:
    """The outline inside of its image; None where it says nothing. ValueError for one that is damaged."""
    if isinstance(outline, RunLengths):
        _require_runs(outline, height, width)
        return outline
    if any(len(part) % 2 or len(part) < 6 for part in outline):
        raise ValueError("a polygon that is no list of three or more points x, y")
    return [_inside(part, height, width) for part in outline] or None


def _inside(part: list[float], height: int, width: int) -> list[float]:
    if min(part) >= 0 and max(part[::2]) <= width and max(part[1::2]) <= height:
        return part
    return [min(max(value, 0.0), float((width, height)[i % 2])) for i, value in enumerate(part)]


def _require_runs(found: RunLengths, height: int, width: int) -> None:
    if found.size != (height, width):
        raise ValueError(f"a mask of {found.size[1]} x {found.size[0]} pixels, in an image of {width} x {height}")
    counts = _counts(found.counts) if isinstance(found.counts, str) else found.counts
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise ValueError("a damaged mask: its run lengths are not those of an image of this size")


def _counts(text: str) -> list[int]:
    """The run lengths in pycocotools' text: five bits a character, each number from the third on less the last but one.

    ValueError for a text that it has not written.
    """
    counts: list[int] = []
    value = shift = 0
    for code in text.encode():
        bits = code - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("a damaged mask: its run lengths cannot be read")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("a damaged mask: its run lengths end in the middle of a number")
    return counts


def masks_of(outlines: Sequence[Outline], height: int, width: int) -> Tensor:
    """Masks (n, height, width) uint8, 1 inside."""
    with needed("pycocotools", "masks"):
        from pycocotools import mask as coco
    masks = [coco.decode(_encoded(outline, height, width)) for outline in outlines]
    return torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, height, width, dtype=torch.uint8)


def _encoded(outline: Outline, height: int, width: int) -> dict[str, object]:
    """As pycocotools decodes it."""
    from pycocotools import mask as coco

    if isinstance(outline, RunLengths) and isinstance(outline.counts, str):
        return {"size": list(outline.size), "counts": outline.counts.encode()}
    if isinstance(outline, RunLengths):
        given = {"size": list(outline.size), "counts": outline.counts}
        return coco.frPyObjects(given, height, width)
    return coco.merge(coco.frPyObjects(outline, height, width))


def encoded(mask: Tensor) -> RunLengths:
    """A mask (height, width) as run lengths in a text."""
    with needed("pycocotools", "masks"):
        from pycocotools import mask as coco
    found = coco.encode(np.asfortranarray(mask.to(torch.uint8).numpy()))
    return RunLengths((mask.shape[0], mask.shape[1]), found["counts"].decode())
