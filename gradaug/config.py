"""Every setting of a training run, once: name, default, meaning, legal range.

The command line builds its options from this table, a checkpoint stores it, and ``--resume`` compares it, so a
setting is described nowhere else. Importing this file does not import torch.

Sources: PAPER = Yang, Zhu, Chen, "GradAug", NeurIPS 2020 (arXiv 2006.07989); defaults are its CIFAR settings where
it gives one (WRN-28-10: learning rate 0.1 cosine, Nesterov momentum 0.9, weight decay 5e-4, alpha 0.8, n = 3).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

MODES = ("randwidth", "randdepth", "both", "none")


def _setting(default: Any, meaning: str, flag: str = "", runtime: bool = False) -> Any:
    """A field with its help text. A `runtime` setting is about where to run, not what: a resume may change it."""
    return dataclasses.field(default=default, metadata={"help": meaning, "flag": flag, "runtime": runtime})


@dataclass(frozen=True)
class TrainConfig:
    """The settings of one run, checked when built (:class:`netslim.errors.InputError` names the setting and its range).

    ``None`` means "chosen from the network and the hardware", which :func:`gradaug.loop.resolve` fills in; for
    `skip_blocks` and `stage_limit` it means that they are not used.
    """

    mode: str = _setting("randwidth", "Sub-networks: random width, random depth, both, or none (plain training).")
    data: str = _setting("digits", "Images to train on.")
    epochs: int = _setting(15, "Passes over the training images.")
    batch_size: int = _setting(64, "Images per step.")
    lr: float = _setting(0.1, "Peak learning rate; it falls to zero along a cosine, step by step.")
    momentum: float = _setting(0.9, "Nesterov momentum.")
    weight_decay: float = _setting(5e-4, "Weight decay, on every parameter.", flag="--wd")
    alpha: float = _setting(0.8, "Smallest width of a sub-network, in (0, 1].")
    survival: float = _setting(0.8, "Random depth: chance to keep the last block.")
    survival_first: float = _setting(1.0, "Random depth: chance to keep the first block; linear in between.")
    skip_blocks: int | None = _setting(None, "Random depth: leave out exactly this many blocks, all equally likely.")
    stage_limit: int | None = _setting(None, "Random depth: leave out at most this many blocks of one stage.")
    scale_residuals: bool = _setting(
        False, "Evaluate with each block's result times its chance to be kept, as the paper's code does."
    )
    num_subnets: int = _setting(3, "Sub-networks per step; with random width the smallest is always among them.")
    resolutions: tuple[int, ...] | None = _setting(
        None, "Image sides for the sub-networks, e.g. 32,28,24.  [default: the full side, 7/8 and 3/4 of it]"
    )
    round_to: int | None = _setting(
        None, "Widths are multiples of this many channels; 1 is the paper.  [default: what the hardware runs best]"
    )
    seed: int = _setting(0, "The run is a function of it (on CPU bit for bit).")
    channels_last: bool | None = _setting(
        None, "Keep images and weights in channels_last memory format.  [default: if the network runs that way]"
    )
    calibration_batches: int = _setting(16, "Training batches that re-estimate a sub-network's batch norm.")
    device: str = _setting("auto", "Where to compute: auto, cpu, cuda, cuda:1, ...", runtime=True)
    workers: int = _setting(0, "Processes that prepare images; the result does not depend on it.", runtime=True)

    def __post_init__(self) -> None:
        _check(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, in the order above."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; an unknown name is an InputError that lists it."""
        unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise InputError(f"unknown setting {', '.join(unknown)}: this version of gradaug does not have it")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
        }
        return cls(**values)


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that change what is computed: name -> (old value, new value)."""
    return {
        field.name: (getattr(old, field.name), getattr(new, field.name))
        for field in dataclasses.fields(TrainConfig)
        if not field.metadata["runtime"] and getattr(old, field.name) != getattr(new, field.name)
    }


def _check(config: TrainConfig) -> None:
    def require(ok: bool, name: str, expected: str) -> None:
        if not ok:
            flag = TrainConfig.__dataclass_fields__[name].metadata["flag"] or "--" + name.replace("_", "-")
            raise InputError(f"{flag} must be {expected}, not {getattr(config, name)!r}")

    require(config.mode in MODES, "mode", f"one of {', '.join(MODES)}")
    for name in ("epochs", "batch_size", "calibration_batches"):
        require(getattr(config, name) >= 1, name, "at least 1")
    require(0 < config.lr < math.inf, "lr", "a positive number")
    require(0 <= config.momentum < 1, "momentum", "in [0, 1)")
    require(0 <= config.weight_decay < math.inf, "weight_decay", "zero or a positive number")
    require(0 < config.alpha <= 1, "alpha", "in (0, 1]")
    require(0 < config.survival <= 1, "survival", "in (0, 1]")
    require(0 < config.survival_first <= 1, "survival_first", "in (0, 1]")
    require(config.skip_blocks is None or config.skip_blocks >= 0, "skip_blocks", "zero or a positive number of blocks")
    require(config.stage_limit is None or config.stage_limit >= 0, "stage_limit", "zero or a positive number of blocks")
    require(config.num_subnets >= 1, "num_subnets", "at least 1 (--mode none trains without sub-networks)")
    if config.resolutions is not None:
        good = len(config.resolutions) > 0 and all(side >= 1 for side in config.resolutions)
        require(good, "resolutions", "a list of image sides in pixels, such as 32,28,24")
    require(config.round_to is None or config.round_to >= 1, "round_to", "at least 1 channel")
    require(config.seed >= 0, "seed", "zero or a positive integer")
    require(config.workers >= 0, "workers", "zero or a positive integer")
