"""Image files of every depth and colour keep their brightness; what is no image is one sentence with its path."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from torch import Tensor

from gradaug import data
from gradaug.data import decode as decoding
from gradaug.data.decode import decode
from gradaug.errors import DataError

from . import formats

SHARES = np.linspace(0, 1, 64 * 48).reshape(48, 64)
GREY, DEEP = np.rint(SHARES * 255).astype(np.uint8), np.rint(SHARES * 65535).astype(np.uint16)
COLOUR = np.dstack([GREY, 255 - GREY, GREY // 2])


def with_twelve_bits(path: Path) -> None:
    """A TIFF of 12 bits a pixel, which Pillow does not write."""
    values = np.rint(SHARES * 4095).astype(int).ravel()
    pairs = zip(values[::2], values[1::2], strict=True)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    tags = {256: 64, 257: 48, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 48, 279: len(packed)}
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<I", 8 + len(packed))
    path.write_bytes(header + packed + struct.pack("<H", len(tags)) + table + b"\0\0\0\0")


def saved(pixels: np.ndarray, mode: str | None = None, **options: object) -> Callable[[Path], None]:
    image = Image.fromarray(pixels)
    return lambda path: (image.convert(mode) if mode else image).save(path, **options)


def graymap(white: int) -> Callable[[Path], None]:
    pixels = np.rint(SHARES * white).astype(">u2").tobytes()
    return lambda path: path.write_bytes(b"P5 64 48 %d\n" % white + pixels) and None


GREYS: dict[str, Callable[[Path], None]] = {
    "8.png": saved(GREY),
    "16.png": saved(DEEP),
    "16.tif": saved(DEEP),
    "16-big.tif": saved(DEEP.astype(">u2")),
    "16.jp2": saved(DEEP),
    "16.pgm": graymap(65535),
    "10.pgm": graymap(1023),
    "12.tif": with_twelve_bits,
    "white-is-zero.tif": saved(65535 - DEEP, tiffinfo={262: 0}),
    "floats.tif": saved(SHARES.astype(np.float32)),
    "alpha.png": saved(np.dstack([GREY, GREY // 3])),
}


@pytest.mark.parametrize("name", GREYS)
def test_grey_pixels_keep_their_brightness(name: str, tmp_path: Path) -> None:
    GREYS[name](tmp_path / name)
    found = decode(tmp_path / name)
    assert (found.shape, found.dtype) == ((3, 48, 64), torch.uint8)
    assert torch.equal(found[0], found[1])
    assert int((found[0].int() - torch.from_numpy(GREY).int()).abs().max()) <= 1


OLD_YCBCR = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow reads them from 13 on")


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("rgb.png", "RGB", {}), ("rgba.png", "RGBA", {}), ("rgba.tif", "RGBA", {}), ("cmyk.tif", "CMYK", {}),
        ("lossless.webp", "RGB", {"lossless": True}), pytest.param("ycbcr.tif", "YCbCr", {}, marks=OLD_YCBCR),
        ("lab.tif", "LAB", {}),
        ("rgb.bmp", "RGB", {}), ("rgb.jp2", "RGB", {}),
    ],
)  # fmt: skip
def test_colours_are_themselves(name: str, mode: str, options: dict[str, object], tmp_path: Path) -> None:
    saved(COLOUR, mode, **options)(tmp_path / name)
    expected = torch.tensor(np.asarray(Image.fromarray(COLOUR).convert(mode).convert("RGB"))).permute(2, 0, 1)
    assert int((decode(tmp_path / name).int() - expected.int()).abs().max()) <= 2


def test_a_palette_gives_its_colours_whatever_else_it_says(tmp_path: Path) -> None:
    saved(GREY, "P", transparency=bytes(range(256)))(tmp_path / "palette.png")
    assert torch.equal(decode(tmp_path / "palette.png")[0], torch.from_numpy(GREY))


UNCLEAR = {
    "whole numbers": saved(DEEP.astype(np.int32)),
    "floats to 255": saved((SHARES * 255).astype(np.float32)),
    "floats below zero": saved((SHARES - 0.5).astype(np.float32)),
    "no numbers": saved(np.full((8, 8), np.nan, np.float32)),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_pixels_without_a_white_are_refused_not_cut_off(name: str, tmp_path: Path) -> None:
    UNCLEAR[name](tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif cannot be read as an image \(its pixels are .*; save it with 8 or 16"):
        decode(tmp_path / "x.tif")


def png(width: int, height: int) -> bytes:
    """The beginning of a PNG of that size, its pixels left out."""
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT": zlib.compress(b"\0" * 99)}
    chunks = (struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def written(suffix: str, folder: Path) -> bytes:
    saved(COLOUR)(folder / f"whole{suffix}")
    return (folder / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".bmp", ".tif", ".webp", ".avif", ".jp2"])
def test_files_cut_anywhere_are_one_sentence(suffix: str, tmp_path: Path) -> None:
    whole, path = written(suffix, tmp_path), tmp_path / "cut.jpg"
    for share in (0.01, 0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"x", b"<html>", png(20_000, 20_000), png(10_000, 10_000), png(60_000, 60_000), png(1, 60_000),
        png(60_000, 1), png(0, 5), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n",
        b"DDS |\0\0\0" + b"\xff" * 200, b"\0\0\0\x20ftypavif" + b"\xff" * 100, b"II*\0\x08\0\0\0" + b"\xff" * 99,
    ],
)  # fmt: skip
def test_what_is_no_image_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(content)
    refused(tmp_path / "cut.jpg")


def refused(path: Path | str) -> None:
    with pytest.raises(DataError, match=r"cannot be read as an image .*; repair or remove it$") as caught:
        decode(path)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.jpg")
    Path("folder.jpg").mkdir()
    Path("loop.jpg").symlink_to("loop.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
        for name in ("pipe.jpg", "folder.jpg", "loop.jpg", "socket.jpg", "missing.jpg", os.fsdecode(b"\xff\x1b.jpg")):
            refused(name)


JPEGS: dict[str, Callable[[Path], None]] = {
    "plain": saved(COLOUR),
    "full-colours": saved(COLOUR, quality=95, subsampling=0),
    "progressive": saved(COLOUR, progressive=True),
    "odd-sides": saved(COLOUR[:41, :33]),
    "grey": saved(GREY),
    "inks": saved(COLOUR, "CMYK"),
    "turned": saved(COLOUR, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"),
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("options", [{}, {"channels": 1}, {"upright": True}], ids=str)
def test_the_quicker_decoder_gives_the_same_pixels(
    kind: str, options: dict[str, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{kind}.jpg"
    JPEGS[kind](path)
    quick = decode(path, **options)
    monkeypatch.setattr(decoding, "alike", lambda: False)
    assert torch.equal(quick, decode(path, **options))
    assert quick.shape[1:] == (64, 48) if (kind, options) == ("turned", {"upright": True}) else quick.ndim == 3


def test_the_quicker_decoder_is_used_where_it_is_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    quick = decoding._by_torchvision
    monkeypatch.setattr(decoding, "_by_torchvision", lambda content, n: (used.append(n), quick(content, n))[1])
    if not decoding.alike():
        pytest.skip("torchvision's decoder is another one here")
    used.clear()
    for kind in ("plain", "grey", "inks"):
        JPEGS[kind](tmp_path / "one.jpg")
        decode(tmp_path / "one.jpg")
    assert used == [3, 3]


def test_another_decoder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = decoding._by_torchvision
    monkeypatch.setattr(decoding, "_by_torchvision", lambda content, n: quick(content, n) ^ 1)
    assert not decoding.alike.__wrapped__()

    def gone(content: bytes, channels: int) -> Tensor:
        raise ImportError("cannot import name 'decode_jpeg'")

    monkeypatch.setattr(decoding, "_by_torchvision", gone)
    assert not decoding.alike.__wrapped__()


def test_a_file_that_was_cut_off_is_said_by_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cut.jpg"
    JPEGS["plain"](path)
    path.write_bytes(path.read_bytes()[:-300])
    said = []
    for alike in (True, False):
        monkeypatch.setattr(decoding, "alike", lambda alike=alike: alike)
        with pytest.raises(DataError, match=r"cut\.jpg cannot be read as an image") as error:
            decode(path)
        said.append(str(error.value))
    assert said[0] == said[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return formats.image_folder(tmp_path)


def load(root: Path) -> data.DataSource:
    return data.load(f"folder:{root}", (3, 32, 32))


def labels(images: data.Images) -> list[int]:
    return images.__getitems__([(0, index) for index in range(len(images))])[1].tolist()


def test_images_are_in_the_order_of_classes_and_names(root: Path) -> None:
    inner = root / "train" / "class1" / "inner"
    inner.mkdir()
    (root / "train" / "class1" / "0.jpg").rename(inner / "0.JPG")
    for ignored in ("train/notes.txt", "train/.DS_Store", "train/class0/notes.txt"):
        (root / ignored).touch()
    (root / "train" / ".hidden").mkdir()
    assert labels(load(root).train) == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_names_that_are_no_text_work_and_can_be_said(root: Path) -> None:
    for part in ("train", "val"):
        (root / part / "class1").rename(root / part / os.fsdecode(b"caf\xe9"))
    odd = root / "train" / os.fsdecode(b"caf\xe9")
    (odd / "0.jpg").rename(odd / os.fsdecode(b"\xff.jpg"))
    assert sorted(labels(load(root).train)) == [0] * 4 + [1] * 4 + [2] * 4
    (odd / os.fsdecode(b"\xff.jpg")).write_bytes(b"")
    with pytest.raises(DataError, match=r"caf\\xe9/\\xff\.jpg cannot be read"):
        labels(load(root).train)
    (root / "val" / os.fsdecode(b"caf\xe9")).rename(root / "val" / "cafe")
    with pytest.raises(DataError, match=r"different classes: cafe, caf\\xe9"):
        load(root)


def break_by_file(root: Path) -> None:
    (root / "train" / "class7").touch()


def break_by_image(root: Path) -> None:
    (root / "train" / "class1" / "0.jpg").rename(root / "train" / "0.jpg")


def break_by_train(root: Path) -> None:
    (root / "train").rename(root / "old")
    (root / "train").touch()


def break_by_loop(root: Path) -> None:
    (root / "train" / "class1" / "again").symlink_to(root / "train")


def break_by_empty(root: Path) -> None:
    for part in ("train", "val"):
        (root / part / "class9").mkdir()


def break_by_link(root: Path) -> None:
    (root / "val" / "class7").symlink_to(root / "nowhere")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_by_file, "train/class7 is a file where the folder of a class belongs"),
        (break_by_image, "train/0.jpg is a file where the folder of a class belongs"),
        (break_by_train, "looked for in .*train/CLASS.* not there .Not a directory"),
        (break_by_loop, "class1/again is a link to a folder that it lies in"),
        (break_by_empty, "not there .no images in class9"),
        (break_by_link, "val/class7 is a file where the folder of a class belongs"),
    ],
)
def test_folders_that_are_none_are_one_sentence(damage: Callable[[Path], None], message: str, root: Path) -> None:
    damage(root)
    with pytest.raises(DataError, match=message):
        load(root)


def test_a_folder_named_as_an_image_is_said_when_it_is_read(root: Path) -> None:
    (root / "val" / "class1" / "x.jpg").mkdir()
    with pytest.raises(DataError, match=r"x\.jpg cannot be read as an image .it is not a file"):
        labels(load(root).validation)


def test_deep_images_reach_the_network_as_bright_as_shallow_ones(tmp_path: Path) -> None:
    means: list[Tensor] = []
    for name, pixels in {"deep": DEEP, "shallow": GREY}.items():
        for part in ("train", "val"):
            (tmp_path / name / part / "one").mkdir(parents=True)
            saved(pixels)(tmp_path / name / part / "one" / "0.png")
        means.append(load(tmp_path / name).validation.__getitems__([(0, 0)])[0].mean((0, 2, 3)))
    torch.testing.assert_close(*means, atol=0.02, rtol=0)
