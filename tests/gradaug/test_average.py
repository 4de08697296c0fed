"""Running means of weights, and the mean teacher's loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from gradaug.training.averages import Average, MeanTeacher, ramp

if TYPE_CHECKING:
    from collections.abc import Callable

    import netslim

IMAGES, OTHERS = torch.randn(2, 6, 1, 12, 12, generator=torch.Generator().manual_seed(0)).unbind()


def test_an_average_follows_the_weights_and_the_statistics(net: netslim.SlimNet) -> None:
    average = Average(net, 0.75)
    average.update(net)
    expected = {name: value.clone() for name, value in net.state_dict().items()}
    for decay in (0.5, 2 / 3, 0.75, 0.75):  # a plain mean at first
        net.train()(IMAGES)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter += 1
        average.update(net)
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in average.net.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], msg=name)


def test_an_average_can_be_run_narrower(net: netslim.SlimNet) -> None:
    average = Average(net, 0.9)
    average.update(net)
    net.eval(), average.net.eval()
    with net.sub(0.5), average.net.sub(0.5):
        assert torch.equal(net(IMAGES), average.net(IMAGES))


def test_the_consistency_weight_rises_to_one() -> None:
    assert [ramp(share) for share in (0, 1, 3)] == pytest.approx([math.exp(-5), 1, 1])


def test_a_teacher_compares_two_augmentations(net: netslim.SlimNet) -> None:
    net.train()
    teacher = MeanTeacher(net, 0.9, 100.0, steps=100)
    statistics = {name: value.clone() for name, value in teacher.net.named_buffers()}
    loss = teacher.loss(net, torch.cat([IMAGES, OTHERS]), step=50)
    answer, target = net(IMAGES).softmax(-1), net(OTHERS).softmax(-1)
    torch.testing.assert_close(loss, 100 * ((answer - target) ** 2).mean())
    assert all(torch.equal(value, statistics[name]) for name, value in teacher.net.named_buffers())
    loss.backward()
    assert all(parameter.grad is None for parameter in teacher.net.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in net.parameters())
    assert float(teacher.loss(net, torch.cat([IMAGES, IMAGES]), 50).detach()) == pytest.approx(0, abs=1e-10)


def test_a_state_continues(net: netslim.SlimNet, make_net: Callable[..., netslim.SlimNet]) -> None:
    first = Average(net, 0.5)
    first.update(net)
    with torch.no_grad():
        net.fc.weight += 1
    again = Average(make_net(), 0.5)
    again.model.load_state_dict(first.state_dict())
    for average in (first, again):
        average.update(net)
    for one, other in zip(first.net.parameters(), again.net.parameters(), strict=True):
        assert torch.equal(one, other)
