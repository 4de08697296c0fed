"""One graph is alive at a time: a GradAug step needs the memory of a plain step."""

from __future__ import annotations

import pytest
import torch
from memory import Live, peak, ratios
from step import WideResNet
from torch import Tensor

import gradaug
import netslim


def batch(count: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 32, 32), torch.zeros(count, dtype=torch.long)


def test_a_step_takes_the_memory_of_a_plain_step_in_every_mode() -> None:
    for mode, (step, plain) in ratios(WideResNet(16, 2), *batch(), "cpu").items():
        assert step <= 1.05 * plain, mode


def test_the_counter_sees_graphs_that_live_together() -> None:
    net = netslim.convert(WideResNet(10, 2), torch.randn(2, 3, 32, 32)).train()
    ga = gradaug.GradAug(net, resolutions=(), num_subnets=3)
    images, labels = batch()
    one_by_one = peak(lambda: ga.backward(images, labels), "cpu")
    losses = []

    def summed() -> None:
        losses.append(net(images).mean())
        for _ in range(3):
            with net.sub(0.9):
                losses.append(net(images).mean())
        torch.stack(losses).sum().backward()

    assert peak(summed, "cpu") > 2 * one_by_one


def test_what_is_freed_no_longer_counts() -> None:
    with Live() as live:
        kept = torch.zeros(1000)
        torch.zeros(5000)
        more = torch.zeros(2000)
    assert live.peak == 4 * 6000
    assert live.now == pytest.approx(4 * 3000)
    del kept, more
