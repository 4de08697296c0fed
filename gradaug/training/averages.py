"""Running means of a network's weights: an EMA, and the mean teacher, which teaches on images without labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from gradaug.inputs import copied
from gradaug.tasks.classification import Classification

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradaug.tasks.task import AnyTask
    from netslim import SlimNet

RAMP = 0.2
"""Share of the run after which the consistency loss has its full weight."""


class Average:
    """A moving average of parameters and buffers; starts as a copy of `net`.

    The decay of update n is min(decay, n / (n + 1)), a plain mean at first, so that the weights of the beginning do not
    stay in it (Tarvainen and Valpola 2017, section 3).
    """

    def __init__(self, net: SlimNet, decay: float) -> None:
        self.model = AveragedModel(net, multi_avg_fn=_towards(decay), use_buffers=True)
        self.model.requires_grad_(False)

    @property
    def net(self) -> SlimNet:
        return cast("SlimNet", self.model.module)

    def update(self, net: nn.Module) -> None:
        """After every optimizer step."""
        self.model.update_parameters(net)

    def state_dict(self) -> dict[str, Tensor]:
        return self.model.state_dict()


def _towards(decay: float) -> Callable[..., None]:
    @torch.no_grad()
    def move(means: list[Tensor], values: list[Tensor], count: Tensor) -> None:
        share = 1 - min(decay, int(count) / (int(count) + 1))
        for mean, value in zip(means, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean), share)
            else:
                mean.copy_(value)

    return move


class MeanTeacher(Average):
    """Mean Teacher (Tarvainen and Valpola, NeurIPS 2017): the student agrees with the running mean of itself.

    The loss is the mean squared difference of what the task compares (probabilities, in classification) on two
    augmentations of unlabelled images, times a weight that rises along exp(-5 (1 - t)^2) over the first fifth of the
    run. The teacher runs with batch statistics.
    """

    def __init__(self, net: SlimNet, decay: float, weight: float, steps: int, task: AnyTask | None = None) -> None:
        super().__init__(net, decay)
        self.weight, self.steps, self.task = weight, steps, task or Classification()

    def loss(self, student: Callable[[Tensor], object], images: Tensor, step: int) -> Tensor:
        """`images` (2M, ...): M images for the student, and the same M, augmented differently, for the teacher."""
        images, others = images.chunk(2)
        with torch.no_grad(), self.net.train().sub():
            target = self.task.comparable(self.net(copied(others)))
        answer = self.task.comparable(student(copied(images)))
        return self.weight * ramp(step / (RAMP * self.steps)) * F.mse_loss(answer, target)


def ramp(share: float) -> float:
    """From exp(-5) at 0 to 1 at 1 and beyond (Laine and Aila 2017)."""
    return math.exp(-5 * (1 - min(share, 1)) ** 2)
