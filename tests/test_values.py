"""What Python reads of tensors: of those that forward makes of sizes alone it may; what inputs decide stays Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, middle: Callable[..., Tensor]) -> None:
        super().__init__()
        self.stem, self.head, self.middle = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4), middle
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("side", torch.tensor(8))

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        return self.head(self.middle(self, self.stem(x).relu(), *more).mean((2, 3)))


class Two(Net):
    def forward(self, x: Tensor, other: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, other)


def all_ones(_: Any, h: Tensor) -> Tensor:
    """As DETRs pad: no pixel is masked, at whatever resolution."""
    mask = torch.ones(h.shape[0], *h.shape[2:], device=h.device)
    mask = F.interpolate(mask[None], size=(h.shape[2] // 2, h.shape[3] // 2)).to(torch.bool)[0]
    return 2 * h if torch.all(mask == 1) else h * mask.any()


def all_but_one(_: Any, h: Tensor) -> Tensor:
    mask = h.new_ones(h.shape[2:])
    mask[0, 0] = 0
    return 2 * h if mask.all() else 3 * h


def like(_: Any, h: Tensor) -> Tensor:
    return h * torch.zeros_like(h).add_(2).amax().item()


def triangle(_: Any, h: Tensor) -> Tensor:
    mask = torch.full((8, 8), float("-inf"), device=h.device).triu(1)
    return h + mask.exp() if mask[0, -1] < -1 else h


def largest(m: Any, h: Tensor) -> Tensor:
    places = torch.arange(m.side, device=h.device)
    return h * int(places.max())


KNOWN = [all_ones, all_but_one, like, triangle, largest]


@pytest.mark.parametrize("middle", KNOWN)
def test_what_is_made_of_sizes_alone_may_decide(middle: Callable[..., Tensor]) -> None:
    model = Net(middle)
    net = netslim.convert(model, IMAGES)
    assert not net.plan.refusal
    assert [group.size for group in net.groups] == [8]
    assert torch.equal(net(IMAGES[:1]), model(IMAGES[:1]))


DECIDED: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "a mask": (
        lambda _, h, mask: h * mask[:, None] if not mask.all() else 2 * h,
        torch.ones(2, 8, 8, dtype=torch.long),
    ),
    "a length": (lambda _, h, n: h[..., : int(n.max())], torch.tensor([8, 5])),
    "a flag": (lambda _, h, flag: 2 * h if flag else h, torch.tensor(True)),
    "what a mask is written to": (
        lambda _, h, mask: 2 * h if torch.zeros(2, 8, 8).to(mask).copy_(mask).all() else h,
        torch.ones(2, 8, 8, dtype=torch.bool),
    ),
    "a sum with a mask": (lambda m, h, mask: 2 * h if (mask.sum() + m.side) == 136 else h, torch.ones(2, 8, 8).bool()),
}


@pytest.mark.parametrize("name", DECIDED)
def test_what_an_input_decides_stays_python(name: str) -> None:
    middle, example = DECIDED[name]
    model = Two(middle)
    net = netslim.convert(model, (IMAGES, example))
    assert "decides by the values of 'other' at test_values.py:" in net.plan.refusal
    assert [group.size for group in net.groups] == [8]
    for other in (
        example,
        example.clone().view(-1).index_fill(0, torch.tensor(0), 1 - int(example.numel() > 1)).view(example.shape),
    ):
        assert torch.equal(net(IMAGES, other), model(IMAGES, other))


@pytest.mark.parametrize(
    "middle",
    [
        lambda m, h: h * m.scale.item(),
        lambda _, h: 2 * h if h.mean() > 0 else h,
        lambda _, h: h * torch.rand(()).to(h).item(),
        lambda _, h: h * torch.ones(8, device=h.device).copy_(h.mean((0, 2, 3))).max().item(),
    ],
)
def test_what_weights_images_or_chance_decide_stays_python(middle: Callable[..., Tensor]) -> None:
    net = netslim.convert(Net(middle), IMAGES, prove=False)
    assert "reads the values of tensors" in net.plan.refusal
