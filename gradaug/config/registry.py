"""Names that a setting may be, each with what it stands for, a row each: a name without an implementation cannot be.

    VIEWS["rotation"].load()        # the function rotation of gradaug/subnets/views.py

Settings, help texts and messages take their names from the keys, and who uses one loads it from its row. Nothing here
imports torch. In another order the same settings would give other networks: regularisers act in the order of the rows.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """Where the implementation is."""

    place: str
    """module:attribute."""

    def load(self) -> Any:
        module, _, attribute = self.place.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True, slots=True)
class DataRow(Row):
    """A data set: a function (what stands behind the colon, input shape, seed, number of labels, augmentation)."""

    where: str = ""
    """What has to stand behind the colon."""
    images: int | None = None
    """Training images, where their number is always the same."""
    alone: bool = False
    """Whether the colon and what stands behind it may be left out."""

    def spelt(self, name: str) -> str:
        behind = f":{self.where}" if self.where else ""
        return f"{name}[{behind}]" if self.alone else f"{name}{behind}"


@dataclass(frozen=True, slots=True)
class TaskRow(Row):
    """What is learned, a gradaug.tasks.task.Task."""

    usual: Mapping[str, float] = field(default_factory=dict)
    """Settings that a run begins with, where neither a recipe nor a person says anything else."""


@dataclass(frozen=True, slots=True)
class ScheduleRow(Row):
    """A learning rate over a run, a function of gradaug.training.schedules."""

    needs: str | None = None
    """A setting that it cannot do without."""


REGULARIZERS = {
    "cutout": Row("gradaug.regularizers.cutout:Cutout"),
    "mixup": Row("gradaug.regularizers.mixing:Mixup"),
    "cutmix": Row("gradaug.regularizers.mixing:CutMix"),
    "dropblock": Row("gradaug.regularizers.dropblock:AtLastMaps"),
    "stochastic-depth": Row("gradaug.regularizers.blocks:DroppedBatches"),
    "droppath": Row("gradaug.regularizers.blocks:DroppedImages"),
    "shakedrop": Row("gradaug.regularizers.shakedrop:Shaken"),
}
"""Each a gradaug.regularizers.hooks.Regularizer."""

TRACKERS = {
    "tensorboard": Row("gradaug.training.trackers:TensorBoard"),
    "wandb": Row("gradaug.training.trackers:Wandb"),
    "mlflow": Row("gradaug.training.trackers:MLflow"),
}
"""Each a gradaug.training.trackers.Tracker."""

VIEWS = {
    "rotation": Row("gradaug.subnets.views:rotation"),
    "crop": Row("gradaug.subnets.views:crop"),
    "color": Row("gradaug.subnets.views:color"),
    "randaugment": Row("gradaug.subnets.views:randaugment"),
    "cutmix": Row("gradaug.subnets.views:cutmix"),
    "cutout": Row("gradaug.subnets.views:cutout"),
}
"""Each a function of the images and what the transforms of a view share, a gradaug.subnets.views.Scene."""

DETECTION = {"epochs": 14, "batch_size": 4, "lr": 0.05, "weight_decay": 1e-4, "warmup": 0.5, "clip_norm": 5.0}
"""For a small detector that begins with random weights."""

TASKS = {
    "classification": TaskRow("gradaug.tasks.classification:Classification"),
    "multilabel": TaskRow("gradaug.tasks.multilabel:MultiLabel"),
    "regression": TaskRow("gradaug.tasks.regression:Regression"),
    "segmentation": TaskRow("gradaug.tasks.segmentation:Segmentation"),
    "detection": TaskRow("gradaug.tasks.detection:Detection", DETECTION),
    "ultralytics": TaskRow("gradaug.tasks.ultralytics:Ultralytics", DETECTION),
}

SCHEDULES = {
    "cosine": ScheduleRow("gradaug.training.schedules:cosine"),
    "step": ScheduleRow("gradaug.training.schedules:step", needs="milestones"),
    "poly": ScheduleRow("gradaug.training.schedules:poly"),
    "constant": ScheduleRow("gradaug.training.schedules:constant"),
}

SOURCES = {
    "digits": DataRow("gradaug.data.digits:digits", images=1437),
    "digit-masks": DataRow("gradaug.data.digit_masks:digit_masks", images=1437),
    "cifar10": DataRow("gradaug.data.in_memory:cifar10", "DIR", 50_000),
    "cifar100": DataRow("gradaug.data.in_memory:cifar100", "DIR", 50_000),
    "stl10": DataRow("gradaug.data.in_memory:stl10", "DIR", 5_000),
    "fashion-mnist": DataRow("gradaug.data.idx:fashion_mnist", "DIR", 60_000, alone=True),
    "idx": DataRow("gradaug.data.idx:idx", "DIR"),
    "folder": DataRow("gradaug.data.image_folder:folder", "DIR"),
    "webdataset": DataRow("gradaug.data.webdataset:webdataset", "SHARDS"),
    "hf": DataRow("gradaug.data.hugging_face:hf", "DIR"),
    "csv-labels": DataRow("gradaug.data.tables:csv_labels", "DIR"),
    "csv-values": DataRow("gradaug.data.tables:csv_values", "DIR"),
    "voc-masks": DataRow("gradaug.data.voc_masks:voc_masks", "DIR", 1_464),
    "ade20k": DataRow("gradaug.data.ade20k:ade20k", "DIR", 20_210),
    "cityscapes": DataRow("gradaug.data.cityscapes:cityscapes", "DIR", 2_975),
    "scenes": DataRow("gradaug.data.scenes:scenes"),
    "coco": DataRow("gradaug.data.coco:coco", "DIR", 118_287),
    "voc": DataRow("gradaug.data.voc:voc", "DIR", 5_717),
    "yolo": DataRow("gradaug.data.yolo:yolo", "DIR"),
    "synthetic": DataRow("gradaug.data.synthetic:synthetic"),
}
