"""Sums: what is added is one axis. One tensor with several readers, one layer called several times."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, pooled


def _in_place(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.b(F.relu(m.a(x)))
    y += x
    return pooled(m, y)


def _sequential(m: Any, x: Tensor) -> Tensor:
    x = F.relu(m.norm(m.stem(x)))
    x = F.relu(x + m.body(x))
    return m.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _padded(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4), "constant", 0)
    return pooled(m, F.relu(short + m.a(x)))


def _padded_by_cat(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    short = F.avg_pool2d(x, 2)
    zeros = torch.zeros(x.shape[0], 16 - x.shape[1], short.shape[2], short.shape[3], dtype=x.dtype, device=x.device)
    return pooled(m, m.a(x) + torch.cat((short, zeros), dim=1))


def _three_readers(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).relu()
    return m.head(torch.cat([m.a(x).mean((2, 3)), m.b(x).amax((2, 3)), x.flatten(2).mean(-1)], 1))


def _twice(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    for _ in range(2):
        x = F.relu(m.step(x))
    return pooled(m, x)


def _two_sizes(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return m.head(torch.cat([m.step(x).mean((2, 3)), m.step(F.max_pool2d(x, 2)).mean((2, 3))], dim=-1))


def _branches(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, torch.stack([m.a(x), m.b(x), x], dim=0).sum(0))


def _parallel(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, sum((f(x) for f in (m.a, m.b)), start=0.5 * x))


SPECIMENS = {
    "residual in place": Specimen(
        lambda: Written(_in_place, stem=conv(3, 16), a=conv(16, 12), b=conv(12, 16), head=head(16)),
        {"stem": 16, "a": 12},
    ),
    "residual": Specimen(
        lambda: Written(
            _sequential, stem=conv(3, 16, bias=False), norm=nn.BatchNorm2d(16), head=head(16),
            body=nn.Sequential(conv(16, 24), nn.ReLU(inplace=True), conv(24, 16, 1))),
        {"stem": 16, "body.0": 24},
    ),
    "projected shortcut": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.b(m.a(m.stem(x)).relu()) + m.short(m.stem(x))), stem=conv(3, 8),
                        a=conv(8, 10, stride=2), b=conv(10, 12), short=conv(8, 12, 1, stride=2), head=head(12)),
        {"stem": 8, "a": 10, "b": 12},
    ),
    # the zeros before and after are axes of their own: a convolution's channels may go there too
    "zero-padded shortcut": Specimen(
        lambda: Written(_padded, stem=conv(3, 8), a=conv(8, 16, stride=2), head=head(16)),
        {"stem": 8, "a": 4, "a#2": 4},
    ),
    "shortcut padded by concatenation": Specimen(
        lambda: Written(_padded_by_cat, stem=conv(3, 12), a=conv(12, 16, stride=2), head=head(16)),
        {"stem": 12, "a": 4},
    ),
    "one tensor with three readers": Specimen(
        lambda: Written(_three_readers, stem=conv(3, 8), a=conv(8, 6), b=conv(8, 10, 1), head=head(24)),
        {"stem": 8, "a": 6, "b": 10},
    ),
    # a layer that reads its own output has one axis on both sides
    "one layer called twice": Specimen(
        lambda: Written(_twice, stem=conv(3, 16), step=conv(16, 16), head=head(16)), {"stem": 16}
    ),
    "one layer at two resolutions": Specimen(
        lambda: Written(_two_sizes, stem=conv(3, 8), step=conv(8, 10), head=head(20)), {"stem": 8, "step": 10}
    ),
    "branches stacked and summed": Specimen(
        lambda: Written(_branches, stem=conv(3, 16), a=conv(16, 16), b=conv(16, 16, 1), head=head(16)), {"stem": 16}
    ),
    "sum of a generator": Specimen(
        lambda: Written(_parallel, stem=conv(3, 16), a=nn.Sequential(conv(16, 6), conv(6, 16)), b=conv(16, 16, 1),
                        head=head(16)),
        {"stem": 16, "a.0": 6},
    ),
}  # fmt: skip
