"""COCO's layout (Lin et al. 2014): a JSON file of annotations and a folder of images for each part.

DIR/annotations/instances_train2017.json, DIR/train2017/*.jpg, and the same with val2017    as COCO is published
DIR/annotations/instances_train.json, DIR/train/*.jpg, and the same with val
DIR/train/_annotations.coco.json beside its images, and the same in valid                   as Roboflow exports it

Folders of images may lie in DIR/images too. A folder that has person_keypoints_*.json and no instances_*.json is read
by that. Labels are the file's category ids where all of these lie between 1 and twice their number (COCO's own, up to
90), else 1, 2, ... in the order of the ids.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gradaug.data.coco_form import Annotations, Category, Document, Object, Picture, checked
from gradaug.data.paths import opened, reason, shown
from gradaug.data.photographs import Part, photographs, place
from gradaug.data.source import DataSource
from gradaug.errors import DataError

LAYOUTS = (
    *(
        tuple((f"annotations/{kind}_{part}{year}.json", f"{part}{year}") for part in ("train", "val"))
        for kind in ("instances", "person_keypoints")
        for year in ("2017", "2014", "")
    ),
    *(
        (("train/_annotations.coco.json", "train"), (f"{other}/_annotations.coco.json", other))
        for other in ("valid", "val", "test")
    ),
)
"""For training and validation: the file of annotations and the folder of images."""
WANTED = (
    "DIR/annotations/instances_train2017.json and DIR/train2017, or DIR/train/_annotations.coco.json, and validation"
)


def coco(folder: str, shape: tuple[int, ...], seed: int, labels: int | None, augment: str) -> DataSource:
    """Boxes, and masks or keypoints where every object has them. Crowds are ignored in evaluation, and not learned."""
    found = place("coco", folder, shape, labels)
    train, validation = (_part(found, *part) for part in _layout(found))
    return photographs("coco", train, validation, seed, augment)


def _layout(folder: Path) -> tuple[tuple[str, str], ...]:
    """The first layout that is there as a whole; DataError says what is missing."""
    whole = [layout for layout in LAYOUTS if all((folder / file).exists() for file, _ in layout)]
    if whole:
        return whole[0]
    there = [file for layout in LAYOUTS for file, _ in layout if (folder / file).exists()]
    missing = f"{there[0]} is there alone" if there else "there is none"
    raise DataError(
        f"COCO's annotations were looked for in {shown(folder)}, and {missing}; needed are {WANTED} likewise"
    )


def _part(folder: Path, file: str, images: str) -> Part:
    places = folder / images, folder / "images" / images
    found = next((path for path in places if path.is_dir()), None)
    if found is None:
        raise DataError(
            f"the images of {shown(folder / file)} were looked for in {shown(places[0])}, which is no folder"
        )
    return Part(read(folder / file), found)


def read(path: Path) -> Annotations:
    """A file of annotations; DataError for one that is none, or is damaged."""
    try:
        with opened(path) as file:
            document = _document(file.read())
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise DataError(
            f"{shown(path)} cannot be read as COCO's annotations ({reason(error)}); repair it, or get it again"
        ) from error
    return checked(document, shown(path))


def _document(text: bytes) -> Document:
    """ValueError says which entry is something else."""
    try:
        return msgspec.json.decode(text, type=Document)
    except msgspec.ValidationError as error:
        raise ValueError(_located(msgspec.json.decode(text), error)) from error


def _located(document: object, error: Exception) -> str:
    """Which entry it is, as msgspec does not say."""
    if not isinstance(document, dict):
        return "it is no object with images, annotations and categories"
    for name, kind in (("images", Picture), ("annotations", Object), ("categories", Category)):
        entries = document.get(name)
        for number, entry in enumerate(entries if isinstance(entries, list) else ()):
            try:
                msgspec.convert(entry, kind)
            except msgspec.ValidationError as found:
                return f"{name}[{number}]{_of(entry)}: {_plainly(found)}"
    return _plainly(error)


def _of(entry: object) -> str:
    known = entry if isinstance(entry, dict) else {}
    named = [f"{key} {shown(str(known[key]))}" for key in ("id", "image_id", "file_name") if key in known]
    return f" ({', '.join(named)})" if named else ""


def _plainly(error: Exception) -> str:
    return str(error).replace(" - at `$.", " at `").replace(" - at `$`", "").replace("Object ", "")
