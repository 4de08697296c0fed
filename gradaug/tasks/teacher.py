"""A teacher: a trained network whose answers the full network learns beside the labels (Hinton, Vinyals, Dean 2015).

    ga = GradAug(small, teacher=Teacher(large, weight=0.9, temperature=4.0))

The loss of the full network is (1 - weight) times the task's, plus weight times the divergence of its answer from the
teacher's for the same images, both at the temperature T and times T^2, so that its gradient keeps its size. Of a task
without probabilities it is what sub-networks learn of the full network, as a regression's squared difference.
Sub-networks learn from the full network as ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gradaug.config.sections import TEACHER_TEMPERATURE, TEACHER_WEIGHT
from gradaug.config.values import checked
from gradaug.inputs import copied, device_of
from gradaug.scopes import evaluating
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.tasks.task import AnyTask


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network that stays as it is: it runs in eval mode and without gradients.

    weight: of its share in the loss, in [0, 1]. temperature: 1 compares the answers as they are; the larger, the more
    counts what the teacher says of all the wrong classes. The defaults are those of Tian et al., "Contrastive
    representation distillation", ICLR 2020. Raises InputError for what is out of range, and for what is no network.
    """

    net: nn.Module
    weight: float = TEACHER_WEIGHT
    temperature: float = TEACHER_TEMPERATURE

    def __post_init__(self) -> None:
        if not isinstance(self.net, nn.Module):
            raise InputError(f"a teacher is a network, not {self.net!r}")
        object.__setattr__(self, "weight", checked("teacher_weight", self.weight))
        object.__setattr__(self, "temperature", checked("teacher_temperature", self.temperature))

    def loss(self, task: AnyTask, own: Tensor, output: object, images: object) -> Tensor:
        """Of the full network, a scalar: `own` is the task's, `output` what it says of `images`.

        Raises InputError for a task that has nothing to learn from another network, and for answers that differ in
        shape.
        """
        soft = task.taught(self.temperature)
        device = device_of(self.net)
        if device != own.device:
            raise InputError(f"the teacher is on {device} and the network on {own.device}: move the teacher there")
        with torch.no_grad(), evaluating(self.net):
            target = soft.target(self.net(copied(images)))
        output, target = soft.beside(output, target)
        return (1 - self.weight) * own + self.weight * soft.subnet_loss(output, target)


def require_taught(task: AnyTask, teacher: object) -> Teacher | None:
    """`teacher`, if it is one of a task that can learn from it, or None; InputError for anything else."""
    if teacher is None:
        return None
    if not isinstance(teacher, Teacher):
        raise InputError(f"teacher must be a gradaug.Teacher or None, not a {type(teacher).__name__}")
    task.taught(teacher.temperature)
    return teacher
