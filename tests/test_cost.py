"""What a sub-network costs is counted for every network that converts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim
from gradaug.training.estimate import saved_bytes
from netslim import cost

IMAGES = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A network that uses values of tensors which it does not register."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.head, self.middle = nn.Conv2d(3, 8, 1), nn.Linear(8, 4), middle
        self.strides = torch.tensor([2.0, 4.0])
        self.register_buffer("side", torch.tensor([1, 2]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self, self.first(x)).mean((2, 3)))


MIDDLES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a fill value": lambda m, h: h * h.new_full((1, 1, h.shape[2], 1), m.strides[1]),
    "full": lambda m, h: h + torch.full((h.shape[3],), m.strides[0], dtype=h.dtype),
    "an end": lambda m, h: h * torch.arange(m.side[1] * 4).to(h),
    "a start": lambda m, h: h.narrow(2, m.side[0], 3),
    "sections": lambda m, h: h.tensor_split(m.side, dim=3)[1],
    "a start among channels": lambda m, h: torch.cat([h, h.narrow(1, m.side[1], 6)], 1)[:, :8],
    "an item": lambda m, h: F.pad(h, (int(m.side[0]), 0)) * m.strides[0].item(),
    "an index": lambda m, h: h[:, :, m.side] * h[:, :, int(m.strides[0])][:, :, None],
    "a table of its own": lambda m, h: h * torch.tensor([0.5, 2.0])[1] + m.strides[:, None, None, None].sum(),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_a_network_that_reads_constants_is_counted(name: str) -> None:
    net = netslim.convert(Net(MIDDLES[name]), IMAGES)
    assert net.groups
    assert not net.plan.refusal
    full, half = cost.count(net), cost.count(net, 0.5)
    assert (full.params, half.params) == (8 * 4 + 8 * 4 + 4, 4 * 4 + 4 * 4 + 4)
    assert full.flops > half.flops > 0
    assert saved_bytes(net) > 0


def test_a_network_whose_forward_stays_python_is_counted() -> None:
    net = netslim.convert(Net(lambda _, h: h * 2 if h.mean() > 0 else h), IMAGES)
    assert net.plan.refusal
    assert cost.count(net).flops > 0
    assert saved_bytes(net) > 0


def test_a_network_without_a_batch_is_counted_whole() -> None:
    net = netslim.convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)), torch.randn(3, 10, 6))
    macs = (3 * 9 * 8 + 8 * 4) * 8 * 4
    assert cost.count(net).flops == 2 * macs


class Words(nn.Module):
    """Numbers of words, whose device the states of its recurrent layer are made on."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.words, self.read, self.head = nn.Embedding(9, 16), kind(16, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.read(self.words(x))[0][:, -1])


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_behind_whole_numbers_are_counted(kind: type[nn.RNNBase], gates: int) -> None:
    net = netslim.convert(Words(kind), torch.randint(9, (2, 7)), prove=False)
    assert cost.count(net).flops == 2 * 7 * gates * 32 * (16 + 32) + 2 * 32 * 5
    assert cost.count(net, 0.5).flops == 2 * 7 * gates * 16 * (8 + 16) + 2 * 16 * 5
