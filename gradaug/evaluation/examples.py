"""The first validation images beside what a network says of them, as one picture, for tasks that are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gradaug.data import evaluation_batches
from gradaug.data.pictures import grid
from gradaug.data.source import Subset
from gradaug.inputs import copied, device_of
from gradaug.scopes import evaluating

if TYPE_CHECKING:
    from gradaug.data import DataSource
    from gradaug.tasks.task import AnyTask

COUNT = 8


@torch.no_grad()
def examples(net: nn.Module, source: DataSource, task: AnyTask, count: int = COUNT) -> Tensor | None:
    """(3, H, W) uint8 of `count` images, in eval mode; None where the task has no picture."""
    first = Subset(source.validation, range(min(count, len(source.validation))))
    pictures: list[Tensor] = []
    with evaluating(net):
        for images, labels in evaluation_batches(first):
            found = task.pictures(net(copied(images, device_of(net))), images, labels, source)
            if not found:
                return None
            pictures += found
    return grid(pictures, 2)
