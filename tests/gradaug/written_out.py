"""A step of any task beside the one that is written out: losses and every gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import gradaug
import netslim
from gradaug.tasks.task import AnyTask

from .conftest import Tiny


def tiny(outputs: int, channels: int = 1, side: int = 8) -> netslim.SlimNet:
    torch.manual_seed(0)
    return netslim.convert(Tiny(outputs, channels), torch.randn(2, channels, side, side), prove=False)


def batch(outputs: int, count: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 8, 8, generator=generator)
    return images, (torch.rand(count, outputs, generator=generator) > 0.5).float()


def assert_a_step_is(
    net: netslim.SlimNet,
    task: AnyTask,
    images: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor], Tensor],
    subnet_loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    """loss: of the full network's output; subnet_loss: of a sub-network's, and of the full network's."""
    ga = gradaug.GradAug(net, task=task, resolutions=(), round_to=1, alpha=0.5)
    draws = gradaug.draw(ga.space, 0, 0)
    losses = ga.backward(images, labels)
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    target = net(images)
    expected = [loss(target)]
    for draw in draws:
        with net.sub(**draw.sub()):
            expected.append(subnet_loss(net(images), target.detach()))
    assert all(float(one) > 0 for one in losses.subnets)
    torch.testing.assert_close([losses.full, *losses.subnets], [one.detach() for one in expected], rtol=1e-9, atol=1e-9)
    sum(expected, start=torch.zeros(())).backward()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-9)
