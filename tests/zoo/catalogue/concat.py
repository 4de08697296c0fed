"""Concatenation: parts stay axes of their own, through norms, convolutions and further concatenations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, pooled


def _two_parts(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.after(m.norm(torch.cat([m.left(x), m.right(x)], dim=1))))


def _with_itself(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, m.a(torch.cat([x, x], dim=1)))


def _concatenated_relu(m: Any, x: Tensor) -> Tensor:
    x = m.norm(m.stem(x))
    return pooled(m, m.a(F.relu(torch.cat([x, -x], dim=-3))))


def _dense(m: Any, x: Tensor) -> Tensor:
    seen = [m.stem(x)]
    for layer in (m.a, m.b):
        seen.append(layer(torch.cat(seen, 1)))
    return pooled(m, m.squeeze(torch.cat(seen, 1)))


def _nested(m: Any, x: Tensor) -> Tensor:
    inner = torch.cat([m.a(x), m.b(x)], 1)
    outer = torch.cat([inner, m.c(inner), x], 1)
    return pooled(m, torch.cat([outer, inner], 1))


def _partial(m: Any, x: Tensor) -> Tensor:
    """A cross-stage partial block: half goes through the block, and everything is read together."""
    a, b = m.stem(x).chunk(2, dim=1)
    return pooled(m, m.fuse(torch.cat([m.last(m.block(b) + b), a], dim=1)))


def _dual_path(m: Any, x: Tensor) -> Tensor:
    """A dual path block: some channels of the body are added, others are concatenated."""
    kept, more = m.stem(x), m.dense(x)
    for body in m.bodies:
        out = body(torch.cat([kept, more], 1))
        kept, more = kept + out[:, :12], torch.cat([more, out[:, 12:]], 1)
    return pooled(m, torch.cat([kept, more], 1))


def _added(m: Any, x: Tensor) -> Tensor:
    return pooled(m, torch.cat([m.a(x), m.b(x)], 1) + torch.cat([m.c(x), m.d(x)], 1))


SPECIMENS = {
    "concatenation": Specimen(
        lambda: Written(_two_parts, left=conv(3, 8, 1), right=conv(3, 12), norm=nn.BatchNorm2d(20),
                        after=conv(20, 6, 1), head=head(6)),
        {"left": 8, "right": 12, "after": 6},
    ),
    "concatenation with itself": Specimen(
        lambda: Written(_with_itself, stem=conv(3, 8), a=conv(16, 6), head=head(6)), {"stem": 8, "a": 6}
    ),
    "concatenated ReLU": Specimen(
        lambda: Written(_concatenated_relu, stem=conv(3, 8), norm=nn.BatchNorm2d(8), a=conv(16, 6), head=head(6)),
        {"stem": 8, "a": 6},
    ),
    "dense": Specimen(
        lambda: Written(_dense, stem=conv(3, 8), a=nn.Sequential(nn.BatchNorm2d(8), conv(8, 4)),
                        b=nn.Sequential(nn.BatchNorm2d(12), conv(12, 6)), squeeze=conv(18, 9, 1), head=head(9)),
        {"stem": 8, "a.1": 4, "b.1": 6, "squeeze": 9},
    ),
    "concatenations of concatenations": Specimen(
        lambda: Written(_nested, a=conv(3, 6), b=conv(3, 4), c=conv(10, 8), head=head(31)), {"a": 6, "b": 4, "c": 8}
    ),
    # the halves of the stem, the block's inner axis, its last layer, what reads it all
    "cross-stage partial": Specimen(
        lambda: Written(_partial, stem=conv(3, 16), block=nn.Sequential(conv(8, 6, 1), nn.SiLU(), conv(6, 8)),
                        last=conv(8, 10, 1), fuse=conv(18, 12, 1), head=head(12)),
        {"stem": 8, "stem#2": 8, "block.0": 6, "last": 10, "fuse": 12},
    ),
    "dual path": Specimen(
        lambda: Written(_dual_path, stem=conv(3, 12), dense=conv(3, 6), head=head(26), bodies=nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(18 + 4 * i), nn.ReLU(), conv(18 + 4 * i, 10, 1), conv(10, 16))
            for i in range(2))),
        {"stem": 12, "dense": 6, "bodies.0.2": 10, "bodies.0.3": 4, "bodies.1.2": 10, "bodies.1.3": 4},
    ),
    # sums of different partitions: every piece between two cuts is an axis
    "sum of unlike concatenations": Specimen(
        lambda: Written(_added, a=conv(3, 6), b=conv(3, 10), c=conv(3, 10), d=conv(3, 6), head=head(16)),
        {"a": 6, "b": 4, "b#2": 6},
    ),
}  # fmt: skip
