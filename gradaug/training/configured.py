"""What the settings of a run come to for one network: the step, and every choice that was left open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from gradaug import tasks
from gradaug.distributed.reduction import exchanging
from gradaug.step import GradAug
from gradaug.subnets.limits import runs_channels_last
from gradaug.subnets.space import Space
from netslim import SlimNet

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from gradaug.tasks.teacher import Teacher

PRECISIONS = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def grad_aug(
    net: SlimNet,
    config: TrainConfig,
    rank: int = 0,
    scaler: torch.amp.GradScaler | None = None,
    teacher: Teacher | None = None,
) -> GradAug:
    """The step that `config` describes."""
    return GradAug(
        exchanging(net) if config.sync == "ddp" else net,
        Space.for_network(net, config, tasks.of(config)),
        seed=config.seed,
        rank=rank if config.subnets_per_rank else 0,
        task=tasks.of(config),
        teacher=teacher,
        subnet_weight=config.subnet_weight,
        track_stats=config.track_stats,
        accumulate=config.accumulate,
        amp=PRECISIONS[config.amp],
        scaler=scaler,
        forward=net,
    )


def resolve(config: TrainConfig, net: SlimNet) -> TrainConfig:
    """`config` with every choice that was left to the network and the machine written down."""
    task = tasks.of(config)
    space = Space.for_network(net, config, task)
    channels_last = runs_channels_last(net, task) if config.channels_last is None else config.channels_last
    return replace(
        config,
        resolutions=space.resolutions or None,
        round_to=space.round_to,
        scope=space.scope,
        channels_last=channels_last,
    )
