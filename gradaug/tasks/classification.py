"""Classification: one label an image, or one a position; top-1, top-5, cross-entropy and calibration error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.config.values import checked, function
from gradaug.errors import DataError
from gradaug.tasks.losses import (
    UNLABELLED,
    distillation,
    fitted,
    require_answers,
    require_classes,
    smoothed,
    task_loss,
    wide,
)  # fmt: skip
from gradaug.tasks.outputs import main_output, require_in_place
from gradaug.tasks.task import LOSS, Column, Meter, Mix, Sums, Task, TaskScore, require_labels
from netslim.extras import needed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torchmetrics import Metric

    from gradaug.config.settings import TrainConfig
    from gradaug.data import DataSource

BINS = 15
"""Of the calibration error: equal intervals of confidence."""
TOP1, TOP5 = Column("top1", "top-1"), Column("top5", "top-5")
CALIBRATION = Column("calibration_error", "ECE")


@dataclass(frozen=True, slots=True)
class Score(TaskScore):
    """How well a network does on a set of images."""

    columns: ClassVar = (TOP1, TOP5, LOSS, CALIBRATION)

    top1: float
    """Correct answers in percent, 0 to 100."""
    loss: float
    """Mean cross-entropy in nats."""
    images: int
    top5: float | None = None
    """The label among the five largest logits, in percent; None with five classes or fewer."""
    calibration_error: float | None = None
    """Expected calibration error in percent (Guo et al. 2017), where it was asked for."""


@dataclass(frozen=True)
class Classification(Task[Tensor, Tensor, Tensor]):
    """Class numbers (N, ...) or probabilities (N, classes, ...) by logits (N, classes, ...).

    For a network that answers every position, each figure is an image's mean over its labelled positions.
    Raises InputError for settings out of range.
    """

    name: ClassVar[str] = "classification"
    scored: ClassVar[type[TaskScore]] = Score
    followed: ClassVar[Mapping[str, Column]] = {"hits": TOP1}
    recorded: ClassVar[tuple[Column, ...]] = (TOP1,)
    rank: ClassVar[int] = 2
    form: ClassVar[str] = "a classifier returns (1, classes)"

    criterion: Callable[[object, Tensor], Tensor] = task_loss
    """Loss of the full network, (output, labels) -> scalar."""
    temperature: float = 1.0
    """With `divergence`: of the distillation, see :func:`gradaug.tasks.losses.distillation`."""
    divergence: str = "kl"

    def __post_init__(self) -> None:
        function("criterion", self.criterion, needed=True)
        object.__setattr__(self, "temperature", checked("temperature", self.temperature))
        object.__setattr__(self, "divergence", checked("divergence", self.divergence))

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        criterion = smoothed(cls.criterion, config.label_smoothing)
        return cls(criterion=criterion, temperature=config.temperature, divergence=config.divergence)

    def loss(self, output: object, labels: Tensor) -> Tensor:
        return self.criterion(output, labels)

    def target(self, output: object) -> Tensor:
        """The main logits (N, classes, ...)."""
        return main_output(output).detach()

    def taught(self, temperature: float) -> Self:
        return replace(self, temperature=temperature, divergence="kl")

    def require_target(self, target: Tensor, labels: Tensor, values: bool, moves: bool) -> None:
        require_answers(target, labels, values=values)
        require_in_place(target, moves)

    def subnet_loss(self, output: object, target: Tensor, mix: Mix | None = None) -> Tensor:
        return distillation(output, target, self.temperature, self.divergence, mix)

    def comparable(self, output: object) -> Tensor:
        """Probabilities (N, classes, ...)."""
        logits = main_output(output)
        require_classes(logits)
        return wide(logits).softmax(1)

    def train_sums(self, target: Tensor, labels: Tensor) -> Sums:
        numbers = labels.argmax(1) if labels.shape == target.shape else labels
        return {"hits": top1_hits(target, numbers)}

    def sums(self, output: object, labels: Tensor) -> Sums:
        logits = main_output(output)
        labels = fitted(labels, logits)
        losses = F.cross_entropy(logits, labels, reduction="none", ignore_index=UNLABELLED)
        found = {"hits": top1_hits(logits, labels), "loss": over_images(losses, labels)}
        if logits.shape[1] > 5:
            found["near"] = _top5_hits(logits, labels)
        found["images"] = torch.full_like(found["hits"], len(labels))
        return {name: value.double() for name, value in found.items()}

    def score(self, sums: Sums) -> TaskScore:
        values = {name: float(value) for name, value in sums.items()}
        images = int(values.get("images", 0))
        hits, loss, near = (values.get(name, 0.0) / max(images, 1) for name in ("hits", "loss", "near"))
        return Score(100 * hits, loss, images, 100 * near if "near" in values else None)

    def meter(self, thorough: bool = False) -> Meter[Tensor]:
        return _Calibrated(self) if thorough else Meter(self)

    def require_fit(self, output: object, source: DataSource) -> None:
        require_labels(source, self.name)
        logits = main_output(output)
        if logits.ndim != self.rank:
            raise DataError(f"the network returns {tuple(logits.shape)} for one image; {self.form}")
        self._require_classes(logits, source)

    def _require_classes(self, logits: Tensor, source: DataSource) -> None:
        if logits.shape[1] != source.classes:
            raise DataError(
                f"the network has {logits.shape[1]} outputs and {source.name} has {source.classes} classes; build the "
                f"model for {source.classes} and convert it again "
                f"(netslim convert ... --arg num_classes={source.classes})"
            )


class _Calibrated(Meter[Tensor]):
    """The calibration error too, by torchmetrics."""

    def __init__(self, task: Classification) -> None:
        super().__init__(task)
        self.bins: Metric | None = None

    def add(self, output: object, labels: Tensor) -> None:
        super().add(output, labels)
        logits = main_output(output)
        labels = fitted(labels, logits)
        if self.bins is None:
            self.bins = _calibration_error(logits.shape[1]).to(logits.device)
        known = labels != UNLABELLED
        self.bins.update(logits.softmax(1).movedim(1, -1)[known], labels[known])

    def score(self) -> TaskScore:
        found = super().score()
        assert isinstance(found, Score)
        return found if self.bins is None else replace(found, calibration_error=100 * float(self.bins.compute()))


def _calibration_error(classes: int) -> Metric:
    with needed("torchmetrics", "calibration errors"):
        from torchmetrics.classification import MulticlassCalibrationError
    return MulticlassCalibrationError(classes, n_bins=BINS, norm="l1")


def top1_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of the (N, classes, ...) logits have their largest value at the label (N, ...); parts of an image
    where it has several labels."""
    return over_images((logits.argmax(dim=1) == labels).float(), labels)


def _top5_hits(logits: Tensor, labels: Tensor) -> Tensor:
    nearest = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return over_images((nearest == labels.unsqueeze(1)).any(1).float(), labels)


def over_images(values: Tensor, labels: Tensor) -> Tensor:
    """The sum, over images, of each image's mean of `values` (N, ...) over the positions that have a label."""
    if values.ndim == 1:
        return values.sum()
    known = (labels != UNLABELLED).flatten(1)
    return ((values.flatten(1) * known).sum(1) / known.sum(1).clamp(min=1)).sum()
