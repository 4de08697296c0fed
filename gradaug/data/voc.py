"""Pascal VOC's layout for detection (Everingham et al. 2010): a file of XML for each image.

DIR/Annotations/NAME.xml, DIR/JPEGImages/NAME.jpg, DIR/ImageSets/Main/train.txt and val.txt with the names

Boxes count pixels from 1, and the last row and column are inside. Objects that are marked difficult are treated as
COCO's crowds: not learned, and ignored in evaluation. Labels are VOC's own 20 classes in the order of their names, or
those of the training images where others are named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from gradaug.data.coco_form import Annotations, Category, Document, Object, Picture, checked
from gradaug.data.decode import SUFFIXES
from gradaug.data.paths import opened, reason, shown
from gradaug.data.photographs import Part, photographs, place
from gradaug.data.source import DataSource
from gradaug.errors import DataError

CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep "
    "sofa train tvmonitor"
).split()
LARGEST = 2**22
"""Bytes of a file of XML."""
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """DIR may also be the folder that the archives unpack to, with VOC2012 or VOC2007 in VOCdevkit."""
    found = _inside(place("voc", folder, shape, labels))
    train, validation = (_listed(found, part) for part in ("train", "val"))
    names = _classes(train)
    parts = (
        Part(_annotations(listed, names, shown(found / f"ImageSets/Main/{part}.txt")), found / "JPEGImages")
        for part, listed in (("train", train), ("val", validation))
    )
    return photographs("voc", next(parts), next(parts), seed, augment)


def _inside(folder: Path) -> Path:
    places = [folder, *(folder / above / year for above in ("", "VOCdevkit") for year in ("VOC2012", "VOC2007"))]
    for each in places:
        if all((each / part).is_dir() for part in ("Annotations", "JPEGImages", "ImageSets/Main")):
            return each
    raise DataError(
        f"Pascal VOC was looked for in {shown(folder)} and is not there; needed are DIR/Annotations, DIR/JPEGImages "
        "and DIR/ImageSets/Main with train.txt and val.txt"
    )


def _listed(folder: Path, part: str) -> list[tuple[Path, Element]]:
    """The annotations of the images of a part."""
    path = folder / f"ImageSets/Main/{part}.txt"
    try:
        with opened(path) as file:
            names = [line.split()[0] for line in file.read().decode().splitlines() if line.split()]
    except (OSError, ValueError) as error:
        raise DataError(f"the names of the images were looked for in {shown(path)} ({reason(error)})") from error
    for name in names:
        if "/" in name or "\\" in name or "\0" in name or name == "..":
            raise DataError(f"{shown(path)} has the image {shown(name)!r}, which is no plain name")
    files = [folder / "Annotations" / f"{name}.xml" for name in names]
    return [(file, _parsed(file)) for file in files]


def _parsed(path: Path) -> Element:
    """A file of XML without declarations of its own, which can make a small file a huge one."""
    try:
        with opened(path) as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it is larger than {LARGEST:,} bytes")
        builder = TreeBuilder()
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, _refused
        parser.Parse(text, True)
        return builder.close()
    except (OSError, ValueError, expat.ExpatError, LookupError, AssertionError) as error:
        raise DataError(f"{shown(path)} cannot be read as XML ({reason(error)}); repair or remove it") from error


def _refused(*_: object) -> None:
    raise ValueError("it declares a document type, which annotations have no use for")


def _classes(found: Sequence[tuple[Path, Element]]) -> list[str]:
    names = {_text(one, "name", path) for path, document in found for one in document.findall("object")}
    return CLASSES if names <= set(CLASSES) else sorted(names)


def _annotations(found: Sequence[tuple[Path, Element]], names: Sequence[str], where: str) -> Annotations:
    numbers = {name: number for number, name in enumerate(names, 1)}
    categories = [Category(number, name) for name, number in numbers.items()]
    pictures = [_picture(path, document, number) for number, (path, document) in enumerate(found)]
    places = [
        (number, one, path) for number, (path, document) in enumerate(found) for one in document.findall("object")
    ]
    objects = [_object(one, path, numbers, picture, number) for number, (picture, one, path) in enumerate(places)]
    return checked(Document(pictures, objects, categories), where)


def _picture(path: Path, document: Element, number: int) -> Picture:
    width, height = (_number(document, f"size/{side}", path) for side in ("width", "height"))
    if not (width >= 1 and height >= 1 and width % 1 == height % 1 == 0):
        raise DataError(f"{shown(path)} gives its image the size {width:g} x {height:g}; repair or remove it")
    suffix = Path(document.findtext("filename") or "").suffix
    return Picture(number, path.stem + (suffix if suffix.lower() in SUFFIXES else ".jpg"), int(width), int(height))


def _object(one: Element, path: Path, numbers: Mapping[str, int], picture: int, number: int) -> Object:
    name = _text(one, "name", path)
    if name not in numbers:
        raise DataError(f"{shown(path)} has an object of the class {shown(name)!r}, which no training image has")
    left, top, right, bottom = (_number(one, f"bndbox/{corner}", path) for corner in CORNERS)
    box = left - 1, top - 1, right - left + 1, bottom - top + 1
    return Object(number, picture, numbers[name], box, iscrowd=(one.findtext("difficult") or "").strip() == "1")


def _number(element: Element, name: str, path: Path) -> float:
    try:
        found = float(_text(element, name, path))
    except ValueError as error:
        raise DataError(f"{shown(path)} has a {name} that is no number; repair or remove it") from error
    if not math.isfinite(found):
        raise DataError(f"{shown(path)} has a {name} that is no number; repair or remove it")
    return found


def _text(element: Element, name: str, path: Path) -> str:
    found = (element.findtext(name) or "").strip()
    if not found:
        raise DataError(f"{shown(path)} has no {name} where one is needed; repair or remove it")
    return found
