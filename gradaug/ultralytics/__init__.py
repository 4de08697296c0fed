"""Ultralytics' models (AGPL-3.0, imported on demand): in its trainer, at other widths, and as detectors here.

    yolo = YOLO("yolo11n.pt")
    yolo.train(trainer=gradaug.ultralytics.trainer(yolo, mode="randwidth"), data="mine.yaml")

    yolo.model = gradaug.ultralytics.converted(yolo)        # predict, val, export and save as before
    yolo.model.set_subnet(width=0.5)                        # ... and narrower

`detector` gives a model the calling convention of torchvision's detectors, for ``gradaug train --task ultralytics``.
"""

from __future__ import annotations

from gradaug.ultralytics.adapter import Detector as Detector
from gradaug.ultralytics.adapter import detector as detector
from gradaug.ultralytics.adapter import save as save
from gradaug.ultralytics.models import Converted as Converted
from gradaug.ultralytics.models import converted as converted
from gradaug.ultralytics.training import Training as Training
from gradaug.ultralytics.training import trainer as trainer

__all__ = ["Converted", "Detector", "Training", "converted", "detector", "save", "trainer"]
