"""One graph is alive at a time: a GradAug step needs the memory of a plain step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from memory import Live, peak, ratios
from torch import Tensor, nn

import gradaug
import netslim
from gradaug.models import ResNetCifar, WideResNet


def batch(count: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 3, 32, 32), torch.zeros(count, dtype=torch.long)


def test_a_step_takes_the_memory_of_a_plain_step_in_every_mode() -> None:
    for mode, (step, plain) in ratios(WideResNet(16, 2), *batch(), "cpu").items():
        assert step <= 1.05 * plain, mode


@pytest.mark.parametrize("make", [lambda: WideResNet(16, 2), lambda: ResNetCifar(8, 10)])
def test_a_converted_network_takes_the_memory_of_its_model(make: Callable[[], nn.Module]) -> None:
    """No result of a block is kept beyond its last use, though the block may be skipped."""
    model = make().train()
    net, (images, labels) = netslim.convert(model, torch.randn(2, 3, 32, 32), prove=False).train(), batch()

    def passed(module: nn.Module) -> int:
        module.zero_grad()
        return peak(lambda: F.cross_entropy(module(images), labels).backward(), "cpu")

    assert passed(net) <= 1.01 * passed(model)


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


def test_skipped_bodies_take_no_memory() -> None:
    net = netslim.convert(WideResNet(16, 2), torch.randn(2, 3, 32, 32)).train()
    images, labels = batch()
    depth = {block.name: False for block in net.blocks}
    plain = net.extract(depth=depth).train()

    def step(forward: nn.Module) -> None:
        F.cross_entropy(forward(images), labels).backward()

    full = peak(lambda: step(net), "cpu")
    net.zero_grad()
    with net.sub(depth=depth):
        skipped = peak(lambda: step(net), "cpu")
    assert skipped <= 1.02 * peak(lambda: step(plain), "cpu")
    assert skipped < 0.5 * full
