"""Cutting channels: slices, chunks, splits, gates, writes to some of the channels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, pooled


def _computed_bound(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    k = x.shape[1] // 4
    return pooled(m, torch.cat([m.a(x[:, :k]), x[:, k:]], 1))


def _fixed_bound(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    some, rest = x[:, :6], x[:, 6:]
    return m.head(torch.cat((rest, m.a(some)), 1).mean((-1, -2)))


def _first_few(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.stem(x)[:, :6])


def _last_few(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, m.a(x[:, -4:]) + x.narrow(-3, 0, 4))


def _strided(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, m.a(x[:, ::2]) + m.b(x[:, 1::2]))


def _set_item(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = x.clone()
    y[:, :4] = m.a(x)
    return pooled(m, y)


def _set_the_middle(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x).relu()
    more = torch.zeros_like(x)
    more[:, 2:8] = m.a(x)
    return pooled(m, x + more)


def _three_chunks(m: Any, x: Tensor) -> Tensor:
    q, k, v = m.stem(x).chunk(3, 1)
    return pooled(m, torch.sigmoid(q) * k + v)


def _computed_split(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    a, b = torch.split(x, x.size(1) // 2, dim=1)
    return pooled(m, torch.cat([m.a(a), b], 1))


def _literal_split(m: Any, x: Tensor) -> Tensor:
    a, b, c = m.stem(x).split([3, 5, 8], dim=-3)
    return pooled(m, torch.cat([c, m.a(b), a], dim=-3))


def _uneven_chunks(m: Any, x: Tensor) -> Tensor:
    """7 + 7 + 4 channels."""
    a, b, c = m.stem(x).chunk(3, dim=1)
    return pooled(m, torch.cat([m.a(a + b), c], 1))


def _gated(m: Any, x: Tensor) -> Tensor:
    value, gate = m.a(m.stem(x)).chunk(2, dim=-3)
    return pooled(m, value * gate.sigmoid())


def _res2net(m: Any, x: Tensor) -> Tensor:
    """A chain through the pieces of a split, each added to the next one's input."""
    pieces = torch.split(m.stem(x), 6, 1)
    outs, last = [], 0
    for step, piece in zip(m.steps, pieces[:-1], strict=True):
        last = step(piece + last).relu()
        outs.append(last)
    return pooled(m, m.fuse(torch.cat([*outs, pieces[-1]], dim=1)))


def _one_channel(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, x * x[:, 3:4].sigmoid() + x[:, -1].unsqueeze(1))


SPECIMENS = {
    "slice with a computed bound": Specimen(
        lambda: Written(_computed_bound, stem=conv(3, 16), a=conv(4, 6), head=head(18)),
        {"stem": 4, "stem#2": 12, "a": 6},
    ),
    "slice with a fixed bound": Specimen(
        lambda: Written(_fixed_bound, stem=conv(3, 16, 1), a=conv(6, 8, 1), head=head(18)),
        {"stem": 6, "stem#2": 10, "a": 8},
    ),
    # what nobody reads is elastic too
    "only the first channels": Specimen(
        lambda: Written(_first_few, stem=conv(3, 16), head=head(6)), {"stem": 6, "stem#2": 10}, idle=("stem#2",)
    ),
    "the last channels": Specimen(
        lambda: Written(_last_few, stem=conv(3, 16), a=conv(4, 4), head=head(4)),
        {"stem": 4, "stem#2": 8, "stem#3": 4},
        idle=("stem#2",),
    ),
    # two neighbours come and go together
    "strided slices": Specimen(
        lambda: Written(_strided, stem=conv(3, 16), a=conv(8, 6), b=conv(8, 6), head=head(6)), {"stem": 8, "a": 6}
    ),
    "set item": Specimen(
        lambda: Written(_set_item, stem=conv(3, 16), a=conv(16, 4), head=head(16)), {"stem": 4, "stem#2": 12}
    ),
    "set item in the middle": Specimen(
        lambda: Written(_set_the_middle, stem=conv(3, 12, 1), a=conv(12, 6, 1), head=head(12)),
        {"stem": 2, "stem#2": 6, "stem#3": 4},
    ),
    "three chunks": Specimen(lambda: Written(_three_chunks, stem=conv(3, 24), head=head(8)), {"stem": 8}),
    "split by a computed size": Specimen(
        lambda: Written(_computed_split, stem=conv(3, 16), a=conv(8, 6), head=head(14)),
        {"stem": 8, "stem#2": 8, "a": 6},
    ),
    "uneven split": Specimen(
        lambda: Written(_literal_split, stem=conv(3, 16), a=conv(5, 7), head=head(18)),
        {"stem": 3, "stem#2": 5, "stem#3": 8, "a": 7},
    ),
    "uneven chunks": Specimen(
        lambda: Written(_uneven_chunks, stem=conv(3, 18), a=conv(6, 5), head=head(11)), {"stem": 6, "stem#2": 6, "a": 5}
    ),
    "gated by a chunk": Specimen(
        lambda: Written(_gated, stem=conv(3, 8), a=conv(8, 24), head=head(12)), {"stem": 8, "a": 12}
    ),
    "GLU": Specimen(
        lambda: Written(lambda m, x: pooled(m, F.glu(m.gate(m.stem(x)), 1)), stem=conv(3, 16), gate=nn.GLU(1),
                        head=head(4)),
        {"stem": 4},
    ),
    # each piece but the first is one axis with the step before it
    "Res2Net chain": Specimen(
        lambda: Written(_res2net, stem=conv(3, 24), steps=nn.ModuleList(conv(6, 6) for _ in range(3)),
                        fuse=conv(24, 10, 1), head=head(10)),
        {"stem": 6, "stem#2": 6, "stem#3": 6, "stem#4": 6, "steps.2": 6, "fuse": 10},
    ),
    # the channel that is named stays, those around it do not
    "single channels": Specimen(
        lambda: Written(_one_channel, stem=conv(3, 12), head=head(12)), {"stem": 3, "stem#2": 7}
    ),
}  # fmt: skip
