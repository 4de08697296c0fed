"""Regression: numbers of an image by mean squared error; sub-networks learn the numbers that the full network says.

    ga = gradaug.GradAug(net, task=Regression())
    losses = ga.backward(images, numbers)                   # (N, C, H, W), (N, numbers)

Both losses are in the squared unit of the labels, which are best scaled to a mean of 0 and a deviation of 1. A label
that is nan is not known, and counts nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from gradaug.config.sections import TEACHER_TEMPERATURE
from gradaug.config.values import function
from gradaug.tasks import measures
from gradaug.tasks.losses import AUXILIARY_WEIGHT, at_size, wide, without_autocast
from gradaug.tasks.outputs import require_in_place
from gradaug.tasks.task import LOSS, Column, Mix, Sums, Task, TaskScore, require_labels
from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gradaug.config.settings import TrainConfig
    from gradaug.data import DataSource

R2, ERROR = Column("r2", "R²"), Column("mean_error", "MAE", "", 4)


@dataclass(frozen=True, slots=True)
class RegressionScore(TaskScore):
    """How well a network does on a set of images, over all labels that are known."""

    columns: ClassVar = (R2, ERROR, LOSS)

    r2: float | None
    """Variance of a label that is explained, in percent, mean over those that vary; None where none does."""
    mean_error: float
    """Mean absolute error, in the unit of the labels."""
    loss: float
    """Mean squared error, in that unit squared."""
    images: int


def squared_loss(output: object, labels: Tensor, auxiliary: float = AUXILIARY_WEIGHT) -> Tensor:
    """Mean squared error over images and numbers, plus `auxiliary` times that of each auxiliary head.

    `labels` (N, numbers, ...), nan where not known; where none is known, the loss is 0. Raises InputError for labels of
    another shape.
    """
    return measures.over_heads(output, labels, _squared, auxiliary)


def _squared(found: Tensor, labels: object) -> Tensor:
    given = measures.fitted(labels, found)
    return measures.mean_of_known((found - measures.known(given, given)) ** 2, given)


@dataclass(frozen=True)
class Regression(Task[Tensor, Tensor, Tensor]):
    """Numbers (N, numbers, ...) by an output of that shape; of one number also (N,) by (N,)."""

    name: ClassVar[str] = "regression"
    scored: ClassVar[type[TaskScore]] = RegressionScore
    followed: ClassVar[Mapping[str, Column]] = {"error": ERROR}
    recorded: ClassVar[tuple[Column, ...]] = (R2, ERROR)

    criterion: Callable[[object, Tensor], Tensor] = squared_loss
    """Loss of the full network, (output, labels) -> scalar."""

    def __post_init__(self) -> None:
        function("criterion", self.criterion, needed=True)

    @classmethod
    def of(cls, config: TrainConfig) -> Self:
        usual = {
            "temperature": 1.0,
            "divergence": "kl",
            "label_smoothing": 0.0,
            "teacher_temperature": TEACHER_TEMPERATURE,
        }
        said = [name for name, value in usual.items() if getattr(config, name) != value]
        if said:
            raise InputError(
                f"--{said[0].replace('_', '-')} is about probabilities, which a regression does not have: leave it out"
            )
        return cls()

    def loss(self, output: object, labels: Tensor) -> Tensor:
        return self.criterion(output, labels)

    def target(self, output: object) -> Tensor:
        """The main output (N, numbers, ...)."""
        return measures.answer(output).detach()

    def taught(self, temperature: float) -> Self:
        """It has no probabilities that a temperature would soften."""
        return self

    def require_target(self, target: Tensor, labels: Tensor, values: bool, moves: bool) -> None:
        measures.fitted(labels, target)
        require_in_place(target, moves)

    def subnet_loss(self, output: object, target: Tensor, mix: Mix | None = None) -> Tensor:
        """Mean squared difference to the full network's numbers, mixed where a view mixed the images."""
        found = measures.answer(output)
        with without_autocast(found):
            said = wide(target) if mix is None else mix(wide(target))
            return ((at_size(wide(found), said) - said) ** 2).mean()

    def comparable(self, output: object) -> Tensor:
        """The numbers themselves."""
        return wide(measures.answer(output))

    def train_sums(self, target: Tensor, labels: Tensor) -> Sums:
        given = measures.fitted(labels, target)
        return {"error": measures.mean_of_known((target - given).abs(), given) * len(given)}

    def sums(self, output: object, labels: Tensor) -> Sums:
        found = measures.answer(output).double()
        given = measures.fitted(labels, found).double()
        away = measures.known(found - given, given)
        each = {
            "known": (~given.isnan()).double(),
            "labels": measures.known(given, given),
            "squares": measures.known(given**2, given),
            "error": away.abs(),
            "loss": away**2,
        }
        return {
            **{name: value.transpose(0, 1).flatten(1).sum(1) for name, value in each.items()},
            "images": torch.full((), len(given), dtype=torch.float64, device=given.device),
        }

    def score(self, sums: Sums) -> TaskScore:
        if not sums:
            return RegressionScore(None, 0.0, 0.0, 0)
        known = sums["known"].sum().clamp(min=1)
        varying = sums["squares"] - sums["labels"] ** 2 / sums["known"].clamp(min=1)
        there = varying > 1e-12 * sums["squares"]
        explained = (1 - sums["loss"][there] / varying[there]).mean()
        return RegressionScore(
            100 * float(explained) if there.any() else None,
            float(sums["error"].sum() / known),
            float(sums["loss"].sum() / known),
            int(sums["images"]),
        )

    def require_fit(self, output: object, source: DataSource) -> None:
        require_labels(source, self.name)
        measures.require_numbers(measures.answer(output), self.name, source.classes, source.name, "numbers")
