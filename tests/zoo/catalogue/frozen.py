"""What cannot become narrower, or what netslim cannot say: the axis that is named stays, and only that one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, pooled

AROUND = ("a.weight[0]", "a.bias[0]", "b.weight[1]")


def _between(turn: Any) -> nn.Module:
    """Four convolutions; `turn` does something to the channels of the second."""
    return Written(lambda m, x: pooled(m, m.b(turn(m, m.a(m.stem(x).relu())))), stem=conv(3, 8), a=conv(8, 12),
                   b=conv(12, 6), head=head(6))  # fmt: skip


ORDER = [3, 1, 0, 2, 7, 6, 5, 4, 11, 9, 10, 8]


class Permuted(nn.Module):
    """A fixed permutation in a buffer, and its inverse by index_select."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.head = conv(3, 8), conv(8, 12), conv(12, 6), head(6)
        self.register_buffer("order", torch.tensor(ORDER))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(self.stem(x).relu())
        return pooled(self, self.b(x[:, self.order] + x.index_select(1, self.order)))


def _sorted(_m: Any, x: Tensor) -> Tensor:
    return x.sort(dim=1).values


SPECIMENS = {
    "channel flip": Specimen(
        lambda: _between(lambda _, x: x.flip(1)), {"stem": 8, "b": 6}, dict.fromkeys(AROUND, "its order is changed")
    ),
    "channel roll": Specimen(
        lambda: _between(lambda _, x: torch.roll(x, 1, dims=1)), {"stem": 8, "b": 6},
        dict.fromkeys(AROUND, "its order is changed"),
    ),
    "channel permutation by a list": Specimen(
        lambda: _between(lambda _, x: x[:, ORDER]), {"stem": 8, "b": 6},
        dict.fromkeys(AROUND, "picked by an index tensor"),
    ),
    "channel permutation by a buffer": Specimen(
        Permuted, {"stem": 8, "b": 6},
        dict.fromkeys(AROUND, "picked by an index tensor") | {"order[0]": "an index tensor has this dimension"},
    ),
    "sorted channels": Specimen(
        lambda: _between(_sorted), {"stem": 8, "b": 6}, dict.fromkeys(AROUND, "the result depends on the positions")
    ),
    "cumulated channels": Specimen(
        lambda: _between(lambda _, x: x.cumsum(1)), {"stem": 8, "b": 6},
        dict.fromkeys(AROUND, "the result depends on the positions"),
    ),
    "a window over channels": Specimen(
        lambda: _between(lambda _, x: F.max_pool3d(x.unsqueeze(1), (3, 1, 1), 1, (1, 0, 0)).squeeze(1)),
        {"stem": 8, "b": 6}, dict.fromkeys(AROUND, "a window runs along this dimension"),
    ),
    "local response norm": Specimen(
        lambda: _between(lambda _, x: F.local_response_norm(x, 3)), {"stem": 8, "b": 6},
        dict.fromkeys(AROUND, "a window runs along this dimension"),
    ),
}  # fmt: skip
