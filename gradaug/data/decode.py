"""An image file as pixels of 8 bits, whatever it holds; a file that cannot be is one sentence with its path.

Pictures of more than 8 bits keep their brightness: the highest 8 of their bits are taken, as Pillow itself does for
colours of 16 bits. Floats are pixels in [0, 1]. Whole numbers that do not say what white is are refused, as are floats
elsewhere: nothing is cut off. A transparent picture is read without its transparency, a moving one by its first frame.
JPEG files are decoded by torchvision where it is quicker and gives the same pixels, as is tried once; all others by
Pillow. A mask is a PNG file whose pixels are numbers: grey ones as they are stored, of a palette the places in it.
"""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from torch import Tensor

from gradaug.data.paths import opened, reason, shown
from gradaug.errors import DataError
from netslim.extras import needed

with needed("pillow", "image files"):
    from PIL import Image, ImageFile, ImageOps

T = TypeVar("T")

Image.init()
FORMATS = [name for name in "JPEG PNG GIF BMP PPM TIFF WEBP AVIF JPEG2000".split() if name in Image.OPEN]
"""Those of pictures, by Pillow's names, as far as it was built with them. EPS, which is a program, is never opened."""
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp",
    ".avif", ".jp2", ".j2k",
)  # fmt: skip
LONGEST = 256
"""Sides of an image that is cropped square: one this many times the other."""

_BITS, _PHOTOMETRIC, _WHITE_IS_ZERO, _ORIENTATION = 258, 262, 0, 274
"""Tags of TIFF, which other formats' metadata share."""


def decode(path: str | Path, upright: bool = False, channels: int = 3) -> Tensor:
    """An image file as uint8 (3, H, W), or grey (1, H, W); DataError names one that cannot be read.

    `upright`: turned as its metadata says, as tools in which boxes are drawn show it.
    """
    return _read(path, "an image", FORMATS, lambda image: (_upright_pixels if upright else _pixels)(image, channels))


def decode_bytes(content: bytes, name: str, channels: int = 3) -> Tensor:
    """The content of an image file likewise; errors call it `name`."""
    return _interpreted(lambda: io.BytesIO(content), name, "an image", FORMATS, lambda image: _pixels(image, channels))


def upright_size(path: str | Path) -> tuple[int, int]:
    """Height and width that an image file has upright, from its first bytes; DataError likewise."""
    return _read(path, "an image", FORMATS, _upright_size)


def decode_mask(path: str | Path) -> Tensor:
    """A PNG file's numbers, int64 (H, W); DataError names one that cannot be read, or holds colours."""
    return _read(path, "a mask", ["PNG"], _numbers)


def _upright_pixels(image: Image.Image, channels: int) -> Tensor:
    turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    if turned:
        ImageOps.exif_transpose(image, in_place=True)  # a copy would not know its file's format
    return _pixels(image, channels, stored=not turned)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (width, height) if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8) else (height, width)


def _read(path: str | Path, kind: str, formats: list[str], read: Callable[[Image.Image], T]) -> T:
    return _interpreted(lambda: opened(path), shown(path), kind, formats, read)


def _interpreted(
    opening: Callable[[], BinaryIO], name: str, kind: str, formats: list[str], read: Callable[[Image.Image], T]
) -> T:
    try:
        with warnings.catch_warnings(), opening() as file:
            warnings.simplefilter("ignore")  # a library's remarks on damaged metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as image:
                return read(image)
    except Exception as error:  # Pillow's readers raise anything on a damaged file
        unknown = f"it is none of the known formats, {', '.join(formats)}, or damaged"
        why = unknown if isinstance(error, Image.UnidentifiedImageError) else reason(error)
        raise DataError(f"{name} cannot be read as {kind} ({why}); repair or remove it") from error


def _pixels(image: Image.Image, channels: int, stored: bool = True) -> Tensor:
    """`stored`: it is as its file holds it."""
    width, height = image.size
    if max(width, height) > LONGEST * min(width, height):
        raise ValueError(f"it has {width} x {height} pixels, which is too long to be cropped square")
    if image.mode == "F":
        grey = _from_floats(np.asarray(image))
    elif image.mode == "I" or image.mode.startswith("I;"):
        grey = _from_whole_numbers(image)
    else:
        quick = _quick_pixels(image, channels) if stored else None
        return _pillows_pixels(image, channels) if quick is None else quick
    return torch.tensor(grey).expand(channels, -1, -1).contiguous()


def _pillows_pixels(image: Image.Image, channels: int) -> Tensor:
    image.load()
    if channels == 1:
        return torch.tensor(np.asarray(_in_colour(image).convert("L")))[None]
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"))).permute(2, 0, 1)
    return pixels.clone(memory_format=torch.contiguous_format)  # the one copy: what Pillow lends is not to be written


def _quick_pixels(image: Image.Image, channels: int) -> Tensor | None:
    """A JPEG file by torchvision's decoder, which is quicker; None for what that would decode to other pixels.

    What it refuses is Pillow's to refuse, with its reason.
    """
    file = image.fp if isinstance(image, ImageFile.ImageFile) and image.format == "JPEG" else None
    if file is None or image.mode not in (("RGB", "L") if channels == 3 else ("L",)) or not alike():
        return None
    file.seek(0)
    try:
        return _by_torchvision(file.read(), channels)
    except RuntimeError:
        return None


def _by_torchvision(content: bytes, channels: int) -> Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg  # which torchvision 0.29 says will go one day

    mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY
    return decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=mode)


@functools.cache
def alike() -> bool:
    """Whether torchvision has a decoder here, and it and Pillow decode pictures of noise to the same pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    return all(
        _decoded_alike(Image.fromarray(pixels), settings)
        for pixels in (noise, noise[..., 0])
        for settings in ({"quality": 90}, {"quality": 60, "subsampling": 0}, {"quality": 80, "progressive": True})
    )


def _decoded_alike(picture: Image.Image, settings: dict[str, Any]) -> bool:
    file = io.BytesIO()
    picture.save(file, "JPEG", **settings)
    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore")
            return torch.equal(_pillows_pixels(image, 3), _by_torchvision(file.getvalue(), 3))
    except (RuntimeError, ImportError):  # torchvision was built without the decoder
        return False


def _in_colour(image: Image.Image) -> Image.Image:
    """What is no grey of 8 bits as colours first, so that a grey is the same however a file holds it."""
    return image if image.mode == "L" else image.convert("RGB")


def _from_floats(values: np.ndarray) -> np.ndarray:
    if not (values.min() >= 0 and values.max() <= 1):  # also for nan
        raise ValueError("its pixels are floats outside [0, 1]; save it with 8 or 16 bits, or floats in [0, 1]")
    return np.rint(values * 255).astype(np.uint8)


def _from_whole_numbers(image: Image.Image) -> np.ndarray:
    """Mode I;16 has as many bits as its file says, and I is Pillow's for 16 bits of PNG and PPM."""
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise ValueError("its pixels are whole numbers of more than 16 bits, or below zero; save it with 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    values = np.asarray(image).astype(np.int64) >> (bits - 8)
    return (255 - values if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else values).astype(np.uint8)


_FEW_BITS = {"L;2": 85, "L;4": 17}
"""Grey PNG of 2 and 4 bits, which Pillow multiplies so that the largest number is white."""


def _numbers(image: Image.Image) -> Tensor:
    if image.mode not in ("1", "L", "P", "I", "I;16"):
        raise ValueError(
            f"it holds colours ({image.mode}), and a mask holds one number a pixel: grey, or places in a palette"
        )
    stored = [str(tile.args) for tile in getattr(image, "tile", [])]  # before it is read
    return torch.tensor(np.asarray(image).astype(np.int64) // _FEW_BITS.get("".join(stored[:1]), 1))
