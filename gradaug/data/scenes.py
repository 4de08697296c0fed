"""Scenes for detection that need no download: scikit-learn's handwritten digits on textured canvases.

Two to six digits of a scene have random sizes and colours, and later ones lie over earlier ones. Masks are what can be
seen of each, boxes enclose the masks. A digit that would hide another almost whole is not set, so that everything in
the picture is annotated. Scene n of a part is the same for everybody, however many there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.data.augment import chosen
from gradaug.data.boxed import Boxed, Rescaled
from gradaug.data.coco_form import Annotations, Category, Document, Object, Picture, checked
from gradaug.data.outlines import encoded
from gradaug.data.source import DataSource
from gradaug.errors import DataError
from netslim.extras import needed

TRAINING, VALIDATION = 400, 100
MOST = 10_000
LARGEST, SMALLEST = 320, 32
"""Pixels of a canvas's side; a detector resizes its images itself."""
FEWEST_DIGITS, MOST_DIGITS = 2, 6
SIDES = 0.16, 0.45
"""Of a digit, as a share of the canvas's shorter side."""
INK = 0.45
"""Coverage from which on a pixel belongs to a digit."""
SEEN = 0.4
"""Of every digit at least."""


@dataclass(frozen=True)
class Stored:
    """Images in memory: uint8 (N, C, H, W)."""

    pixels: Tensor

    def __call__(self, index: int) -> Tensor:
        return self.pixels[index]


def scenes(
    where: str, shape: tuple[int, ...], seed: int, count: int | None = None, augment: str = "standard"
) -> DataSource:
    """400 scenes to train on, or as many as `where` says, and 100 to validate with digits that are not in these.

    Canvases have the size of the network's own example, up to 320 pixels a side. Augmentation: a random scale between
    3/4 and 4/3, at a random place; no flip, as a mirrored 2 is no digit.
    """
    with needed("scikit-learn", "the digits"):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < SMALLEST:
        raise DataError(
            f"scenes have 1 or 3 channels and {SMALLEST} pixels a side at least, but the network takes inputs of shape "
            f"{shape}"
        )
    if count is not None:
        raise DataError("scenes have boxes for every image, and no labels to choose from: leave out --labels")
    moving = chosen(augment, {"standard": Rescaled(3 / 4, 4 / 3), "none": None}, "scenes")
    bunch = load_digits()
    digits = torch.tensor(bunch.images, dtype=torch.float32) / 16
    split = train_test_split(range(len(digits)), test_size=360, random_state=0, stratify=bunch.target)
    canvas = shape[0], min(shape[1], LARGEST), min(shape[2], LARGEST)
    labels = torch.tensor(bunch.target)
    train, validation = (
        drawn(digits[part], labels[part], number, canvas, name)
        for part, number, name in zip(split, (_count(where), VALIDATION), ("training", "validation"), strict=True)
    )
    return DataSource(
        "scenes",
        len(train[0].names),
        Boxed(*train, moving, seed),
        Boxed(*train, None, seed),
        Boxed(*validation, None, seed, ignored=True),
        task="detection",
        categories=train[0].names,
    )


def _count(where: str) -> int:
    if not where:
        return TRAINING
    if not (where.isascii() and where.isdigit() and len(where) < 6 and 1 <= int(where) <= MOST):
        raise DataError(f"scenes:{where} is no number of images; write scenes, or scenes:N for N up to {MOST:,}")
    return int(where)


def drawn(
    digits: Tensor, labels: Tensor, count: int, canvas: tuple[int, int, int], name: str
) -> tuple[Annotations, Stored]:
    """`count` scenes of `digits` (N, 8, 8) in [0, 1] with `labels` (N,); a function of all of these."""
    pictures: list[Picture] = []
    objects: list[Object] = []
    pixels: list[Tensor] = []
    for number in range(count):
        chance = torch.Generator().manual_seed((0 if name == "training" else MOST) + number)
        image, masks, members = _scene(digits, canvas, chance)
        pixels.append((image * 255).round().to(torch.uint8))
        pictures.append(Picture(number, f"{name} {number}", canvas[2], canvas[1]))
        for mask, member in zip(masks, members, strict=True):
            objects.append(_object(len(objects), number, int(labels[member]) + 1, mask))
    categories = [Category(label + 1, str(label)) for label in range(10)]
    return checked(Document(pictures, objects, categories), f"scenes, {name}"), Stored(torch.stack(pixels))


def _object(number: int, picture: int, category: int, mask: Tensor) -> Object:
    rows, columns = mask.any(1).nonzero().view(-1), mask.any(0).nonzero().view(-1)
    top, left = int(rows[0]), int(columns[0])
    box = (float(left), float(top), float(columns[-1] - left + 1), float(rows[-1] - top + 1))
    return Object(number, picture, category, box, encoded(mask), float(mask.sum()))


def _scene(
    digits: Tensor, canvas: tuple[int, int, int], chance: torch.Generator
) -> tuple[Tensor, list[Tensor], list[int]]:
    """An image (C, H, W) in [0, 1], what is seen of each digit (H, W), and which digits they are."""
    image = _texture(canvas, chance)
    owner = torch.full(canvas[1:], -1)
    members: list[int] = []
    areas: list[int] = []
    seen: list[int] = []
    for member in torch.randint(
        len(digits), (int(_between(FEWEST_DIGITS, MOST_DIGITS + 1, chance)),), generator=chance
    ):
        cover, (top, left) = _placed(digits[member], canvas, chance)
        bottom, right = top + cover.shape[0], left + cover.shape[1]
        inside = cover >= INK
        window = owner[top:bottom, left:right]
        hidden = torch.bincount(window[inside] + 1, minlength=len(members) + 1)[1:].tolist()
        left_over = [now - lost for now, lost in zip(seen, hidden, strict=True)]
        if any(now < SEEN * whole for now, whole in zip(left_over, areas, strict=True)):
            continue
        window[inside] = len(members)
        _ink(image[:, top:bottom, left:right], cover, chance)
        members.append(int(member))
        areas.append(int(inside.sum()))
        seen = [*left_over, areas[-1]]
    noise = 0.02 * torch.randn(canvas, generator=chance)
    return (image + noise).clamp(0, 1), [owner == each for each in range(len(members))], members


def _between(low: float, high: float, chance: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=chance))


def _texture(canvas: tuple[int, int, int], chance: torch.Generator) -> Tensor:
    """Clouds of several sizes around a colour."""
    channels, height, width = canvas
    image = (0.2 + 0.6 * torch.rand(channels, 1, 1, generator=chance)).expand(canvas).clone()
    for cells in (2, 5, 12, 32):
        shape = 1, channels, max(2, round(cells * height / width)), cells
        clouds = torch.randn(shape, generator=chance) * _between(0.01, 0.12, chance)
        image += F.interpolate(clouds, size=(height, width), mode="bilinear", align_corners=True)[0]
    return image.clamp(0, 1)


def _placed(digit: Tensor, canvas: tuple[int, int, int], chance: torch.Generator) -> tuple[Tensor, tuple[int, int]]:
    """How much of each pixel a digit covers, at a random size, and its place: down, right."""
    shorter = min(canvas[1:])
    side = round(shorter * SIDES[0] * (SIDES[1] / SIDES[0]) ** _between(0, 1, chance))
    sides = side, max(4, round(side * _between(0.75, 1.1, chance)))
    cover = F.interpolate(digit.view(1, 1, 8, 8), size=sides, mode="bicubic", align_corners=False)[0, 0]
    place = [int(_between(0, room - size + 1, chance)) for room, size in zip(canvas[1:], sides, strict=True)]
    return cover.clamp(0, 1), (place[0], place[1])


def _ink(window: Tensor, cover: Tensor, chance: torch.Generator) -> None:
    """Draws a digit into its window (C, h, w), in a colour that is lighter or darker than what is there."""
    under = window.mean((1, 2), keepdim=True)
    step = _between(0.3, 0.6, chance) * (1 if under.mean() < 0.5 else -1)
    colour = (under + step + 0.15 * torch.randn(under.shape, generator=chance)).clamp(0, 1)
    # a soft edge: covered from INK on
    share = ((cover - INK) * 4 + 0.5).clamp(0, 1)
    window.copy_(window * (1 - share) + colour * share)
