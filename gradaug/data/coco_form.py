"""Objects in pictures in the form of COCO's files: checked as a whole, targets made of them as they are needed.

    annotations = checked(Document(pictures, objects, categories), "instances_val2017.json")
    target = annotations.target(3)                          # boxes (n, 4), labels (n,), masks (n, H, W), ...

Other layouts are put into this form first. Boxes are cut to their image; one of which nothing is left, or that has no
area, is left out and counted. What an evaluation ignores, as crowds, is in targets on request alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Literal

import msgspec
import torch

from gradaug.data.outlines import Polygons, RunLengths, held, masks_of
from gradaug.data.paths import shown
from gradaug.data.source import Target
from gradaug.errors import DataError

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
NOTHING = "N/A"
"""The name of a label that no category has."""


class Picture(msgspec.Struct, frozen=True, gc=False):
    """An image, whose objects are elsewhere."""

    id: Whole
    file_name: str
    width: Side
    height: Side


class Object(msgspec.Struct, frozen=True, gc=False):
    """An object in an image."""

    id: Whole
    image_id: Whole
    category_id: Whole
    bbox: tuple[float, float, float, float]
    """x and y of the upper left corner, width, height, in pixels."""
    segmentation: Polygons | RunLengths | None = None
    area: float | None = None
    iscrowd: Literal[0, 1] | bool = 0
    """Whether an evaluation ignores it, and training has none of it."""
    keypoints: list[float] | None = None
    """x, y and visibility of each."""


class Category(msgspec.Struct, frozen=True, gc=False):
    id: Whole
    name: str


class Document(msgspec.Struct, frozen=True):
    """What a file holds; further fields are left alone."""

    images: list[Picture]
    annotations: list[Object]
    categories: list[Category]


@dataclass(frozen=True)
class Labels:
    """Labels of categories: their ids where all lie between 1 and twice their number, else 1, 2, ... in this order."""

    by_id: dict[int, int]
    names: tuple[str, ...]
    """By label, the background first."""

    @classmethod
    def of(cls, categories: Sequence[Category], where: str) -> Labels:
        ids = [category.id for category in categories]
        if not ids or len(set(ids)) < len(ids):
            raise DataError(f"{where} has {'two categories of one id' if ids else 'no categories'}")
        as_they_are = all(1 <= each <= 2 * len(ids) for each in ids)
        by_id = {each: each if as_they_are else place for place, each in enumerate(sorted(ids), 1)}
        names = ["background", *[NOTHING] * max(by_id.values())]
        for category in categories:
            names[by_id[category.id]] = category.name
        return cls(by_id, tuple(names))


class Kept(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An object as it is kept: its box inside of the image, by corners."""

    box: tuple[float, float, float, float]
    label: int
    area: float
    crowd: bool
    outline: Polygons | RunLengths | None
    keypoints: list[float] | None


class Rows:
    """Lists of objects in a few tensors, which processes share; each would copy millions of Python's objects."""

    def __init__(self, rows: Iterable[list[Kept]]) -> None:
        parts = [msgspec.msgpack.encode(row) for row in rows]
        self.bytes = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)
        self.ends = torch.tensor([0, *map(len, parts)]).cumsum(0)

    def __getitem__(self, index: int) -> list[Kept]:
        start, end = self.ends[index : index + 2].tolist()
        return msgspec.msgpack.decode(self.bytes[start:end].numpy().tobytes(), type=list[Kept])


@dataclass(frozen=True)
class Annotations:
    """Images and their objects, each of which can be a target."""

    where: str
    pictures: list[Picture]
    names: tuple[str, ...]
    """Of the labels."""
    rows: Rows
    masks: bool
    """Whether every object has an outline."""
    keypoints: int
    """Points of every object; 0 where not all have them."""
    remarks: tuple[str, ...]
    """What was left out, in a sentence each."""

    def target(self, index: int, ignored: bool = False) -> Target:
        """`ignored`: with the objects that an evaluation ignores, and what it needs to know of each."""
        picture = self.pictures[index]
        found = [one for one in self.rows[index] if ignored or not one.crowd]
        target = {
            "boxes": torch.tensor([one.box for one in found], dtype=torch.float32).view(-1, 4),
            "labels": torch.tensor([one.label for one in found], dtype=torch.int64),
        }
        if self.masks:
            outlines = [one.outline for one in found if one.outline is not None]
            target["masks"] = masks_of(outlines, picture.height, picture.width)
        if self.keypoints:
            points = [one.keypoints for one in found]
            target["keypoints"] = torch.tensor(points, dtype=torch.float32).view(-1, self.keypoints, 3)
        if ignored:
            target["iscrowd"] = torch.tensor([one.crowd for one in found], dtype=torch.int64)
            target["area"] = torch.tensor([one.area for one in found], dtype=torch.float32)
            target["image_id"] = torch.tensor(picture.id)
        return target


def checked(document: Document, where: str) -> Annotations:
    """The images of a document in their order; DataError, with the annotation and its image, for what is damaged."""
    if not document.images:
        raise DataError(f"{where} lists no images")
    labels = Labels.of(document.categories, where)
    pictures = {picture.id: picture for picture in document.images}
    if len(pictures) < len(document.images):
        twice = _twice(picture.id for picture in document.images)
        raise DataError(f"{where} lists two images with the id {twice}")
    for picture in document.images:
        require_name(picture.file_name, where)
    if len({one.id for one in document.annotations}) < len(document.annotations):
        raise DataError(f"{where} has two annotations with the id {_twice(one.id for one in document.annotations)}")
    rows: dict[int, list[Kept]] = {each: [] for each in pictures}
    dropped: Counter[str] = Counter()
    for one in document.annotations:
        if one.image_id not in pictures:
            raise DataError(f"{where}: annotation {one.id} is of image {one.image_id}, which is not listed")
        picture = pictures[one.image_id]
        try:
            kept = _kept(one, picture, labels)
        except ValueError as error:
            raise DataError(
                f"{where}: annotation {one.id} of {shown(picture.file_name)} has {error}; repair or remove it"
            ) from error
        if isinstance(kept, str):
            dropped[kept] += 1
        else:
            rows[picture.id].append(kept)
    return _collected(where, document.images, labels, list(rows.values()), dropped)


def _collected(
    where: str, pictures: list[Picture], labels: Labels, rows: list[list[Kept]], dropped: Counter[str]
) -> Annotations:
    every = [one for row in rows for one in row]
    if all(one.crowd for one in every):
        raise DataError(f"{where} has no objects: its {len(rows):,} images are without a box")
    outlined = sum(one.outline is not None for one in every)
    pointed = Counter(len(one.keypoints or ()) // 3 for one in every)
    remarks = [f"{where}: boxes {why} are left out ({count:,})" for why, count in dropped.items()]
    if 0 < outlined < len(every):
        remarks.append(f"{where}: masks are left out, as {len(every) - outlined:,} of {len(every):,} objects have none")
    if len(pointed) > 1:
        remarks.append(f"{where}: keypoints are left out, as not all objects have as many")
    keypoints = 0 if len(pointed) > 1 else max(pointed)
    return Annotations(where, pictures, labels.names, Rows(rows), outlined == len(every), keypoints, tuple(remarks))


def _kept(one: Object, picture: Picture, labels: Labels) -> Kept | str:
    """An object inside of its image, or why it is left out. ValueError says what is damaged."""
    if one.category_id not in labels.by_id:
        raise ValueError(f"the category {one.category_id}, which is not listed")
    x, y, width, height = one.bbox
    if not all(map(math.isfinite, one.bbox)) or width < 0 or height < 0:
        raise ValueError(f"the box {list(one.bbox)}, which is not x, y, width, height")
    if not width * height > 0:
        return "without area"
    box = max(x, 0.0), max(y, 0.0), min(x + width, picture.width), min(y + height, picture.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        return "outside of the image"
    outline = None if one.segmentation is None else held(one.segmentation, picture.height, picture.width)
    area = (box[2] - box[0]) * (box[3] - box[1]) if one.area is None else one.area
    if not area >= 0:
        raise ValueError(f"the area {area:g}")
    points = _points(one.keypoints)
    return Kept(box, labels.by_id[one.category_id], area, bool(one.iscrowd), outline, points)


def _points(values: list[float] | None) -> list[float] | None:
    if values is not None and len(values) % 3:
        raise ValueError("keypoints that are not x, y, visibility of each")
    return values or None


def require_name(name: str, where: str) -> None:
    """DataError for a name that is no file below the folder of the images, on any system."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    if not name or "\0" in name or any(path.is_absolute() or path.drive or ".." in path.parts for path in paths):
        raise DataError(f"{where} has an image {shown(name)!r}; a name is to be a path below the folder of the images")


def _twice(ids: Iterable[int]) -> int:
    return Counter(ids).most_common(1)[0][0]


def alike(first: Annotations, second: Annotations) -> tuple[Annotations, Annotations]:
    """Training and validation with the same of masks and keypoints; DataError for other categories."""
    if first.names != second.names:
        different = sorted(set(first.names) ^ set(second.names)) or ["their order"]
        raise DataError(
            f"{first.where} and {second.where} have different categories: {', '.join(map(shown, different[:5]))}"
        )
    masks = first.masks and second.masks
    points = first.keypoints if first.keypoints == second.keypoints else 0
    return replace(first, masks=masks, keypoints=points), replace(second, masks=masks, keypoints=points)
