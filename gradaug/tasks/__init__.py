"""What is learned: from outputs and labels to losses and figures. A task is a file here and a row in TASKS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradaug.tasks.classification import Classification as Classification
from gradaug.tasks.segmentation import Segmentation as Segmentation
from gradaug.tasks.task import Task as Task

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classification, Segmentation)}
"""By the name in ``--task``."""


def of(config: TrainConfig) -> Task:
    """The task of a run."""
    return TASKS[config.task].of(config)
