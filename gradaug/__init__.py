"""GradAug: train a network together with sub-networks of itself (Yang, Zhu, Chen, NeurIPS 2020, arXiv 2006.07989).

    net = netslim.convert(model, example_inputs)
    ga = gradaug.GradAug(net, mode="randwidth")
    losses = ga.backward(images, labels)            # in your own loop, before optimizer.step()
    gradaug.average_gradients(net.parameters())     # with several processes

or, with everything around it, ``gradaug.train(net, gradaug.TrainConfig(), out="runs/mine")``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig as TrainConfig
    from gradaug.config.subnets import SubnetSettings as SubnetSettings
    from gradaug.distributed.processes import average_gradients as average_gradients
    from gradaug.errors import CheckpointError as CheckpointError
    from gradaug.errors import DataError as DataError
    from gradaug.errors import OutputError as OutputError
    from gradaug.errors import Stopped as Stopped
    from gradaug.errors import TrainingError as TrainingError
    from gradaug.evaluation.assessment import Assessment as Assessment
    from gradaug.evaluation.assessment import assess as assess
    from gradaug.evaluation.recalibration import recalibrate as recalibrate
    from gradaug.evaluation.score import score as score
    from gradaug.evaluation.sweep import Sweep as Sweep
    from gradaug.evaluation.sweep import sweep as sweep
    from gradaug.step import GradAug as GradAug
    from gradaug.step import Losses as Losses
    from gradaug.subnets.sampler import Draw as Draw
    from gradaug.subnets.sampler import draw as draw
    from gradaug.subnets.space import Space as Space
    from gradaug.tasks.classification import Classification as Classification
    from gradaug.tasks.classification import Score as Score
    from gradaug.tasks.detection import Detection as Detection
    from gradaug.tasks.multilabel import MultiLabel as MultiLabel
    from gradaug.tasks.regression import Regression as Regression
    from gradaug.tasks.segmentation import Segmentation as Segmentation
    from gradaug.tasks.task import Task as Task
    from gradaug.tasks.teacher import Teacher as Teacher
    from gradaug.training.loop import train as train
    from gradaug.training.result import Result as Result

_HOME = {
    "Assessment": "evaluation.assessment",
    "assess": "evaluation.assessment",
    "SubnetSettings": "config.subnets",
    "TrainConfig": "config.settings",
    "CheckpointError": "errors",
    "DataError": "errors",
    "OutputError": "errors",
    "Stopped": "errors",
    "TrainingError": "errors",
    "Classification": "tasks.classification",
    "Score": "tasks.classification",
    "Detection": "tasks.detection",
    "MultiLabel": "tasks.multilabel",
    "Regression": "tasks.regression",
    "Segmentation": "tasks.segmentation",
    "Task": "tasks.task",
    "Teacher": "tasks.teacher",
    "recalibrate": "evaluation.recalibration",
    "score": "evaluation.score",
    "Sweep": "evaluation.sweep",
    "sweep": "evaluation.sweep",
    "train": "training.loop",
    "Result": "training.result",
    "Draw": "subnets.sampler",
    "Space": "subnets.space",
    "draw": "subnets.sampler",
    "GradAug": "step",
    "Losses": "step",
    "average_gradients": "distributed.processes",
}
"""Public name -> its file. Loaded on first use: the command line reads the settings without importing torch."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("netslim-gradaug")
    if name not in _HOME:
        raise AttributeError(f"module 'gradaug' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"gradaug.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
