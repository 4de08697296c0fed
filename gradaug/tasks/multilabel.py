"""Multi-label classification: each label is there or not, whatever the others are; mean average precision, F1.

    ga = gradaug.GradAug(net, task=MultiLabel())
    losses = ga.backward(images, labels)                    # (N, C, H, W), (N, labels) of 0 and 1

The full network learns the labels by binary cross-entropy, the mean over images and labels. Sub-networks learn its
sigmoids: for each label the divergence of two outcomes, there and not there, with the same mean. One logit an image is
a label of its own: a yes or a no. A label that is nan is not known, and counts nowhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from gradaug.tasks import measures
from gradaug.tasks.classification import Classification
from gradaug.tasks.losses import AUXILIARY_WEIGHT, at_size, distillation, wide
from gradaug.tasks.outputs import require_in_place
from gradaug.tasks.task import LOSS, Column, Meter, Mix, Sums, TaskScore, require_labels
from netslim.errors import InputError
from netslim.extras import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradaug.data import DataSource

MAP, F1, ACCURACY = Column("map", "mAP"), Column("f1", "F1"), Column("label_accuracy", "label accuracy")


@dataclass(frozen=True, slots=True)
class MultiLabelScore(TaskScore):
    """How well a network does on a set of images, over all labels that are known."""

    columns: ClassVar = (MAP, F1, ACCURACY, LOSS)

    map: float | None
    """Average precision in percent, mean over the labels that an image has; None where no image has any."""
    f1: float
    """F1 in percent at a probability of one half, over all labels together."""
    label_accuracy: float
    """Labels in percent that are rightly said to be there or not at a probability of one half."""
    loss: float
    """Mean binary cross-entropy of a label in nats."""
    images: int


def binary_loss(output: object, labels: Tensor, smoothing: float = 0.0, auxiliary: float = AUXILIARY_WEIGHT) -> Tensor:
    """Mean binary cross-entropy of a label in nats, plus `auxiliary` times that of each auxiliary head.

    `labels` (N, labels, ...) from 0 to 1, nan where not known; `smoothing` moves each towards one half. Where no label
    is known, the loss is 0. Raises InputError for labels of another shape and, on the CPU, for numbers out of range.
    """
    return measures.over_heads(output, labels, functools.partial(_binary, smoothing=smoothing), auxiliary)


def _binary(logits: Tensor, labels: object, smoothing: float = 0.0) -> Tensor:
    given = _fitted(labels, logits)
    losses = F.binary_cross_entropy_with_logits(
        logits, measures.known((1 - smoothing) * given + smoothing / 2, given).to(logits.dtype), reduction="none"
    )
    return measures.mean_of_known(losses, given)


def _fitted(labels: object, logits: Tensor) -> Tensor:
    given = measures.fitted(labels, logits)
    if given.device.type == "cpu" and bool(((given < 0) | (given > 1)).any()):
        raise InputError(
            f"labels have numbers from {float(given.nan_to_num(0).min()):g} to {float(given.nan_to_num(0).max()):g}: a "
            "label is 0 (not there), 1 (there), between them, or nan (not known)"
        )
    return given


def two_outcomes(logits: Tensor) -> Tensor:
    """Logits (N, labels, ...) as those of not there and there, (N, 2, labels, ...), whose softmax is the sigmoid."""
    return torch.stack([torch.zeros_like(logits), logits], 1)


@dataclass(frozen=True)
class MultiLabel(Classification):
    """Labels (N, labels, ...) from 0 to 1 by logits (N, labels, ...); of one label also (N,) by (N,).

    Raises InputError for settings out of range.
    """

    name: ClassVar[str] = "multilabel"
    scored: ClassVar[type[TaskScore]] = MultiLabelScore
    followed: ClassVar[Mapping[str, Column]] = {"right": ACCURACY}
    recorded: ClassVar[tuple[Column, ...]] = (MAP, F1)

    criterion: Callable[[object, Tensor], Tensor] = binary_loss

    def target(self, output: object) -> Tensor:
        """The main logits (N, labels, ...)."""
        return measures.answer(output).detach()

    def require_target(self, target: Tensor, labels: Tensor, values: bool, moves: bool) -> None:
        _fitted(labels, target)
        require_in_place(target, moves)

    def subnet_loss(self, output: object, target: Tensor, mix: Mix | None = None) -> Tensor:
        logits = at_size(wide(measures.answer(output)), target)
        return distillation(two_outcomes(logits), two_outcomes(target), self.temperature, self.divergence, mix)

    def comparable(self, output: object) -> Tensor:
        """Probabilities (N, labels, ...)."""
        return wide(measures.answer(output)).sigmoid()

    def train_sums(self, target: Tensor, labels: Tensor) -> Sums:
        given = _fitted(labels, target)
        return {"right": measures.mean_of_known(_right(target, given), given) * len(given)}

    def sums(self, output: object, labels: Tensor) -> Sums:
        logits = wide(measures.answer(output))
        given = _fitted(labels, logits)
        said, there = logits > 0, given >= 0.5  # nan is not there, and what is said of it does not count
        losses = F.binary_cross_entropy_with_logits(logits, measures.known(given, given).to(logits), reduction="none")
        found = {
            "loss": measures.known(losses, given),
            "right": measures.known(_right(logits, given), given),
            "known": ~given.isnan(),
            "both": said & there,
            "either": measures.known(said.float() + there.float(), given),
        }
        return {
            **{name: value.double().sum() for name, value in found.items()},
            "images": torch.full((), len(given), dtype=torch.float64, device=given.device),
        }

    def score(self, sums: Sums) -> TaskScore:
        values = {name: float(value) for name, value in sums.items()}
        known = max(values.get("known", 0), 1)
        f1 = 2 * values.get("both", 0) / max(values.get("either", 0), 1)
        right, loss = (values.get(name, 0) / known for name in ("right", "loss"))
        return MultiLabelScore(None, 100 * f1, 100 * right, loss, int(values.get("images", 0)))

    def meter(self, thorough: bool = False) -> Meter[Tensor]:
        return _Ranked(self)

    def require_fit(self, output: object, source: DataSource) -> None:
        require_labels(source, self.name)
        measures.require_numbers(measures.answer(output), self.name, source.classes, source.name, "labels")


def _right(logits: Tensor, labels: Tensor) -> Tensor:
    return ((logits > 0) == (labels >= 0.5)).float()


class _Ranked(Meter[Tensor]):
    """The average precision too, which needs every answer: those of all positions are kept, on the CPU."""

    def __init__(self, task: MultiLabel) -> None:
        super().__init__(task)
        self.logits: list[Tensor] = []
        self.labels: list[Tensor] = []

    def add(self, output: object, labels: Tensor) -> None:
        super().add(output, labels)
        logits = measures.answer(output)
        self.logits.append(_rows(wide(logits)))
        self.labels.append(_rows(_fitted(labels, logits)))

    def state(self) -> object:
        return super().state(), self.logits, self.labels

    def merge(self, states: Sequence[Any]) -> None:
        super().merge([sums for sums, _, _ in states])
        self.logits = [each for _, logits, _ in states for each in logits]
        self.labels = [each for _, _, labels in states for each in labels]

    def score(self) -> TaskScore:
        found = super().score()
        assert isinstance(found, MultiLabelScore)
        if not self.logits:
            return found
        return replace(found, map=mean_average_precision(torch.cat(self.logits), torch.cat(self.labels)))


def _rows(values: Tensor) -> Tensor:
    """(N, labels, ...) as (N * positions, labels) on the CPU."""
    return values.detach().movedim(1, -1).flatten(0, -2).cpu()


def mean_average_precision(logits: Tensor, labels: Tensor) -> float | None:
    """In percent, the mean over the labels (N, labels) that a row has; None where there is none. nan is not known."""
    with needed("torchmetrics", "the mean average precision"):
        from torchmetrics.functional.classification import binary_average_precision
    found = [
        float(binary_average_precision(scores[there >= 0], (there[there >= 0] >= 0.5).long(), validate_args=False))
        for scores, there in zip(logits.double().sigmoid().T, labels.T, strict=True)
        if (there >= 0.5).any()
    ]
    return 100 * sum(found) / len(found) if found else None
