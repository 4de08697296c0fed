"""Ways in which people compute with the size of an image, between two convolutions.

What is right of each is what the model itself does at other sizes. SPELLINGS: name -> Spelling.
"""

from __future__ import annotations

import enum
import functools
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Middle = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Spelling:
    """A function of features (N, C, H, W), and whether a converted network has it in its program."""

    middle: Middle
    followed: bool = True


class SizedNet(nn.Module):
    """Convolution, spelling, convolution, head: any image."""

    def __init__(self, middle: Middle) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        h = self.middle(F.relu(self.first(x)))
        return self.head(F.relu(self.second(h)).mean((2, 3)))


def resized(h: Tensor, *size: int) -> Tensor:
    return F.interpolate(h, size=size)


def windows(h: Tensor) -> Tensor:
    """Cut into windows, centred in each, put together by a batch that is worked out from sizes."""
    n, c, height, width = h.shape
    cut = h.view(n, c, height // 4, 4, width // 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, 4, 4)
    cut = cut - cut.mean((2, 3), keepdim=True)
    n = int(cut.shape[0] / (height * width / 16))
    return cut.view(n, height // 4, width // 4, c, 4, 4).permute(0, 3, 1, 4, 2, 5).reshape(n, c, height, width)


def padded(h: Tensor) -> Tensor:
    more = -h.shape[3] % 16
    return F.pad(h, (0, more)) if more else h


def square_of_tokens(h: Tensor) -> Tensor:
    tokens = h.flatten(2).mT
    side = math.isqrt(tokens.shape[1])
    return tokens.mT.reshape(len(tokens), -1, side, side)


def scan_of_rows(h: Tensor) -> Tensor:
    total = torch.zeros_like(h[:, :, 0])
    for row in range(h.shape[2]):
        total = 0.5 * total + h[:, :, row]
    return h + total[:, :, None]


def halved_until_small(h: Tensor) -> Tensor:
    while h.shape[2] > 20:
        h = F.max_pool2d(h, 2)
    return h


@functools.lru_cache
def ramp(height: int) -> Tensor:
    return torch.linspace(0, 1, height)[:, None]


class Scale(enum.IntEnum):
    TWICE = 2


def _of_integers() -> Mapping[str, Middle]:
    """A whole number that Python, not torch, has worked out."""
    return {
        "int of a product": lambda h: resized(h, int(h.shape[2] * 0.5), int(h.shape[3] * 0.7)),
        "int of a sum": lambda h: h[:, :, : int(h.shape[2] + h.shape[3]) // 8],
        "int, then a quotient": lambda h: h[..., : int(h.shape[-1]) // 2],
        "int, then arange": lambda h: h + torch.arange(int(h.shape[2]))[:, None] / 32,
        "int, then a linspace": lambda h: h * torch.linspace(-1, 1, int(h.shape[3])),
        "int, then eye": lambda h: h @ torch.eye(int(h.shape[3])),
        "ints of a shape": lambda h: h.reshape([int(s) for s in h.shape]),
        "round": lambda h: resized(h, round(h.shape[2] / 3), round(h.shape[3] * 0.4)),
        "ceil": lambda h: resized(h, math.ceil(h.shape[2] / 3), 4),
        "ceil by floor": lambda h: h[:, :, : -(-h.shape[2] // 3)],
        "trunc": lambda h: h[:, :, : math.trunc(h.shape[2] / 2.5)],
        "right shift": lambda h: h[:, :, : h.shape[2] >> 1],
        "left shift": lambda h: resized(h, h.shape[2] << 1, 8),
        "divmod": lambda h: h[:, :, divmod(h.shape[2], 5)[1] :],
        "a power modulo": lambda h: h[:, :, pow(h.shape[2], 2, 7) :],
        "negative remainder": lambda h: F.pad(h, (0, -h.shape[3] % 20)),
        "bits": lambda h: h * (h.shape[2] & 7),
        "up to a multiple": lambda h: F.pad(h, (0, math.ceil(h.shape[3] / 16) * 16 - int(h.shape[3]))),
        "larger side": lambda h: resized(h, *(max(h.shape[2:]),) * 2),
        "smaller side": lambda h: h[..., : min(h.shape[-2:])],
        "sorted sides": lambda h: resized(h, *sorted(h.shape[2:])),
        "at least": lambda h: resized(h, max(int(h.shape[2]), 40), 8),
        "root": lambda h: h.flatten(2)[:, :, : int(math.sqrt(h.shape[2] * h.shape[3])) * 8, None],
        "kernel": lambda h: F.avg_pool2d(h, (int(h.shape[2] / 8), int(h.shape[3] / 8))),
        "length": lambda h: h.view(len(h), -1, *h.shape[2:]),
        "length of a slice": lambda h: h * (len(h.mean(1)[0]) / 32),
        "entries": lambda h: h * (h.mean(1)[0].numel() / 1024),
        "stride": lambda h: h + h.stride(2) / 32,
        "text and back": lambda h: h * int(f"{h.shape[2]}") / 32,
        "enumeration": lambda h: resized(h, Scale.TWICE * h.shape[2], Scale.TWICE),
        "numpy product": lambda h: h * (int(np.prod(h.shape[2:])) / 1024),
        "numpy number": lambda h: h[:, :, : np.clip(h.shape[2], 10, 40)],
        "numpy array": lambda h: resized(h, *(np.array(h.shape[2:]) * 2).tolist()),
        "tensor of a size": lambda h: 32 * h / torch.tensor(h.shape[2]),
        "item of a tensor of sizes": lambda h: h * torch.tensor(h.shape[2:]).prod().item() / 1024,
        "number of dimensions": lambda h: h * h.ndim,
    }


def _of_fractions() -> Mapping[str, Middle]:
    """A fraction that Python has worked out."""
    return {
        "float": lambda h: h * (float(h.shape[2]) / 32),
        "quotient": lambda h: h * (h.shape[2] / h.shape[3]),
        "logarithm": lambda h: h * math.log2(h.shape[2]),
        "inverse root": lambda h: h / math.sqrt(h.shape[3]),
        "root of the area": lambda h: h * (h.shape[2] * h.shape[3]) ** 0.5 / 32,
        "exact sum": lambda h: h * math.fsum(h.shape[2:]) / 64,
        "mean of the sides": lambda h: h * statistics.fmean(h.shape[2:]) / 32,
        "factor": lambda h: F.interpolate(h, scale_factor=(24 / h.shape[2], 48 / h.shape[3])),
        "sum of products": lambda h: h * sum(a * b for a, b in zip(h.shape, h.shape, strict=True)) / 2000,
    }


def _of_steps() -> Mapping[str, Middle]:
    """Steps that are the same on every size."""
    return {
        "roll": lambda h: h.roll(h.shape[2] // 2, 2),
        "grid": lambda h: h + torch.stack(torch.meshgrid(*map(torch.arange, h.shape[2:]), indexing="ij")).sum(0) / 64,
        "unfold and fold": lambda h: F.fold(F.unfold(h, 3, padding=1), h.shape[2:], 3, padding=1),
        "cached by the size": lambda h: h * ramp(h.shape[2]),
        "windows": windows,
        "square of tokens": square_of_tokens,
        "by a comparison": lambda h: h * {True: 2.0, False: 1.0}[h.shape[2] > 30],
        "where a side is large": lambda h: 2 * h if h.shape[2] > 40 else h,
        "where any side is large": lambda h: 3 * h if any(s > 50 for s in h.shape) else h,
        "where sides differ": lambda h: h.mT.mT if h.shape[2] != h.shape[3] else h,
        "where it is odd": lambda h: F.pad(h, (0, 1)) if h.shape[3] % 2 else h,
        "padded where needed": padded,
        "pooled until small": halved_until_small,
    }


def _of_python() -> Mapping[str, Middle]:
    """Other steps on another size, or numbers without a formula: Python goes on deciding."""
    return {
        "int, then a comparison": lambda h: 2 * h if int(h.shape[2]) > 40 else h,
        "a large batch": lambda h: 2 * h if len(h) > 100 else h,
        "length in a condition": lambda h: 2 * h if len(h) == 1 else h,
        "greatest common divisor": lambda h: h * (math.gcd(h.shape[2], h.shape[3]) / 8),
        "length of a text": lambda h: h * len(f"{h.shape[2] * 4:d}"),
        "power of two": lambda h: resized(h, 2 ** int(math.log2(h.shape[2])), 8),
        "array as a constant": lambda h: h * torch.from_numpy(np.linspace(0, 1, h.shape[2])).float()[:, None],
        "chunks": lambda h: torch.cat([c * (i + 1) for i, c in enumerate(h.chunk(h.shape[2] // 8, 2))], 2),
        "images one by one": lambda h: torch.stack([image / (1 + image.abs().max()) for image in h]),
        "images by index": lambda h: torch.stack([h[i] * (1 + i) for i in range(h.shape[0])]),
        "batch split": lambda h: torch.cat([part.mean(0, keepdim=True) + part for part in h.split(1)]),
        "rows": lambda h: torch.stack([row * i for i, row in enumerate(h.unbind(2))], 2),
        "scan of rows": scan_of_rows,
        "strips": lambda h: sum((h[:, :, i : i + 1] for i in range(0, h.shape[2], 8)), 0 * h),
    }


SPELLINGS: dict[str, Spelling] = {
    name: Spelling(middle) for table in (_of_integers(), _of_fractions(), _of_steps()) for name, middle in table.items()
} | {name: Spelling(middle, followed=False) for name, middle in _of_python().items()}
