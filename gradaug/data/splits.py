"""Low-data training: some labels, as many of each class, the rest of the images unlabelled."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gradaug.data.source import Images, Subset, Unlabelled
from gradaug.errors import DataError


def few_labels(
    moving: Images, still: Images, labels: Sequence[int], classes: int, count: int | None, seed: int
) -> tuple[Images, Images, Images | None]:
    """Training images with `count` labels, as they are augmented and without, and the others, whose labels are hidden.

    `labels` are the class numbers of all. Without a `count` all labels are used, and there are no others.
    """
    if count is None:
        return moving, still, None
    known, others = balanced(labels, classes, count, seed)
    return Subset(moving, known), Subset(still, known), Unlabelled(Subset(moving, others)) if others else None


def some_labels(moving: Images, still: Images, count: int | None, seed: int) -> tuple[Images, Images, Images | None]:
    """As :func:`few_labels` where an image has several labels or none of a class: any `count` of the images."""
    if count is None:
        return moving, still, None
    if count > len(moving):
        raise DataError(f"--labels {count} is more than the {len(moving)} training images")
    known = sorted(random.Random(f"gradaug/labels/{seed}").sample(range(len(moving)), count))
    others = sorted(set(range(len(moving))) - set(known))
    return Subset(moving, known), Subset(still, known), Unlabelled(Subset(moving, others)) if others else None


def balanced(labels: Sequence[int], classes: int, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Indices of `count` images, the same number of each class, and those of all others; a function of the seed.

    DataError when the number cannot be shared evenly, or a class has fewer images.
    """
    if count % classes:
        near = max(classes, round(count / classes) * classes)
        raise DataError(f"{count} labels cannot be shared evenly by {classes} classes; take --labels {near}")
    chosen: list[int] = []
    for name in range(classes):
        members = [index for index, label in enumerate(labels) if label == name]
        if len(members) < count // classes:
            raise DataError(
                f"--labels {count} needs {count // classes} images of each class, and class {name} has {len(members)}"
            )
        chosen += random.Random(f"gradaug/labels/{seed}/{name}").sample(members, count // classes)
    taken = set(chosen)
    return sorted(chosen), [index for index in range(len(labels)) if index not in taken]
