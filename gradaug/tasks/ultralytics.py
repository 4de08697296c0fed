"""Ultralytics' models as detectors: what :func:`gradaug.ultralytics.detector` makes, with Ultralytics' own losses.

ga = gradaug.GradAug(net, task=Ultralytics(), resolutions=(640, 480))
losses = ga.backward(images, targets)        # a list of (C, H, W), a list of dicts with boxes, labels, masks, ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradaug.tasks.detection import Detection
from netslim.errors import InputError


@dataclass(frozen=True)
class Ultralytics(Detection):
    """Detection whose sub-networks are narrow everywhere, as these models have no module that is the backbone.

    Sub-networks learn the labelled objects, by the model's own losses.
    """

    name: ClassVar[str] = "ultralytics"
    scope: ClassVar[str] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subnet_target != "truth":
            raise InputError(
                f"--subnet-target {self.subnet_target} is for torchvision's detectors: a model of Ultralytics takes "
                "truth"
            )
