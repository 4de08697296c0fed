"""Optimizer and schedule of the paper: SGD with Nesterov momentum, cosine decay to zero, updated every step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn, optim

if TYPE_CHECKING:
    from gradaug.config import TrainConfig


def sgd(net: nn.Module, config: TrainConfig) -> optim.SGD:
    """SGD on every parameter that wants a gradient; weight decay on all of them, as in the paper."""
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return optim.SGD(
        parameters,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )


def cosine(optimizer: optim.Optimizer, steps: int) -> optim.lr_scheduler.LambdaLR:
    """Learning rate times (1 + cos(pi * step / steps)) / 2; call its ``step()`` after every optimizer step."""
    return optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * min(step, steps) / steps)) / 2)
