"""A checkpoint holds all that the rest of a run depends on, and replaces its predecessor in one atomic rename.

The file is of the form of a converted network's: a JSON document, every field of it typed, and tensors, in one file of
safetensors with checksums over every byte. Loading executes nothing that it brings.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from gradaug.errors import CheckpointError, OutputError
from gradaug.scopes import Generators
from netslim.archive import container
from netslim.errors import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping
    from pathlib import Path

FORMAT = "gradaug.checkpoint"
VERSION = 3

Natural = Annotated[int, Meta(ge=0, le=1 << 62)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
Scalar = bool | Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)] | Finite | Annotated[str, Meta(max_length=4096)] | None
Setting = Scalar | Annotated[list[Scalar], Meta(max_length=4096)]
Settings = dict[str, Setting]


@dataclass(frozen=True)
class Length:
    """How long a run was to be until it got another number of epochs."""

    epochs: Natural
    steps: Natural
    """Optimizer steps taken by then."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` optimizer steps."""

    config: Settings
    epoch: int
    """Epochs completed."""
    step: int
    """Optimizer steps taken; it is the state of the sampler and the place in the data order, too."""
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: Settings
    scaler: Settings | None
    """Of fp16's loss scaling."""
    averages: dict[str, dict[str, Tensor]]
    """Running means of the weights: "ema", "teacher"."""
    tally: dict[str, float] | None
    """Sums over the part of an epoch that is done; None at its end."""
    random: list[Generators]
    """One entry a process."""
    before: dict[str, Scalar]
    """Score of the network before training."""
    seconds: float
    """Wall time spent so far."""
    lengths: tuple[Length, ...] = ()
    """Those that the run had before, the first one first."""
    teacher: str | None = None
    """The fingerprint of the network that teaches the run, which is in a file of its own."""


class _Python(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The state of Python's generator, and how many GPUs had one of their own."""

    version: Natural
    internal: Annotated[list[Natural], Meta(max_length=1024)]
    gauss: Finite | None
    gpus: Annotated[int, Meta(ge=0, le=1024)]


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint without its tensors. same: names of tensors that are another one's."""

    config: Settings
    epoch: Natural
    step: Natural
    groups: Annotated[list[Settings], Meta(max_length=4096)]
    schedule: Settings
    scaler: Settings | None
    averages: Annotated[list[str], Meta(max_length=16)]
    tally: dict[str, Finite] | None
    random: Annotated[list[_Python], Meta(max_length=65536)]
    before: dict[str, Scalar]
    seconds: Annotated[float, Meta(ge=0, le=1e12)]
    same: Annotated[dict[str, str], Meta(max_length=100_000)]
    lengths: Annotated[list[Length], Meta(max_length=4096)] = []
    teacher: Annotated[str, Meta(max_length=64)] | None = None


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes atomically; on a full disk or an unwritable folder an error, with the file that was there intact."""
    tensors = dict(_tensors(checkpoint))
    same = _same(tensors)
    document = _Document(
        config=checkpoint.config,
        epoch=checkpoint.epoch,
        step=checkpoint.step,
        groups=[{k: _setting(v) for k, v in group.items()} for group in checkpoint.optimizer["param_groups"]],
        schedule={k: _setting(v) for k, v in checkpoint.schedule.items()},
        scaler=checkpoint.scaler,
        averages=list(checkpoint.averages),
        tally=checkpoint.tally,
        random=[_Python(*state.python, len(state.cuda)) for state in checkpoint.random],  # type: ignore[arg-type]
        before=checkpoint.before,
        seconds=checkpoint.seconds,
        same=same,
        lengths=list(checkpoint.lengths),
        teacher=checkpoint.teacher,
    )
    try:
        encoded = msgspec.json.encode(document)
        msgspec.json.decode(encoded, type=_Document)
        container.write(path, FORMAT, VERSION, encoded, {k: v for k, v in tensors.items() if k not in same})
    except ArchiveError as error:
        raise OutputError(f"{error} An earlier checkpoint there is intact") from error
    except (msgspec.MsgspecError, TypeError) as error:
        raise OutputError(f"cannot write {path}: the state of this run is no plain data ({error})") from error


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint to the CPU; CheckpointError says why it cannot be read."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path} to resume from; run without --resume to start one")
    try:
        content = container.read(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except container.Damaged as error:
        raise CheckpointError(
            f"{path} is damaged or is not a checkpoint of this gradaug ({error}); run with --overwrite to start again"
        ) from error
    if content.kind != FORMAT:
        raise CheckpointError(f"{path} is not a gradaug checkpoint; give --out the folder of a training run")
    if content.version != VERSION:
        raise CheckpointError(
            f"{path} has format version {content.version} and this gradaug reads version {VERSION}; "
            "install the version that wrote it"
        )
    try:
        return _checkpoint(msgspec.json.decode(content.document, type=_Document), content.tensors)
    except (msgspec.MsgspecError, RecursionError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is damaged ({reason}); run with --overwrite to start again") from error


# ------------------------------------------------------------------------------------------------- tensors by name


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a checkpoint: model/KEY, averages/NAME/KEY, optimizer/NUMBER/KEY, random/PROCESS/torch or GPU."""
    for key, tensor in checkpoint.model.items():
        yield f"model/{key}", tensor
    for name, state in checkpoint.averages.items():
        for key, tensor in state.items():
            yield f"averages/{name}/{key}", tensor
    for number, held in checkpoint.optimizer["state"].items():
        for key, tensor in held.items():
            if tensor is not None:
                yield f"optimizer/{number}/{key}", tensor
    for rank, found in enumerate(checkpoint.random):
        for key, tensor in (("torch", found.torch), *((str(i), state) for i, state in enumerate(found.cuda))):
            yield f"random/{rank}/{key}", tensor


def _same(tensors: Mapping[str, object]) -> dict[str, str]:
    """Names of tensors that are another one's: parameters that layers share."""
    first: dict[tuple[Hashable, ...], str] = {}
    found: dict[str, str] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise OutputError(f"the state of this run cannot be stored: {name} is a {type(tensor).__name__}")
        key = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and first.setdefault(key, name) != name:
            found[name] = first[key]
    return found


def _setting(value: Setting | tuple[Scalar, ...]) -> Setting:
    return list(value) if isinstance(value, (list, tuple)) else value


def _checkpoint(document: _Document, tensors: dict[str, Tensor]) -> Checkpoint:
    if document.same.keys() & tensors.keys():
        raise ValueError("a tensor is itself and another one")
    every = tensors | {name: tensors[other] for name, other in document.same.items()}
    optimizer: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under(every, "optimizer").items():
        number, _, key = name.partition("/")
        if not (number.isascii() and number == str(int(number)) and int(number) >= 0):
            raise ValueError(f"{name} is the state of no parameter")
        optimizer.setdefault(int(number), {})[key] = tensor
    return Checkpoint(
        config=document.config,
        epoch=document.epoch,
        step=document.step,
        model=_under(every, "model"),
        optimizer={"state": optimizer, "param_groups": document.groups},
        schedule=document.schedule,
        scaler=document.scaler,
        averages={name: _under(every, f"averages/{name}") for name in document.averages},
        tally=document.tally,
        random=[_generators(every, rank, python) for rank, python in enumerate(document.random)],
        before=dict(document.before),
        seconds=document.seconds,
        lengths=tuple(document.lengths),
        teacher=document.teacher,
    )


def _under(tensors: Mapping[str, Tensor], folder: str) -> dict[str, Tensor]:
    return {name[len(folder) + 1 :]: t for name, t in tensors.items() if name.startswith(f"{folder}/")}


def _generators(tensors: Mapping[str, Tensor], rank: int, python: _Python) -> Generators:
    cuda = tuple(tensors[f"random/{rank}/{i}"] for i in range(python.gpus))
    state = python.version, tuple(python.internal), python.gauss
    try:
        random.Random().setstate(state)
        torch.Generator().set_state(tensors[f"random/{rank}/torch"])
    except (TypeError, RuntimeError) as error:
        raise ValueError("a random generator's state is none") from error
    return Generators(tensors[f"random/{rank}/torch"], state, cuda)
