"""Ultralytics' models (AGPL-3.0, imported on demand): as converted networks of their own classes, and in its trainer.

yolo = YOLO("yolo11n.pt")
yolo.train(trainer=gradaug.ultralytics.trainer(yolo, mode="randwidth"), data="mine.yaml")

yolo.model = gradaug.ultralytics.converted(yolo)        # predict, val, export and save as before
yolo.model.set_subnet(width=0.5)                        # ... and narrower
"""

from __future__ import annotations

from gradaug.ultralytics.models import Converted as Converted
from gradaug.ultralytics.models import converted as converted
from gradaug.ultralytics.training import Training as Training
from gradaug.ultralytics.training import trainer as trainer

__all__ = ["Converted", "Training", "converted", "trainer"]
