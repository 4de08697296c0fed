"""Learning rates step by step, and what weight decay acts on."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from gradaug.config.settings import TrainConfig
from gradaug.training.optim import schedule, sgd


def rates(per_epoch: int = 4, **settings: Any) -> list[float]:
    """The learning rate of every step of a run."""
    config = TrainConfig(lr=1.0, **settings)
    optimizer = sgd(nn.Linear(1, 1), config)
    plan = schedule(optimizer, config, per_epoch)
    found = []
    for _ in range(config.epochs * per_epoch):
        found.append(plan.get_last_lr()[0])
        optimizer.step()
        plan.step()
    return found


def test_cosine_falls_from_one_to_nearly_zero() -> None:
    found = rates(epochs=2)
    assert found == pytest.approx([(1 + math.cos(math.pi * step / 8)) / 2 for step in range(8)])


def test_a_warm_up_rises_to_the_full_rate() -> None:
    assert rates(epochs=3, warmup=1.0)[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_a_warm_up_that_rounds_up_to_the_whole_run_ends() -> None:
    assert rates(epochs=2, warmup=1.99) == pytest.approx([(step + 1) / 8 for step in range(8)])


def test_steps_divide_by_ten_after_each_milestone() -> None:
    found = rates(epochs=4, schedule="step", milestones=(1, 3))
    assert found == pytest.approx([1.0] * 4 + [0.1] * 8 + [0.01] * 4)


def test_poly_falls_to_zero_by_the_power_of_nine_tenths() -> None:
    assert rates(epochs=2, schedule="poly") == pytest.approx([(1 - step / 8) ** 0.9 for step in range(8)])


def test_a_constant_rate_stays() -> None:
    assert set(rates(epochs=2, schedule="constant")) == {1.0}


def test_weight_decay_may_leave_biases_and_norms_alone() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    for decay_norms in (True, False):
        optimizer = sgd(net, TrainConfig(lr=1.0, weight_decay=0.5, momentum=0.0, decay_norms=decay_norms))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(1.0)
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        decayed = {name for name, parameter in net.named_parameters() if bool((parameter == 0.5).all())}
        every = {name for name, _ in net.named_parameters()}
        assert decayed == (every if decay_norms else {"0.weight", "2.weight"})


@pytest.mark.parametrize(("settings", "nesterov"), [({}, True), ({"nesterov": False}, False), ({"momentum": 0}, False)])
def test_momentum_is_nesterovs_unless_plain_is_asked_for(settings: dict[str, Any], nesterov: bool) -> None:
    (group,) = sgd(nn.Linear(1, 1), TrainConfig(**settings)).param_groups
    assert group["nesterov"] is nesterov
