"""What forward takes and gives: several inputs, dicts, lists, options, heads that only training has."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, images, pooled


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


def nested(batch: int, side: int) -> dict[str, Any]:
    return {"image": images(side, batch=batch), "extra": {"context": images(side, batch=batch).flatten(1)[:, :5]}}


class Pair(nn.Module):
    """Two images through one trunk (a Siamese network)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.head = nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 12)), nn.Linear(24, 4)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = (self.trunk(x).mean((2, 3)) for x in (first, second))
        return self.head(torch.cat([a * b, (a - b).abs()], dim=1))


class Listed(nn.Module):
    """A list of images of several sizes (a pyramid); each has a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv(3, 8, 1) for _ in range(3))
        self.out = conv(8, 4)

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        outs = [f(x) for f, x in zip(self.lateral, levels, strict=True)]
        for i in (2, 1):
            outs[i - 1] = outs[i - 1] + F.interpolate(outs[i], size=outs[i - 1].shape[-2:], mode="nearest")
        return [self.out(x) for x in outs]


def pyramid(side: int, batch: int) -> dict[str, list[Tensor]]:
    return {"levels": [images(side // k, batch=batch) for k in (1, 2, 4)]}


class Optional(nn.Module):
    """Arguments with defaults, one of them a tensor that may be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.head = conv(3, 8), nn.Linear(4, 8), head(8)

    def forward(self, x: Tensor, side: Tensor | None = None, scale: float = 2.0, *, pool: bool = True) -> Tensor:
        x = self.stem(x) * scale
        if side is not None:
            x = x + self.side(side)[:, :, None, None]
        return self.head(x.mean((2, 3)) if pool else x.amax((2, 3)))


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


def _lists_in_between(m: Any, x: Tensor) -> dict[str, Tensor]:
    features = {}
    for name, stage in m.stages.items():
        x = features[name] = stage(x).relu()
    return {name: m.heads[name](f.mean((2, 3))) for name, f in features.items()}


def _switched(m: Any, x: Tensor) -> Tensor:
    """Python decides: by sizes, types, counts."""
    x = m.stem(x)
    if x.shape[1] > 4 and isinstance(x, torch.Tensor) and x.dim() == 4:
        x = m.layers[len(m.layers) - 1](x)
    assert x.shape[1] == 6
    return m.head(x.mean((2, 3)) if not m.training else F.dropout(x.mean((2, 3)), 0.1, m.training))


def _absent_branch(m: Any, x: Tensor) -> Tensor:
    """A branch that is not there is the number 0, and goes through the same modules."""
    return pooled(m, m.a(m.stem(x)) + m.same(0))


SPECIMENS = {
    "nested inputs and outputs": Specimen(
        Nested, {"image": 8, "hidden": 6}, inputs=nested(2, 16), others=(nested(5, 16), nested(1, 20))
    ),
    "two images through one trunk": Specimen(
        Pair, {"trunk.0": 8, "trunk.2": 12}, inputs={"first": images(16), "second": images(16)},
        others=({"first": images(20, batch=3), "second": images(12, batch=3)},),
    ),
    "a list of images": Specimen(
        Listed, {"lateral.0": 8}, inputs=pyramid(32, 2), others=(pyramid(24, 3),)
    ),
    "optional arguments left out": Specimen(
        Optional, {"stem": 8}, {"side.weight[0]": "never used", "side.weight[1]": "never used",
                                "side.bias[0]": "never used"},
    ),
    "optional arguments given": Specimen(
        Optional, {"stem": 8}, inputs={"x": images(16), "side": torch.ones(2, 4), "scale": 0.5, "pool": False},
        others=({"x": images(20, batch=1), "side": torch.ones(1, 4), "scale": 0.5, "pool": False},),
    ),
    "auxiliary head": Specimen(Auxiliary, {"stem": 8, "main": 10, "aux.0": 6}),
    "features by name": Specimen(
        lambda: Written(_lists_in_between, stages=nn.ModuleDict({"low": conv(3, 8), "high": conv(8, 6, stride=2)}),
                        heads=nn.ModuleDict({"low": head(8), "high": head(6)})),
        {"stages.low": 8, "stages.high": 6},
    ),
    "decided by Python": Specimen(
        lambda: Written(_switched, stem=conv(3, 8), layers=nn.ModuleList([conv(8, 6)]), head=head(6)),
        {"stem": 8, "layers.0": 6},
    ),
    "a module called with a number": Specimen(
        lambda: Written(_absent_branch, stem=conv(3, 8), a=conv(8, 6), same=nn.Identity(), head=head(6)),
        {"stem": 8, "a": 6},
    ),
}  # fmt: skip
