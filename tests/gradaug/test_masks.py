"""Segmentation's data sets in their layouts on disk: VOC, ADE20K, Cityscapes; whole ones, and broken ones."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from gradaug import data
from gradaug.data.cityscapes import EVALUATED
from gradaug.data.decode import decode_mask
from gradaug.data.source import DataSource, Images
from gradaug.errors import DataError

from . import formats

LAYOUTS: dict[str, tuple[Callable[..., Path], int, tuple[int, ...]]] = {
    "voc-masks": (formats.voc_masks, 21, (0, 5, 20, -100)),
    "ade20k": (formats.ade20k, 150, (-100, 0, 76, 149)),
    "cityscapes": (formats.cityscapes, 19, (-100, 0, 18, 13)),
}
"""What writes it, its classes, and the classes of the bars in what is written."""


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    name: str = request.param
    return name, LAYOUTS[name][0](tmp_path / name)


def load(layout: tuple[str, Path], size: tuple[int, int] = (32, 48), **options: str) -> DataSource:
    name, place = layout
    return data.load(f"{name}:{place}", (3, *size), **options)  # type: ignore[arg-type]


def every(images: Images, epoch: int = 0) -> tuple[Tensor, Tensor]:
    pictures, masks = images.__getitems__([(epoch, index) for index in range(len(images))])
    assert isinstance(pictures, Tensor)
    assert isinstance(masks, Tensor)
    return pictures, masks


def grey(source: DataSource, images: Tensor) -> Tensor:
    """Pixels of 0 to 255."""
    normal = (torch.tensor(values).view(-1, 1, 1) for values in (source.std, source.mean))
    std, mean = normal
    return ((images * std + mean) * 255)[:, 0]


def test_a_layout_is_read_with_its_classes(layout: tuple[str, Path]) -> None:
    source = load(layout)
    _, classes, bars = LAYOUTS[layout[0]]
    assert (source.classes, source.task, len(source.train), len(source.validation)) == (classes, "segmentation", 4, 3)
    for images in (source.train, source.calibration, source.validation):
        pictures, masks = every(images)
        assert (pictures.shape, pictures.dtype) == ((len(images), 3, 32, 48), torch.float32)
        assert (masks.shape, masks.dtype) == ((len(images), 32, 48), torch.int64)
        assert set(masks.unique().tolist()) == {-100, *bars}


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (80, 80), (7, 9)])
def test_images_and_masks_stay_together(layout: tuple[str, Path], size: tuple[int, int]) -> None:
    """Every bar has a brightness of its own, so the picture says what the mask has to be, but at edges."""
    source = load(layout, size)
    bars = LAYOUTS[layout[0]][2]
    for images, epoch in ((source.train, 0), (source.train, 1), (source.validation, 0)):
        pictures, masks = every(images, epoch)
        shades = grey(source, pictures)
        agree = sum(((shades - (60 * i + 20)).abs() < 25) & (masks == label) for i, label in enumerate(bars))
        padded = (shades.abs() < 1) & (masks == -100)
        assert float((agree.bool() | padded).float().mean()) > (0.9 if min(size) > 9 else 0.6)


def test_a_mask_lies_in_the_middle_of_its_image(tmp_path: Path) -> None:
    """Symmetric pictures stay so at any scale: resizing moves neither to a side."""
    place = formats.voc_masks(tmp_path, 1, 1)
    half = np.repeat([[0, 1, 1, 1, 0]], 7, 0).repeat(7, 1).astype(np.uint8)
    Image.fromarray(half * 255).convert("RGB").save(place / "JPEGImages" / "2007_000001.jpg", quality=100)
    Image.fromarray(half).save(place / "SegmentationClass" / "2007_000001.png")
    for side in (12, 17, 23, 24, 60):
        _, masks = every(data.load(f"voc-masks:{place}", (3, side, side)).validation)
        seen = masks[0][: side // 5]
        assert torch.equal(seen, seen.flip(1)), side


def test_validation_shows_whole_images(layout: tuple[str, Path]) -> None:
    source = load(layout, (56, 56))
    pictures, masks = every(source.validation)
    for picture, mask in zip(grey(source, pictures), masks, strict=True):
        shown = picture > 10
        height, width = int(shown.any(1).sum()), int(shown.any(0).sum())
        assert max(height, width) == 56
        assert bool(shown[:height, :width].all())
        assert bool((mask[height:] == -100).all() and (mask[:, width:] == -100).all())


def test_augmentation_is_a_function_of_the_key(layout: tuple[str, Path]) -> None:
    first, again = load(layout).train, load(layout).train
    state = torch.get_rng_state()
    one = first.__getitems__([(3, 1), (2, 0)])
    assert torch.equal(state, torch.get_rng_state())
    other = again.__getitems__([(2, 0), (3, 1)])
    assert all(torch.equal(a, b.flip(0)) for a, b in zip(one, other, strict=True))
    assert not torch.equal(one[1], again.__getitems__([(4, 1), (3, 0)])[1])
    still = load(layout, augment="none")
    assert torch.equal(every(still.train)[1], every(still.train, 1)[1])
    assert torch.equal(every(still.train)[1], every(first)[1]) is False


def test_random_sizes_are_between_half_and_twice(tmp_path: Path) -> None:
    """Of one bar in the middle, as wide as a fifth of the picture."""
    place = formats.voc_masks(tmp_path, 1, 1)
    bar = np.zeros((50, 50), dtype=np.uint8)
    bar[20:30, 20:30] = 1
    Image.fromarray(bar * 255).convert("RGB").save(place / "JPEGImages" / "2007_000000.jpg", quality=100)
    Image.fromarray(bar).save(place / "SegmentationClass" / "2007_000000.png")
    train = data.load(f"voc-masks:{place}", (3, 100, 100)).train
    _, masks = train.__getitems__([(epoch, 0) for epoch in range(60)])
    widths = [int((mask == 1).any(0).sum()) for mask in masks]  # type: ignore[union-attr]
    assert max(widths) <= 41
    assert min(width for width in widths if width) >= 1
    assert max(widths) > 30
    assert any(10 <= width <= 14 for width in widths)


def test_train_ids_of_cityscapes_are_the_official_ones(tmp_path: Path) -> None:
    by_id, by_train_id = tmp_path / "ids", tmp_path / "train_ids"
    formats.cityscapes(by_id)
    formats.cityscapes(by_train_id, ids="labelTrainIds")
    found = [every(load(("cityscapes", place)).validation)[1] for place in (by_id, by_train_id)]
    assert torch.equal(*found)
    assert len(EVALUATED) == 19
    assert [EVALUATED.index(i) for i in (7, 11, 17, 24, 26, 33)] == [0, 2, 5, 11, 13, 18]
    formats.cityscapes(by_id, ids="labelTrainIds")  # both there: these are taken
    for file in by_id.rglob("*labelIds.png"):
        file.write_text("not looked at")
    assert torch.equal(every(load(("cityscapes", by_id)).validation)[1], found[0])


def png(bits: int, row: bytes, kind: int = 0) -> bytes:
    """A PNG file of one row of four pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    palette = chunk(b"PLTE", bytes(range(48))) if kind == 3 else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        (png(1, bytes([0b01010000])), [0, 1, 0, 1]),
        (png(2, bytes([0b00011011])), [0, 1, 2, 3]),
        (png(4, bytes([0x01, 0x2F])), [0, 1, 2, 15]),
        (png(8, bytes([0, 1, 200, 255])), [0, 1, 200, 255]),
        (png(16, struct.pack(">4H", 0, 1, 150, 300)), [0, 1, 150, 300]),
        (png(4, bytes([0x01, 0x2F]), 3), [0, 1, 2, 15]),
        (png(2, bytes([0b00011011]), 3), [0, 1, 2, 3]),
    ],
    ids=["grey 1", "grey 2", "grey 4", "grey 8", "grey 16", "palette 4", "palette 2"],
)
def test_a_mask_has_the_numbers_that_are_stored(content: bytes, numbers: list[int], tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(content)
    assert decode_mask(tmp_path / "mask.png").tolist() == [numbers]


# --------------------------------------------------------------------------------------------------------- mistakes


def one(place: Path, pattern: str) -> Path:
    """A file of the images to validate."""
    return max(path for path in place.rglob(pattern) if not {"train", "training"} & set(path.parts))


def a_mask(layout: tuple[str, Path]) -> Path:
    return one(layout[1], "*Ids.png" if layout[0] == "cityscapes" else "*.png")


def test_a_missing_mask_or_image_is_named(layout: tuple[str, Path]) -> None:
    mask = a_mask(layout)
    mask.unlink()
    with pytest.raises(DataError, match=f"has no mask: there is no .*{mask.name[:12]}"):
        load(layout)


def test_a_listed_image_that_is_missing_is_named(tmp_path: Path) -> None:
    place = formats.voc_masks(tmp_path)
    (place / "JPEGImages" / "2007_000005.jpg").unlink()
    with pytest.raises(DataError, match=r"2007_000005.png has no image: there is no .*2007_000005.jpg"):
        load(("voc-masks", place))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: mask.convert("L").resize((20, 10), 0), r"has \d\d x 4\d pixels and its mask .* 10 x 20"),
        (lambda mask: mask.convert("RGB"), r"cannot be read as a mask \(it holds colours \(RGB\), and a mask"),
        (lambda mask: mask.convert("RGBA"), r"it holds colours \(RGBA\)"),
        (
            lambda mask: mask.convert("L").point(lambda _: 199),
            r"has the number 199, which is no class .*: known are 0",
        ),
    ],
    ids=["another size", "colours", "transparent", "another number"],
)
def test_a_mask_that_is_none_is_one_sentence(
    layout: tuple[str, Path], change: Callable[[Image.Image], Image.Image], words: str
) -> None:
    mask = a_mask(layout)
    changed = change(Image.open(mask))
    changed.save(mask)
    source = load(layout)
    with pytest.raises(DataError, match=words) as caught:
        every(source.validation)
    assert mask.name in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_damaged_mask_is_one_sentence(layout: tuple[str, Path], content: bytes) -> None:
    mask = a_mask(layout)
    mask.write_bytes(content)
    source = load(layout)
    with pytest.raises(DataError, match=r"cannot be read as a mask \(.*\); repair or remove it"):
        every(source.validation)


def test_another_layout_is_told_which_one_is_meant(layout: tuple[str, Path], tmp_path: Path) -> None:
    others = [name for name in LAYOUTS if name != layout[0]]
    for name in others:
        with pytest.raises(DataError, match=rf"looked for in .* give --data {name}:DIR with DIR/"):
            load((name, layout[1]))
    with pytest.raises(DataError, match=r"looked for in .*nowhere.* are not there \(No such file"):
        load((layout[0], tmp_path / "nowhere"))


def test_a_part_without_images_is_refused(layout: tuple[str, Path]) -> None:
    name, place = layout
    if name == "voc-masks":
        (place / "ImageSets" / "Segmentation" / "val.txt").write_text("\n \n")
    else:
        folder = place / ("images/validation" if name == "ade20k" else "leftImg8bit/val")
        shutil.rmtree(folder)
        folder.mkdir()
    with pytest.raises(DataError, match=r"are not there \(it names none\)"):
        load(layout)


def test_a_list_of_something_else_is_refused(tmp_path: Path) -> None:
    place = formats.voc_masks(tmp_path)
    for line in ("../2007_000001", "2007_000001 1", "/etc/passwd", "JPEGImages/2007_000001.jpg"):
        (place / "ImageSets" / "Segmentation" / "val.txt").write_text(f"2007_000004\n{line}\n")
        with pytest.raises(DataError, match=r"val.txt lists .*, which is no name of an image"):
            load(("voc-masks", place))


def test_what_masks_cannot_do_is_refused(layout: tuple[str, Path]) -> None:
    name, place = layout
    with pytest.raises(DataError, match="no labels to choose from"):
        data.load(f"{name}:{place}", (3, 32, 32), labels=10)
    with pytest.raises(DataError, match="has images in colour or grey, but the network takes"):
        data.load(f"{name}:{place}", (4, 32, 32))
    with pytest.raises(DataError, match=f"needs the folder of the images: --data {name}:DIR"):
        data.load(name, (3, 32, 32))
    with pytest.raises(DataError, match=f"--augment color .*; {name} has standard and none"):
        load(layout, augment="color")


def test_a_network_may_see_masked_photographs_in_grey(tmp_path: Path) -> None:
    place = formats.voc_masks(tmp_path)
    grey, colour = (data.load(f"voc-masks:{place}", (channels, 40, 48)) for channels in (1, 3))
    keys = [(0, 0), (0, 1)]
    (images, masks), (others, same) = (each.train.__getitems__(keys) for each in (grey, colour))
    assert (images.shape, others.shape) == ((2, 1, 40, 48), (2, 3, 40, 48))
    assert torch.equal(masks, same)
    pixels = [x[:, 0] * source.std[0] + source.mean[0] for x, source in ((images, grey), (others, colour))]
    assert (pixels[0] - pixels[1]).abs().max() < 3 / 255  # the pictures are grey ones
