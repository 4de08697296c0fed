"""The losses of a step: what ties a sub-network to the full network, the task's loss, and what a step measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from gradaug.tasks.losses import distillation as distillation
from gradaug.tasks.losses import task_loss as task_loss


@dataclass(frozen=True, slots=True)
class Losses:
    """What one step measured; everything is detached and stays on the device."""

    full: Tensor
    """Task loss of the full network, a scalar."""
    subnets: tuple[Tensor, ...]
    """Distillation loss of each sub-network, in the order drawn."""
    output: Any
    """What sub-networks learn of the full network's answer to the labelled images, of a classifier (N, classes)."""
    weight: float = 1.0
    """Of each sub-network's loss."""

    @property
    def total(self) -> Tensor:
        """The loss whose gradient was taken: the plain sum, never divided by 1 + n."""
        return sum((self.weight * subnet for subnet in self.subnets), start=self.full)
