"""Every setting of a training run, once: name, default, meaning, legal range, section.

The command line builds its options from this table, recipes fill it in, a checkpoint stores it, and ``--resume``
compares it, so a setting is described nowhere else. Importing this file does not import torch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradaug.config import fields, kinds
from gradaug.config.registry import SCHEDULES, TASKS
from gradaug.config.sections import (
    DataSettings,
    OptimSettings,
    RegularizerSettings,
    RunSettings,
    StepSettings,
    TeacherSettings,
)
from gradaug.config.subnets import SubnetSettings
from netslim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

AUTOMATIC = ("round_to", "resolutions", "scope", "channels_last")
"""Settings whose None is a choice left to the network and the machine; every other None means "not used"."""


def begun_by_its_task(cls: type[Any]) -> type[Any]:
    """A class of settings whose task says what it begins with, and its fields what that leaves open."""
    build, names = cls.__init__, [field.name for field in dataclasses.fields(cls)]

    @functools.wraps(build)
    def begin(self: object, *args: object, **given: object) -> None:
        said = dict(zip(names, args, strict=False)) | given
        task = said.get("task", cls.task)
        usual = TASKS[task].usual if isinstance(task, str) and task in TASKS else {}
        build(self, *args, **{name: value for name, value in usual.items() if name not in said}, **given)

    cls.__init__ = begin
    return cls


@begun_by_its_task
@dataclass(frozen=True)
class TrainConfig(
    RunSettings, RegularizerSettings, TeacherSettings, OptimSettings, DataSettings, StepSettings, SubnetSettings
):
    """The settings of one run, checked when built (:class:`netslim.errors.InputError` names the setting and its range).

    Those of the last base come first. One that is not given is what its task begins with
    (:data:`gradaug.config.registry.TASKS`), or else what is listed. ``None`` means "chosen from the network and the
    hardware" for those in AUTOMATIC, which :func:`gradaug.training.configured.resolve` fills in, and "not used" for the
    others.
    """

    def __post_init__(self) -> None:
        vars(self).update(checked(vars(self)))
        for holds, sentence in _together(self):
            if not holds:
                raise InputError(sentence)

    def to_dict(self) -> dict[str, kinds.Written]:
        """Plain JSON values, in the order above."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, settings: Mapping[str, object]) -> TrainConfig:
        """The inverse of :meth:`to_dict`; an unknown name is an InputError that suggests the nearest one."""
        return cls(**checked(settings))


def checked(settings: Mapping[str, object]) -> dict[str, Any]:
    """Each of some settings as its annotated type in plain Python; what they ask of each other is TrainConfig's to say.

    InputError for a name that does not exist, a value of another type, or one out of its range.
    """
    if not isinstance(settings, Mapping):
        raise InputError(f"settings are names with a value each, such as epochs: 3, not {kinds.shown(settings)}")
    for name in settings:
        if name not in TrainConfig.__dataclass_fields__:
            hint = did_you_mean(name, TrainConfig.__dataclass_fields__, 1)
            said = name if isinstance(name, str) and name.isidentifier() else kinds.shown(name)
            raise InputError(f"unknown setting {said}: this version of gradaug does not have it{hint}")
    return {name: read(name, value, flag(name)) for name, value in settings.items()}


def read(name: str, value: object, called: str) -> kinds.Setting:
    """One setting as its type in plain Python; InputError, in which it is `called` so, for another type or range."""
    return fields.read(TrainConfig, name, value, called)


def flag(name: str) -> str:
    """The command line's name of a setting."""
    return TrainConfig.__dataclass_fields__[name].metadata["flag"] or "--" + name.replace("_", "-")


def differences(old: TrainConfig, new: TrainConfig) -> dict[str, tuple[kinds.Setting, kinds.Setting]]:
    """Settings that change what is computed: name -> (old value, new value)."""
    return {
        field.name: (getattr(old, field.name), getattr(new, field.name))
        for field in dataclasses.fields(TrainConfig)
        if not field.metadata["runtime"] and getattr(old, field.name) != getattr(new, field.name)
    }


def _together(config: TrainConfig) -> Iterable[tuple[bool, str]]:
    """What settings ask of each other."""
    needed = SCHEDULES[config.schedule].needs
    if needed is not None:
        legal = TrainConfig.__dataclass_fields__[needed].metadata["range"]
        yield (
            getattr(config, needed) is not None,
            f"--schedule {config.schedule} needs {flag(needed)}, {legal.words}",
        )
    yield (
        config.warmup < config.epochs,
        f"--warmup {config.warmup:g} leaves none of the {config.epochs} epochs to train at the full rate",
    )
    yield (
        config.accumulate <= config.batch_size,
        f"--accumulate {config.accumulate} cuts a batch of {config.batch_size} images into parts without images",
    )
    yield (
        not (config.sync_bn and config.subnets_per_rank),
        "--subnets-per-rank gives every process other channels, whose batch norm cannot be shared: leave out --sync-bn",
    )
    yield (
        config.semi != "gradaug" or config.mode != "none",
        "--semi gradaug needs sub-networks: choose another --mode than none",
    )
