"""Small networks as people write them. Each carries the number of groups that theory gives, and inputs that fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Specimen:
    """A network, how many channel groups it has, the example inputs, and other inputs that it takes as well."""

    build: Callable[[], nn.Module]
    groups: int
    inputs: Any
    others: tuple[Any, ...]


class Residual(nn.Module):
    """The stem and the sum are one axis, the middle of the body is another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.body = nn.Sequential(nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(24, 16, 1))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(x + self.body(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Concatenation(nn.Module):
    """Two parts, and the layer that reads both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 12, 3, padding=1)
        self.norm, self.after, self.head = nn.BatchNorm2d(20), nn.Conv2d(20, 6, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.cat([self.left(x), self.right(x)], dim=1))
        return self.head(self.after(x).mean((2, 3)))


class DepthwiseMultiplier(nn.Module):
    """Each channel of the stem makes two, which come and go with it; then the pointwise layer's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3, groups=8)
        self.point, self.head = nn.Conv2d(16, 10, 1), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.point(self.deep(self.stem(x)).relu()).mean((2, 3)))


class Grouped(nn.Module):
    """Eight groups of (2 -> 3) channels: whole groups go, from the stem and the head alike."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3, groups=8)
        self.head = nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.stem(x).relu()).amax((2, 3)))


class SqueezeExcite(nn.Module):
    """The gate has the width of what it gates; the squeeze has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.up = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.head = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = self.up(self.down(x.mean((2, 3), keepdim=True)).relu())
        x *= gate.sigmoid()
        return self.head(x)


class Shuffle(nn.Module):
    """3 x 4 channels with the factors swapped: of every three, channels go; then the next layer's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.after, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 10, 1), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, c, h, w = x.size()
        x = x.view(n, 3, c // 3, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.head(self.after(x.relu()).mean((2, 3)))


class SlicedInTwo(nn.Module):
    """Both pieces of the cut are axes, and so is what one of them becomes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.some, self.head = nn.Conv2d(3, 16, 1), nn.Conv2d(6, 8, 1), nn.Linear(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        some, rest = x[:, :6], x[:, 6:]
        return self.head(torch.cat((rest, self.some(some)), 1).mean((-1, -2)))


class SetItem(nn.Module):
    """Six of twelve channels are written to: before, within, after."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.some, self.head = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 6, 1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        more = torch.zeros_like(x)
        more[:, 2:8] = self.some(x)
        return self.head((x + more).mean((2, 3)))


class LiteralView(nn.Module):
    """128 is written down, though it is 8 channels times 16 places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.pool = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(4)
        self.hidden, self.head = nn.Linear(128, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x)).view(-1, 128)
        return self.head(torch.relu(self.hidden(x)))


class ZeroPadded(nn.Module):
    """A shortcut that adds channels of zeros, as in the CIFAR ResNets: the stem, and four channels on each side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.down, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, 2, 1), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0)
        return self.head((short + self.down(x)).relu().mean((2, 3)))


class UNet(nn.Module):
    """The skip, the bottom, what comes up, and the layer that reads skip and up together."""

    def __init__(self) -> None:
        super().__init__()
        self.skip, self.bottom = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3)
        self.up, self.both, self.out = nn.ConvTranspose2d(12, 8, 2, 2), nn.Conv2d(16, 6, 3), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.skip(x).relu()
        up = self.up(self.bottom(F.max_pool2d(skip, 2)).relu())
        top, left = (skip.shape[2] - up.shape[2]) // 2, (skip.shape[3] - up.shape[3]) // 2
        skip = skip[:, :, top : top + up.shape[2], left : left + up.shape[3]]
        return self.out(self.both(torch.cat([skip, up], 1)).relu())


class Transposed(nn.Module):
    """An encoder and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 2, 2), nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.out = nn.ConvTranspose2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.up(self.down(x).tanh()).relu())


class SubPixel(nn.Module):
    """24 channels are 6 times four places, and only whole sixes go."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.more = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 24, 3, padding=1)
        self.shuffle, self.out = nn.PixelShuffle(2), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.shuffle(self.more(self.stem(x).relu())))


class Attention(nn.Module):
    """Two heads of 8: places within heads go, one axis for queries and keys, one for values; and the tokens' own."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Conv2d(3, 24, 4, 4)
        self.q, self.k, self.v = nn.Linear(24, 16), nn.Linear(24, 16), nn.Linear(24, 16)
        self.out, self.head = nn.Linear(16, 24), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x).flatten(2).transpose(1, 2)
        b, n, _ = x.shape
        q, k, v = (f(x).reshape(b, n, 2, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, -1))
        return self.head(x.mean(1))


class TorchAttention(nn.Module):
    """Three heads of 8 in one projection for queries, keys and values: the tokens' axis and the places of a head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Conv2d(3, 24, 4, 4)
        self.attention, self.head = nn.MultiheadAttention(24, 3, batch_first=True), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x).flatten(2).transpose(1, 2)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


class Activations(nn.Module):
    """A slope for each channel goes with its channel; a slope for all stays."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.each = nn.Conv2d(3, 8, 3), nn.PReLU(8)
        self.second, self.all, self.head = nn.Conv2d(8, 6, 1), nn.PReLU(), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.all(self.second(self.each(self.first(x)))).mean((2, 3)))


class CalledTwice(nn.Module):
    """A layer that reads its own output has one axis on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.step, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            x = self.step(x).relu()
        return self.head(x.mean((2, 3)))


class Tied(nn.Module):
    """One weight in two layers, and again the other way round: the hidden axis and the axis in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.again = nn.Linear(5, 12), nn.Linear(12, 8), nn.Linear(12, 8)
        self.again.weight = self.down.weight
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.down(x).relu() + self.again(x)
        return self.head(F.linear(x, self.down.weight.t()))


class Nested(nn.Module):
    """Dicts and tuples in and out: two inputs are added, then a hidden layer with two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.context, self.hidden = nn.Conv2d(3, 8, 3), nn.Linear(5, 8), nn.Linear(8, 6)
        self.head, self.other = nn.Linear(6, 4), nn.Linear(6, 2)

    def forward(self, image: Tensor, extra: dict[str, Tensor]) -> dict[str, Any]:
        x = self.image(image).mean((2, 3)) + self.context(extra["context"])
        x = self.hidden(x.relu())
        return {"logits": self.head(x), "more": (self.other(x), [image.new_zeros(1)])}


class Auxiliary(nn.Module):
    """The stem, the main path's axis and, in training only, the auxiliary head's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.main, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3), nn.Linear(10, 4)
        self.aux = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x).relu()
        main = self.head(self.main(x).mean((2, 3)))
        return (main, self.aux(x.mean((2, 3)))) if self.training else main


def images(*sides: int, batch: int = 2) -> Tensor:
    height, width = sides * 2 if len(sides) == 1 else sides
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


SQUARES = (images(16, batch=5), images(24), images(20, 28, batch=1))


def _nested(batch: int, side: int) -> dict[str, Any]:
    return {"image": images(side, batch=batch), "extra": {"context": images(side, batch=batch).flatten(1)[:, :5]}}


NETS = {
    "residual": Specimen(Residual, 2, images(16), SQUARES),
    "concatenation": Specimen(Concatenation, 3, images(16), SQUARES),
    "depthwise multiplier 2": Specimen(DepthwiseMultiplier, 2, images(16), SQUARES),
    "grouped": Specimen(Grouped, 1, images(16), SQUARES),
    "squeeze and excite": Specimen(SqueezeExcite, 2, images(16), SQUARES),
    "shuffle by view": Specimen(Shuffle, 2, images(16), SQUARES),
    "sliced in two": Specimen(SlicedInTwo, 3, images(16), SQUARES),
    "set item": Specimen(SetItem, 3, images(16), SQUARES),
    "literal view": Specimen(LiteralView, 2, images(16), SQUARES),
    "zero-padded shortcut": Specimen(ZeroPadded, 3, images(16), SQUARES),
    "U-Net": Specimen(UNet, 4, images(24), (images(24, batch=5), images(30), images(24, 36, batch=1))),
    "transposed": Specimen(Transposed, 2, images(16), SQUARES),
    "sub-pixel": Specimen(SubPixel, 2, images(16), SQUARES),
    "attention": Specimen(Attention, 3, images(16), SQUARES),
    "torch's attention": Specimen(TorchAttention, 2, images(16), SQUARES),
    "PReLU": Specimen(Activations, 2, images(16), SQUARES),
    "called twice": Specimen(CalledTwice, 1, images(16), SQUARES),
    "tied weights": Specimen(Tied, 2, torch.randn(4, 5), (torch.randn(1, 5), torch.randn(2, 7, 5))),
    "nested inputs and outputs": Specimen(Nested, 2, _nested(2, 16), (_nested(5, 16), _nested(1, 20))),
    "auxiliary head": Specimen(Auxiliary, 3, images(16), SQUARES),
}
