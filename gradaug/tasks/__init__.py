"""What is learned: from outputs and labels to losses and figures. A task is a file here and a row in the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradaug.config.registry import TASKS
from gradaug.tasks.classification import Classification as Classification
from gradaug.tasks.detection import Detection as Detection
from gradaug.tasks.multilabel import MultiLabel as MultiLabel
from gradaug.tasks.regression import Regression as Regression
from gradaug.tasks.segmentation import Segmentation as Segmentation
from gradaug.tasks.task import AnyTask as AnyTask
from gradaug.tasks.task import Task as Task

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig


def of(config: TrainConfig) -> AnyTask:
    """The task of a run."""
    found: AnyTask = TASKS[config.task].load().of(config)
    return found
