"""YOLO's layout, as Ultralytics reads it: a line of text for each object, in shares of the image's width and height.

DIR/data.yaml says where the images are (train, val, perhaps below a path) and what the classes are called (names);
beside a folder images/... with NAME.jpg is labels/... with NAME.txt. An image without a file has no objects.

A line is the class, from 0 on, and a box (middle x, middle y, width, height), or an outline (x, y of three points and
more), from which masks are made where every object has one. Labels are the classes from 1 on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from gradaug.config.kinds import JSON
from gradaug.data.coco_form import Annotations, Category, Document, Object, Picture, checked, require_name
from gradaug.data.decode import SUFFIXES, upright_size
from gradaug.data.paths import opened, reason, shown
from gradaug.data.photographs import Part, photographs, place
from gradaug.data.source import DataSource
from gradaug.errors import DataError
from netslim.extras import needed

FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
LARGEST = 2**24
"""Bytes of data.yaml, of a list of images, of a file of labels."""
SLACK = 1e-3
"""Shares beyond 0 and 1 that are rounding."""


def yolo(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """Boxes, or boxes and masks. DataError, with the file and the line, for what is damaged."""
    found = place("yolo", folder, shape, labels)
    content = _Content.read(found)
    train, validation = (Part(_annotations(found, content, part), found) for part in (content.train, content.val))
    return photographs("yolo", train, validation, seed, augment)


@dataclass(frozen=True)
class _Content:
    """What data.yaml says."""

    path: Path
    names: list[str]
    train: list[str]
    """Folders of images, or lists of them, below the folder of data.yaml."""
    val: list[str]

    @classmethod
    def read(cls, folder: Path) -> _Content:
        path = next((folder / name for name in FILES if (folder / name).exists()), folder / FILES[0])
        content = _yaml(path)
        names, missing = _names(content.get("names")), [key for key in ("train", "val") if not content.get(key)]
        if not names or missing:
            raise DataError(f"{shown(path)} does not say {' and '.join(missing or ['names'])}")
        if "kpt_shape" in content:
            raise DataError(f"{shown(path)} is of keypoints (kpt_shape), which are read from COCO's files alone")
        base = content.get("path")
        parts = [_places(content[key], base if isinstance(base, str) else "", path) for key in ("train", "val")]
        return cls(path, names, *parts)


def _yaml(path: Path) -> dict[str, JSON]:
    with needed("pyyaml", "YOLO's data sets"):
        from gradaug.recipes.reading import plain
    try:
        content = plain(_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{shown(path)} cannot be read ({reason(error)}); give --data yolo:DIR with DIR/data.yaml"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{shown(path)} does not say train, val and names")
    return content


def _text(path: Path) -> str:
    with opened(path) as file:
        text = file.read(LARGEST + 1)
    if len(text) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST:,} bytes")
    return text.decode("utf-8-sig")


def _names(found: JSON) -> list[str]:
    """Names by class number, from a list or from numbers with names; none where it is something else."""
    if isinstance(found, list):
        return [str(name) for name in found]
    if isinstance(found, dict) and found.keys() == {str(number) for number in range(len(found))}:
        return [str(found[str(number)]) for number in range(len(found))]
    return []


def _places(found: JSON, base: str, path: Path) -> list[str]:
    """Paths below the folder of data.yaml; `base` is left out where it is a folder on its maker's disk alone."""
    elsewhere = PurePosixPath(base).is_absolute() or ".." in PurePosixPath(base).parts
    below = "" if elsewhere or not (path.parent / base).is_dir() else base
    entries = found if isinstance(found, list) else [found]
    return [_place(entry, below, path) for entry in entries]


def _place(entry: JSON, base: str, path: Path) -> str:
    # ../train/images is how exports of Roboflow write what lies beside data.yaml
    said = str(entry).removeprefix("../")
    for name in (str(PurePosixPath(base, said)), said):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise DataError(f"{shown(path)} has images in {shown(str(entry))}; move them below {shown(path.parent)}")
        if "\0" not in name and (path.parent / name).exists():
            return name
    raise DataError(f"{shown(path)} has images in {shown(str(entry))}, and nothing is there")


# ------------------------------------------------------------------------------------------------ images and labels


def _annotations(folder: Path, content: _Content, places: Sequence[str]) -> Annotations:
    names = [name for each in places for name in _images(folder, each)]
    pictures: list[Picture] = []
    objects: list[Object] = []
    for number, name in enumerate(names):
        require_name(name, shown(content.path))
        height, width = upright_size(folder / name)
        picture = Picture(number, name, width, height)
        pictures.append(picture)
        objects += [
            Object(len(objects) + i, number, one.label, _box(one.values, picture), _outline(one.values, picture))
            for i, one in enumerate(_lines(folder / _beside(name), len(content.names)))
        ]
    categories = [Category(label, name) for label, name in enumerate(content.names, 1)]
    return checked(Document(pictures, objects, categories), f"{shown(content.path)} ({', '.join(map(shown, places))})")


def _images(folder: Path, place: str) -> Iterator[str]:
    """Names of images below a folder of them, or in a list, in order."""
    if (folder / place).is_dir():
        found = sorted(path for path in (folder / place).rglob("*") if path.name.lower().endswith(SUFFIXES))
        yield from (path.relative_to(folder).as_posix() for path in found)
        return
    try:
        lines = _text(folder / place).split()
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(folder / place)} is no folder and no list of images ({reason(error)})") from error
    yield from (str(PurePosixPath(place).parent / line) for line in lines)


def _beside(image: str) -> str:
    """The file of labels of an image: the last folder called images becomes labels."""
    parts = list(PurePosixPath(image).with_suffix(".txt").parts)
    last = max((place for place, part in enumerate(parts[:-1]) if part == "images"), default=None)
    return "/".join(parts if last is None else [*parts[:last], "labels", *parts[last + 1 :]])


@dataclass(frozen=True)
class _Line:
    label: int
    values: list[float]
    """Four for a box, else x and y of points, in shares of the sides."""


def _lines(path: Path, classes: int) -> Iterator[_Line]:
    if not path.exists():
        return
    try:
        lines = _text(path).splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(path)} cannot be read ({reason(error)}); repair or remove it") from error
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                yield _line(line.split(), classes)
        except ValueError as error:
            raise DataError(f"{shown(path)} has {error} in line {number}; repair or remove it") from error


def _line(words: list[str], classes: int) -> _Line:
    try:
        number, *values = map(float, words)
    except ValueError:
        raise ValueError("something that is no number") from None
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(f"{len(values)} numbers after the class, which are no box and no outline")
    if not (number % 1 == 0 and 0 <= number < classes):
        raise ValueError(f"the class {number:g}, and there are {classes}, from 0 on,")
    if not all(-SLACK <= value <= 1 + SLACK for value in values):
        raise ValueError("a number outside of 0 to 1, which are shares of the image's sides,")
    return _Line(int(number) + 1, values)


def _box(values: list[float], picture: Picture) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels."""
    if len(values) == 4:
        x, y, width, height = values
        left, top = x - width / 2, y - height / 2
    else:
        left, top = min(values[::2]), min(values[1::2])
        width, height = max(values[::2]) - left, max(values[1::2]) - top
    return left * picture.width, top * picture.height, width * picture.width, height * picture.height


def _outline(values: list[float], picture: Picture) -> list[list[float]] | None:
    if len(values) == 4:
        return None
    return [[value * (picture.width, picture.height)[i % 2] for i, value in enumerate(values)]]
