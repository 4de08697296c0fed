"""COCO's average precision of boxes and masks, by torchmetrics with pycocotools, over all images of all processes.

Masks are kept as run lengths as soon as they are there, so that a set of any size is held in little memory. Objects
that are crowds (``iscrowd``) count neither for nor against, and sizes are those of ``area``, where a data set says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from gradaug.tasks.boxes import Targets
from gradaug.tasks.task import Column, Meter, TaskScore
from netslim.errors import InputError
from netslim.extras import needed, require

if TYPE_CHECKING:
    from torchmetrics.detection import MeanAveragePrecision

FIGURES = {
    "ap": ("AP", "map"), "ap50": ("AP50", "map_50"), "ap75": ("AP75", "map_75"), "ap_small": ("APs", "map_small"),
    "ap_medium": ("APm", "map_medium"), "ap_large": ("APl", "map_large"),
}  # fmt: skip
"""Name, heading, and what torchmetrics calls it."""
COLUMNS = {name: Column(name, label, "") for name, (label, _) in FIGURES.items()}
MASK_COLUMNS = {
    name: Column(f"mask_{name}", f"mask {label}", "", detail=name != "ap") for name, (label, _) in FIGURES.items()
}
INSIDE = 0.5
"""A pixel is in a mask from this probability."""


@dataclass(frozen=True, slots=True)
class DetectionScore(TaskScore):
    """Average precision in percent: mean over classes and IoU 0.5 to 0.95, at 100 detections an image.

    None where there is nothing to measure it on: no objects of that size, no masks.
    """

    columns: ClassVar = (*COLUMNS.values(), *MASK_COLUMNS.values())

    ap: float | None
    images: int
    ap50: float | None = None
    ap75: float | None = None
    ap_small: float | None = None
    """Of objects up to 32 x 32 pixels."""
    ap_medium: float | None = None
    ap_large: float | None = None
    """From 96 x 96 pixels."""
    mask_ap: float | None = None
    mask_ap50: float | None = None
    mask_ap75: float | None = None
    mask_ap_small: float | None = None
    mask_ap_medium: float | None = None
    mask_ap_large: float | None = None


State = dict[str, list[Any]]
"""What torchmetrics keeps, by name: a value an image."""


class PrecisionMeter(Meter[Targets]):
    """Predictions and objects of the images so far."""

    def __init__(self) -> None:
        self.found: State = {}

    def add(self, output: object, labels: Targets) -> None:
        """Takes in the predictions for a batch. Raises InputError where they are none."""
        require_predictions(output)
        assert isinstance(output, Sequence)
        masked = all("masks" in one for one in (*output, *labels))
        if self.found and masked != bool(self.found["detection_mask"]):
            raise InputError("some images have masks and others have none: give all of them masks, or none")
        metric = _metric(masked)
        metric.update([_plain(one, masked) for one in output], [_plain(one, masked) for one in labels])
        state: Any = metric.metric_state  # typed as if it were no dict
        self.merge([self.found, state], in_turns=False)

    def state(self) -> State:
        return self.found

    def merge(self, states: Sequence[Any], in_turns: bool = True) -> None:
        """Every process has every so-many-th image: one of each `in_turns` is the order of the whole set."""
        parts: list[State] = [one for one in states if one]
        names = list(parts[0]) if parts else []
        join = _in_turns if in_turns else itertools.chain
        self.found = {name: list(join(*(part[name] for part in parts))) for name in names}

    def score(self) -> DetectionScore:
        if not self.found:
            return DetectionScore(None, 0)
        masked = bool(self.found["detection_mask"])
        metric = _metric(masked)
        for name, kept in self.found.items():
            setattr(metric, name, kept)
        metric._update_count = 1  # else it warns that nothing was added
        values = metric.compute()
        return DetectionScore(
            images=len(self.found["detection_scores"]),
            **_figures(values, "", "bbox_" if masked else ""),
            **(_figures(values, "mask_", "segm_") if masked else {}),
        )


def require_predictions(output: object) -> None:
    """InputError unless these are what a detector says of images in evaluation."""
    wanted = ("boxes", "labels", "scores")
    if isinstance(output, (list, tuple)) and all(isinstance(one, Mapping) for one in output):
        missing = [name for one in output for name in wanted if not isinstance(one.get(name), Tensor)]
        if not missing:
            return
        shown = f"dicts without {missing[0]}"
    else:
        shown = f"a {type(output).__name__}"
    raise InputError(
        f"the network returns {shown} in evaluation, and a detector returns a list there, a dict with boxes (n, 4), "
        "labels (n,) and scores (n,) for each image"
    )


def _metric(masked: bool) -> MeanAveragePrecision:
    require("pycocotools", "average precisions")
    with needed("torchmetrics", "average precisions"):
        from torchmetrics.detection import MeanAveragePrecision
    metric = MeanAveragePrecision(iou_type=("bbox", "segm") if masked else ("bbox",), backend="pycocotools")
    metric.warn_on_many_detections = False
    return metric


def _plain(one: Mapping[str, Tensor], masked: bool) -> dict[str, Tensor]:
    """What the metric takes of a prediction or of a target, on the CPU; masks (n, H, W) of truth values."""
    names = ("boxes", "labels", "scores", "iscrowd", "area")
    found = {name: one[name].detach().cpu() for name in names if isinstance(one.get(name), Tensor)}
    if masked:
        masks = one["masks"].detach()
        masks = masks[:, 0] if masks.ndim == 4 else masks
        found["masks"] = (masks >= INSIDE if masks.is_floating_point() else masks > 0).cpu()
    return found


def _in_turns(*parts: list[Any]) -> list[Any]:
    """The first of each, the second of each, and so on."""
    gone = object()
    return [one for row in itertools.zip_longest(*parts, fillvalue=gone) for one in row if one is not gone]


def _figures(values: Mapping[str, Tensor], ours: str, theirs: str) -> dict[str, Any]:
    return {f"{ours}{name}": _percent(values[f"{theirs}{key}"]) for name, (_, key) in FIGURES.items()}


def _percent(value: Tensor) -> float | None:
    """COCO says -1 where there is nothing to measure on."""
    return 100 * float(value) if float(value) >= 0 else None
