"""Random images for benchmarks: the time of a step without the time of reading and decoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gradaug.data.source import Batch, DataSource, Images, Key
from gradaug.data.splits import few_labels
from gradaug.errors import DataError

POOL = 256
"""Different images; an index beyond sees one of them again."""


class Random(Images):
    """`count` standard normal images of one shape, classes in turn."""

    def __init__(self, count: int, classes: int, shape: tuple[int, ...], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.pool = torch.randn(min(count, POOL), *shape, generator=generator)
        self.count, self.classes = count, classes

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        index = torch.tensor([index for _, index in keys])
        return self.pool[index % len(self.pool)], index % self.classes


def synthetic(size: str, shape: tuple[int, ...], seed: int, labels: int | None, _: str) -> DataSource:
    """``synthetic:10x1280``: classes x training images (10 x 1,280 if not given); 256 to validate. Any input shape."""
    try:
        classes, count = map(int, (size or "10x1280").split("x"))
        sensible = 0 < classes <= count
    except ValueError:
        sensible = False
    if not sensible:
        raise DataError(
            f"synthetic:{size} says neither classes nor images; write synthetic:CLASSESxIMAGES, e.g. 10x1280"
        )
    images: Images = Random(count, classes, shape, seed)
    used, plain, rest = few_labels(images, images, [index % classes for index in range(count)], classes, labels, seed)
    return DataSource("synthetic", classes, used, plain, Random(256, classes, shape, seed + 1), rest)
