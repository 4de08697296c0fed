"""Channels in another order: shuffles, repeats, channels that become places and places that become channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import SQUARES, Specimen, Written, conv, head, images, param, pooled


def _shuffled(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.size()
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def _after_cat(m: Any, x: Tensor) -> Tensor:
    first, second = _shuffled(torch.cat([m.a(x), m.b(x)], 1), 2).chunk(2, dim=1)
    return pooled(m, torch.cat([first, m.c(second)], 1))


def _repeated(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.a(m.stem(x).repeat(1, 2, 1, 1)))


def _interleaved(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.a(m.stem(x).repeat_interleave(2, dim=1)))


def _one_to_many(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.a(m.one(x).repeat(1, 8, 1, 1) * m.scale.view(1, -1, 1, 1)))


def _focus(m: Any, x: Tensor) -> Tensor:
    """Space to depth: four pictures of every second place, one after another."""
    x = m.stem(x)
    parts = [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]]
    return pooled(m, m.a(torch.cat(parts, 1)))


def _space_to_depth(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    n, c, h, w = x.shape
    x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, 4 * c, h // 2, w // 2)
    return pooled(m, m.a(x))


def _channels_last(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).permute(0, 2, 3, 1)
    return m.head((x + m.b(F.gelu(m.a(m.norm(x))))).mean(dim=(1, 2)))


def _literal_view(m: Any, x: Tensor) -> Tensor:
    """128 is written down, though it is 8 channels times 16 places."""
    return m.head(torch.relu(m.hidden(m.pool(m.stem(x)).view(-1, 128))))


def _padded_both(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.a(F.pad(m.stem(x), (0, 0, 0, 0, 0, 4))))


def _spatial_turns(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = x.flip(-1) + x.roll((1, -1), (2, 3)) + torch.rot90(x, 2, (2, 3)) + x.flip([2, 3])
    return pooled(m, m.a(y))


SPECIMENS = {
    # the halves of the shuffled axis are one: what the shuffle puts side by side comes from both
    "shuffle after concatenation": Specimen(
        lambda: Written(_after_cat, a=conv(3, 8), b=conv(3, 8), c=conv(8, 8), head=head(16)),
        {"a": 4, "a#2": 4, "c": 8},
    ),
    # 3 x 4 channels with the factors swapped: of every three, channels go
    "shuffle by view": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.after(_shuffled(m.stem(x), 3).relu())), stem=conv(3, 12, 1),
                        after=conv(12, 10, 1), head=head(10)),
        {"stem": 4, "after": 10},
    ),
    "shuffle by module": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.after(m.shuffle(m.stem(x)))), stem=conv(3, 12, 1),
                        shuffle=nn.ChannelShuffle(3), after=conv(12, 10, 1), head=head(10)),
        {"stem": 4, "after": 10},
    ),
    "repeat": Specimen(lambda: Written(_repeated, stem=conv(3, 8), a=conv(16, 6), head=head(6)), {"stem": 8, "a": 6}),
    "repeat_interleave": Specimen(
        lambda: Written(_interleaved, stem=conv(3, 8), a=conv(16, 6), head=head(6)), {"stem": 8, "a": 6}
    ),
    "one channel repeated": Specimen(
        lambda: Written(_one_to_many, one=conv(3, 1), scale=param(8), a=conv(8, 6), head=head(6)), {"scale": 8, "a": 6}
    ),
    # 24 channels are 6 times four places, and only whole sixes go
    "pixel shuffle": Specimen(
        lambda: Written(lambda m, x: m.out(m.shuffle(m.more(m.stem(x).relu()))), stem=conv(3, 8), more=conv(8, 24),
                        shuffle=nn.PixelShuffle(2), out=conv(6, 3)),
        {"stem": 8, "more": 6},
    ),
    "pixel unshuffle": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.a(F.pixel_unshuffle(m.stem(x), 2))), stem=conv(3, 6), a=conv(24, 8),
                        head=head(8)),
        {"stem": 6, "a": 8},
    ),
    "focus": Specimen(lambda: Written(_focus, stem=conv(3, 6), a=conv(24, 8), head=head(8)), {"stem": 6, "a": 8}),
    "space to depth": Specimen(
        lambda: Written(_space_to_depth, stem=conv(3, 6), a=conv(24, 8), head=head(8)), {"stem": 6, "a": 8}
    ),
    "channels last": Specimen(
        lambda: Written(_channels_last, stem=conv(3, 12), norm=nn.LayerNorm(12), a=nn.Linear(12, 20),
                        b=nn.Linear(20, 12), head=head(12)),
        {"stem": 12, "a": 20},
    ),
    "literal view": Specimen(
        lambda: Written(_literal_view, stem=nn.Conv2d(3, 8, 3), pool=nn.AdaptiveAvgPool2d(4), hidden=nn.Linear(128, 10),
                        head=head(10)),
        {"stem": 8, "hidden": 10},
    ),
    "classifier after flatten": Specimen(
        lambda: nn.Sequential(conv(3, 8), nn.MaxPool2d(8), nn.Flatten(), nn.Linear(32, 12), nn.ReLU(), head(12)),
        {"0": 8, "3": 12}, others=(images(16, batch=5),),
    ),
    # nothing reads the zeros' weights
    "channels padded behind": Specimen(
        lambda: Written(_padded_both, stem=conv(3, 8), a=conv(12, 6), head=head(6)),
        {"stem": 8, "a.weight.1": 4, "a": 6},
        idle=("a.weight.1",),
    ),
    # only space is turned
    "flips and rolls of space": Specimen(
        lambda: Written(_spatial_turns, stem=conv(3, 8), a=conv(8, 6), head=head(6)), {"stem": 8, "a": 6},
        others=(*SQUARES, images(12, 20)),
    ),
}  # fmt: skip
