"""What a run that goes on takes out of a checkpoint, each part held to the run's own: settings, place, weights, states.

Every function raises CheckpointError, in one sentence, for a part that does not fit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
from torch import Tensor, nn

from gradaug.config.settings import AUTOMATIC, TrainConfig, differences
from gradaug.errors import CheckpointError
from gradaug.training.checkpoint import Checkpoint, Length
from netslim.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import optim
    from torch.distributed.checkpoint.stateful import Stateful

    from gradaug.tasks.task import TaskScore

LENGTH = "epochs"
"""The setting that may be another one when a run goes on."""


def merge(checkpoint: Checkpoint, config: TrainConfig, path: Path) -> TrainConfig:
    """The settings to continue with: `config`, its automatic choices as the run made them.

    CheckpointError when `config` would compute something else than the run that wrote the checkpoint. It may have
    another number of epochs: :func:`lengths`.
    """
    old = TrainConfig.from_dict(checkpoint.config)
    config = replace(config, **{name: getattr(old, name) for name in AUTOMATIC if getattr(config, name) is None})
    changed = {name: values for name, values in differences(old, config).items() if name != LENGTH}
    if changed:
        listed = ", ".join(f"{name} was {before!r}, now {now!r}" for name, (before, now) in changed.items())
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({listed}); leave them out, or take another --out"
        )
    return config


def lengths(checkpoint: Checkpoint, epochs: int, per_epoch: int, path: Path) -> tuple[Length, ...]:
    """What the run was to be before it is to have so many `epochs`, which are no fewer than it has begun."""
    before = TrainConfig.from_dict(checkpoint.config).epochs
    require_place(checkpoint, before, per_epoch, path)
    begun = -(-checkpoint.step // per_epoch)
    if epochs < begun:
        raise CheckpointError(
            f"{path} is in epoch {begun} already ({checkpoint.step} steps), and --epochs {epochs} are fewer: give "
            f"{begun} at least, or leave it out"
        )
    return checkpoint.lengths if epochs == before else (*checkpoint.lengths, Length(before, checkpoint.step))


def first_step(config: TrainConfig, per_epoch: int, known: tuple[Length, ...] = ()) -> int:
    """The step from which a run has sub-networks; where it had some before it was to be longer, it goes on with them.

    InputError where no step of the run would have any.
    """
    begun = [(_share(config, length.epochs, per_epoch), length.steps) for length in known]
    first = next((step for step, until in begun if step < until), _share(config, config.epochs, per_epoch))
    steps = config.epochs * per_epoch
    if config.mode != "none" and (steps - first) // config.subnet_every < 1:
        raise InputError(
            f"--subnet-from {config.subnet_from:g} and --subnet-every {config.subnet_every} leave none of the run's "
            f"{steps} steps to sub-networks: lower them, or take --mode none"
        )
    return first


def _share(config: TrainConfig, epochs: int, per_epoch: int) -> int:
    return round(config.subnet_from * epochs * per_epoch)


def said(checkpoint: Checkpoint, known: tuple[Length, ...], config: TrainConfig) -> list[str]:
    """A sentence where the run goes on for another number of epochs."""
    if known == checkpoint.lengths:
        return []
    sentence = (
        f"the run was to have {known[-1].epochs} epochs and goes on to {config.epochs}: from step {checkpoint.step} on "
        f"the learning rate ({config.schedule}) is that of a run of {config.epochs} epochs"
    )
    return [sentence]


def require_teacher(checkpoint: Checkpoint, teacher: str | None, path: Path) -> None:
    """CheckpointError unless the run has the teacher of this fingerprint, or none where that is None."""
    if checkpoint.teacher == teacher:
        return
    if teacher is None:
        raise CheckpointError(f"{path} belongs to a run with a teacher: name its file with --teacher")
    if checkpoint.teacher is None:
        raise CheckpointError(f"{path} belongs to a run without a teacher: leave out --teacher, or take another --out")
    raise CheckpointError(
        f"{path} belongs to a run with another teacher: name the file that it began with, whose weights are unchanged"
    )


def load_weights(state: dict[str, Tensor], net: nn.Module, path: Path) -> None:
    """Puts a state_dict into `net`; CheckpointError when it is another network's."""
    now = net.state_dict()
    for name in now.keys() & state.keys():
        if now[name].dtype != state[name].dtype:
            raise CheckpointError(f"{path} has {name} in {state[name].dtype}, and the network in {now[name].dtype}")
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} was written for another network ({reason}); give the --model of that run"
        ) from error


def score(checkpoint: Checkpoint, path: Path, kind: type[TaskScore]) -> TaskScore:
    """The score before training, of a task's `kind`; CheckpointError when it is none."""
    try:
        return msgspec.convert(checkpoint.before, kind)
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path} is damaged: its score is none ({error})") from error


def load_optimizer(checkpoint: Checkpoint, optimizer: optim.Optimizer, path: Path) -> None:
    """Puts the optimizer's state back; CheckpointError when it is that of other parameters."""
    now, saved = optimizer.state_dict(), checkpoint.optimizer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for before, group in zip(saved["param_groups"], now["param_groups"], strict=False):
        if before.keys() != group.keys() or before["params"] != group["params"]:
            raise CheckpointError(f"{path} was written for another optimizer; run with --overwrite to start again")
    fits = len(saved["param_groups"]) == len(now["param_groups"])
    for number, held in saved["state"].items():
        fits = fits and number < len(parameters)
        fits = fits and all(t.dim() == 0 or t.shape == parameters[number].shape for t in held.values())
    if not fits:
        raise CheckpointError(f"{path} was written for other parameters; give the --model of that run")
    optimizer.load_state_dict(saved)


def load_state(checkpoint: Checkpoint, name: str, into: Stateful, path: Path) -> None:
    """Puts the state `name` ("schedule", "scaler") back; CheckpointError when it is not one of `into`."""
    saved, now = getattr(checkpoint, name), into.state_dict()
    alike = {int: (int,), float: (int, float)}
    fits = saved is not None and saved.keys() == now.keys()
    if not (fits and all(isinstance(saved[k], alike.get(type(v), (type(v),))) for k, v in now.items())):
        raise CheckpointError(f"{path} is damaged: its {name} is none; run with --overwrite to start again")
    into.load_state_dict(saved)


def require_place(checkpoint: Checkpoint, epochs: int, per_epoch: int, path: Path) -> None:
    """CheckpointError unless epoch and step are a place in a run of so many epochs."""
    within = checkpoint.step - checkpoint.epoch * per_epoch
    whole = within == 0 if checkpoint.tally is None else 0 < within <= per_epoch
    if not (whole and checkpoint.step <= epochs * per_epoch):
        raise CheckpointError(
            f"{path} says that it was written in epoch {checkpoint.epoch} after {checkpoint.step} steps, and this run "
            f"has {epochs} epochs of {per_epoch} steps; run with --overwrite to start again"
        )
