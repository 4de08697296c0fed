"""``--teacher``: the network that a run learns from, opened, tried on the run's images, and known again at a resume."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from gradaug.scopes import evaluating
from gradaug.tasks.teacher import Teacher
from gradaug.training.opening import opened
from netslim.errors import InputError, NetslimError

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from gradaug.data import DataSource
    from gradaug.tasks.task import AnyTask
    from netslim import SlimNet


def teacher_of(config: TrainConfig, net: SlimNet, source: DataSource, task: AnyTask, trust: bool) -> Teacher | None:
    """The teacher that `config` names, on the device of `net`; None where it names none.

    Raises InputError for one that cannot teach `net` on `source`, ArchiveError where its file cannot be opened.
    """
    if config.teacher is None:
        return None
    task.taught(config.teacher_temperature)
    path = Path(config.teacher).expanduser()
    large = opened(path, trust=trust, prove=False).net.to(next(net.parameters()).device)
    if config.channels_last:
        large.to(memory_format=torch.channels_last)
    teacher = Teacher(large.requires_grad_(False), config.teacher_weight, config.teacher_temperature)
    try:
        _try(teacher, net, source, task)
    except NetslimError as error:
        raise InputError(f"{path} cannot teach this network: {error}") from error
    return teacher


@torch.no_grad()
def _try(teacher: Teacher, net: SlimNet, source: DataSource, task: AnyTask) -> None:
    """InputError or DataError unless both answer an image of the run alike."""
    images = task.blank(net, 1)
    with evaluating(net), evaluating(teacher.net):
        try:
            said = teacher.net(images)
        except NetslimError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"it does not run on images {tuple(images.shape[1:])} ({reason})") from error
        task.require_fit(said, source)
        teacher.loss(task, torch.zeros((), device=images.device), net(images), images)


def fingerprint(net: nn.Module) -> str:
    """Of the weights of a network, whatever file they are in."""
    found = sha256()
    for name, tensor in sorted(net.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
