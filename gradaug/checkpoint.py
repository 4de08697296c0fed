"""A checkpoint holds all that the rest of a run depends on, and replaces its predecessor in one atomic rename.

It is plain data: ``torch.load(path, weights_only=True)`` opens it, and loading executes nothing that it brings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from gradaug.config import AUTOMATIC, TrainConfig, differences
from gradaug.errors import CheckpointError, OutputError
from netslim.errors import ArchiveError
from netslim.files import atomic_write

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "gradaug.checkpoint"
VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` optimizer steps."""

    config: dict[str, Any]
    epoch: int
    """Epochs completed."""
    step: int
    """Optimizer steps taken; it is the state of the sampler and the place in the data order, too."""
    model: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any] | None
    """Of fp16's loss scaling."""
    averages: dict[str, dict[str, Any]]
    """Running means of the weights: "ema", "teacher"."""
    tally: dict[str, float] | None
    """Sums over the part of an epoch that is done; None at its end."""
    random: list[dict[str, Any]]
    """States of the random generators, one entry a process."""
    before: dict[str, Any]
    """Score of the network before training."""
    seconds: float
    """Wall time spent so far."""


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes atomically; on a full disk or an unwritable folder an error, with the file that was there intact."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    try:
        with atomic_write(path) as temporary:
            torch.save({"format": FORMAT, "version": VERSION, **content}, temporary)
    except ArchiveError as error:
        raise OutputError(f"{error} An earlier checkpoint there is intact") from error


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint to the CPU; CheckpointError says why it cannot be read."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path} to resume from; run without --resume to start one")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} is damaged or is not a checkpoint; run with --overwrite to start again"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a gradaug checkpoint; give --out the folder of a training run")
    if content.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {content.get('version')} and this gradaug reads version {VERSION}; "
            "install the version that wrote it"
        )
    names = [field.name for field in fields(Checkpoint)]
    missing = [name for name in names if name not in content]
    if missing:
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(missing)}; run with --overwrite to start again")
    return Checkpoint(**{name: content[name] for name in names})


def merge(checkpoint: Checkpoint, config: TrainConfig, path: Path) -> TrainConfig:
    """The settings to continue with: `config`, its automatic choices as the run made them.

    CheckpointError when `config` would compute something else than the run that wrote the checkpoint.
    """
    old = TrainConfig.from_dict(checkpoint.config)
    config = replace(config, **{name: getattr(old, name) for name in AUTOMATIC if getattr(config, name) is None})
    changed = differences(old, config)
    if changed:
        listed = ", ".join(f"{name} was {before!r}, now {now!r}" for name, (before, now) in changed.items())
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({listed}); leave them out, or take another --out"
        )
    return config


def load_weights(checkpoint: Checkpoint, net: nn.Module, path: Path) -> None:
    """Puts the weights into `net`; CheckpointError when they are another network's."""
    try:
        net.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} was written for another network ({reason}); give the --model of that run"
        ) from error


def random_state() -> dict[str, Any]:
    """The states of the global generators that a model may draw from (dropout, a transform of the user's)."""
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {"torch": torch.get_rng_state(), "python": [version, list(internal), gauss]}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Puts :func:`random_state` back; CUDA's only on a machine with as many GPUs."""
    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
