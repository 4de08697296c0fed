"""Optimizer and schedule of the paper: SGD with Nesterov momentum, cosine decay to zero, updated every step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import nn, optim

if TYPE_CHECKING:
    from gradaug.config import TrainConfig

STEP_FACTOR = 0.1
"""What a milestone of the step schedule multiplies the learning rate by."""


def sgd(net: nn.Module, config: TrainConfig) -> optim.SGD:
    """SGD on every parameter that wants a gradient.

    Weight decay acts on all of them, as in the paper; without ``decay_norms`` only on those with two dimensions or
    more, which leaves out biases and the scales and shifts of norms ("bag of tricks", He et al. 2019, section 3.1).
    """
    wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in wanted if config.decay_norms or parameter.ndim > 1]
    free = [parameter for parameter in wanted if not (config.decay_norms or parameter.ndim > 1)]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )


def schedule(optimizer: optim.Optimizer, config: TrainConfig, per_epoch: int) -> optim.lr_scheduler.LambdaLR:
    """The learning rate as a function of the steps taken; call its ``step()`` after every optimizer step.

    A linear warm-up from 1/steps of the rate, then (1 + cos(pi * share)) / 2 of it, or a tenth less at every milestone,
    or all of it. `per_epoch`: optimizer steps in an epoch.
    """
    warmup, total = round(config.warmup * per_epoch), config.epochs * per_epoch

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "cosine":
            return (1 + math.cos(math.pi * min(step - warmup, total - warmup) / (total - warmup))) / 2
        passed = [epoch for epoch in config.milestones or () if step >= epoch * per_epoch]
        return STEP_FACTOR ** len(passed) if config.schedule == "step" else 1.0

    return optim.lr_scheduler.LambdaLR(optimizer, factor)
