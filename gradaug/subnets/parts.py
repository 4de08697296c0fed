"""The images of a batch that a sub-network sees, where it sees a part of them.

    part_of(0.5, 8, "0/17/0/2")     # [0, 2, 5, 7]: half of 8 images, the same ones for the same key

A part of its own for each sub-network of a step costs a share of what the batch would, and all together see most of it.
"""

from __future__ import annotations

import random


def part_size(share: float, images: int, least: int = 1) -> int:
    """How many of so many images are that share of them: rounded, and `least` where there are as many."""
    return images if share == 1 else min(images, max(least, round(share * images)))


def part_of(share: float, images: int, key: str, least: int = 1) -> list[int] | None:
    """The numbers of the images that are seen, in their order, chosen by the key alone; None for all of them."""
    count = part_size(share, images, least)
    return None if count == images else sorted(random.Random(f"gradaug/part/{key}").sample(range(images), count))
