"""The same few photographs with boxes in the layouts of COCO, Roboflow, Pascal VOC and YOLO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NAMES = ("cat", "dog", "tree")
SIZES = ((40, 30), (30, 40), (48, 24), (40, 30), (36, 36), (40, 30))
"""Width, height of each image of a part; the third has no objects."""


def boxes(number: int) -> list[tuple[int, int, int, int, int]]:
    """Objects of an image: class from 0, and whole x, y, width, height."""
    return [] if number == 2 else [(n % 3, 2 + n, 3 + n, 6 + 2 * n, 5 + number) for n in range(1 + number % 3)]


def corners(number: int) -> list[list[float]]:
    return [[float(x), float(y), float(x + w), float(y + h)] for _, x, y, w, h in boxes(number)]


def pixels(number: int) -> np.ndarray:
    width, height = SIZES[number]
    return np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number)).save(path)


def outline(box: tuple[int, ...]) -> list[int]:
    _, x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def document(first: int = 1) -> dict[str, list[Any]]:
    """Of one part, as COCO has it; category ids from `first`."""
    annotations = [
        {
            "id": 100 * number + place,
            "image_id": 7 + number,
            "category_id": box[0] + first,
            "bbox": list(box[1:]),
            "segmentation": [outline(box)],
            "area": box[3] * box[4],
            "iscrowd": 0,
        }
        for number in range(len(SIZES))
        for place, box in enumerate(boxes(number))
    ]
    return {
        "images": [
            {"id": 7 + number, "file_name": f"{number}.png", "width": width, "height": height}
            for number, (width, height) in enumerate(SIZES)
        ],
        "annotations": annotations,
        "categories": [{"id": number + first, "name": name} for number, name in enumerate(NAMES)],
    }


def coco(root: Path, content: dict[str, Any] | None = None, year: str = "2017", both: bool = False) -> Path:
    """`content`: of the training part, or of both."""
    for part in ("train", "val"):
        for number in range(len(SIZES)):
            picture(root / f"{part}{year}" / f"{number}.png", number)
        path = root / "annotations" / f"instances_{part}{year}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content if content and (both or part == "train") else document()))
    return root


def roboflow(root: Path) -> Path:
    """Its first category, 0, is what the others belong to."""
    content = document()
    content["categories"].insert(0, {"id": 0, "name": "things", "supercategory": "none"})
    for part in ("train", "valid"):
        for number in range(len(SIZES)):
            picture(root / part / f"{number}.png", number)
        (root / part / "_annotations.coco.json").write_text(json.dumps(content))
    return root


OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult>
<bndbox><xmax>{right}</xmax><xmin>{left}</xmin><ymax>{bottom}</ymax><ymin>{top}</ymin></bndbox></object>"""


def xml(number: int, difficult: int = 0) -> str:
    width, height = SIZES[number]
    objects = [
        OBJECT.format(name=NAMES[kind], difficult=difficult, left=x + 1, top=y + 1, right=x + w, bottom=y + h)
        for kind, x, y, w, h in boxes(number)
    ]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{number}.png</filename>{size}{''.join(objects)}</annotation>"


def voc(root: Path) -> Path:
    names = [f"{part}{number}" for part in ("t", "v") for number in range(len(SIZES))]
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name in names:
        picture(root / "JPEGImages" / f"{name}.png", int(name[1:]))
        (root / "Annotations" / f"{name}.xml").write_text(xml(int(name[1:])))
    for part in ("train", "val"):
        (root / "ImageSets/Main" / f"{part}.txt").write_text("\n".join(n for n in names if n[0] == part[0]))
    return root


def line(number: int, box: tuple[int, ...], outlined: bool = False) -> str:
    width, height = SIZES[number]
    kind, x, y, w, h = box
    shares = [x + w / 2, y + h / 2, w, h] if not outlined else outline(box)
    return " ".join([str(kind), *(f"{value / (width, height)[i % 2]:.6f}" for i, value in enumerate(shares))])


def yolo(root: Path, outlined: bool = False) -> Path:
    for part in ("train", "val"):
        for number in range(len(SIZES)):
            picture(root / "images" / part / f"{number}.png", number)
            lines = [line(number, box, outlined) for box in boxes(number)]
            path = root / "labels" / part / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            if lines:
                path.write_text("\n".join(lines))
    (root / "data.yaml").write_text(
        "path: /content/here\ntrain: images/train\nval: images/val\nnames: [cat, dog, tree]\n"
    )
    return root
