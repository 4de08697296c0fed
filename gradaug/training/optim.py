"""Optimizer and schedule: SGD, by default with Nesterov momentum and cosine decay to zero as the paper has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn, optim

from gradaug.config.registry import SCHEDULES

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig


def sgd(net: nn.Module, config: TrainConfig) -> optim.SGD:
    """SGD on every parameter that wants a gradient.

    Weight decay acts on all of them, as in the paper; without ``decay_norms`` only on those with two dimensions or
    more, which leaves out biases and the scales and shifts of norms ("bag of tricks", He et al. 2019, section 3.1).
    """
    wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in wanted if config.decay_norms or parameter.ndim > 1]
    free = [parameter for parameter in wanted if not (config.decay_norms or parameter.ndim > 1)]
    groups: list[dict[str, Sequence[nn.Parameter] | float]] = [
        {"params": decayed},
        {"params": free, "weight_decay": 0.0},
    ]
    return optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov and config.momentum > 0,
    )


def schedule(optimizer: optim.Optimizer, config: TrainConfig, per_epoch: int) -> optim.lr_scheduler.LambdaLR:
    """The learning rate as a function of the steps taken; call its ``step()`` after every optimizer step.

    A linear warm-up from 1/steps of the rate, then what ``config.schedule`` makes of it
    (:mod:`gradaug.training.schedules`). `per_epoch`: optimizer steps in an epoch.
    """
    warmup = round(config.warmup * per_epoch)
    after: Callable[[float, float, TrainConfig], float] = SCHEDULES[config.schedule].load()
    rest = max(1, config.epochs * per_epoch - warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return after(min(1.0, (step - warmup) / rest), step / per_epoch, config)

    return optim.lr_scheduler.LambdaLR(optimizer, factor)


def lay_out(schedule: optim.lr_scheduler.LambdaLR) -> None:
    """Gives the coming step the rate that the schedule says: its state may be that of a schedule of another length."""
    rates = [
        base * factor(schedule.last_epoch) for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates
