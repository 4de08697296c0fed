"""Everything that ``gradaug eval`` finds out about a network, as one value: sub-networks, attacks, corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gradaug import data
from gradaug.evaluation.robustness import corrupted, fgsm, mean_over
from gradaug.evaluation.score import CLASSIFICATION, SubnetScore, subnetworks
from gradaug.tasks.task import AnyTask, Column
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from netslim import SlimNet


@dataclass(frozen=True)
class Assessment:
    """What was found on the validation images of a data set. Attacks and corruptions are measured by :attr:`column`."""

    scores: list[SubnetScore]
    """The full network and sub-networks, recalibrated on training images."""
    attacks: dict[float, float] = field(default_factory=dict)
    """Of the full network by FGSM's epsilon, in pixels of [0, 1]."""
    corruptions: dict[str, dict[int, float]] = field(default_factory=dict)
    """Of the full network by kind and severity."""

    @property
    def column(self) -> Column:
        """The first figure of the task."""
        return self.scores[0].score.columns[0]

    def to_dict(self) -> dict[str, object]:
        """JSON values; only what was asked for."""
        values: dict[str, object] = {"scores": [row.to_dict() for row in self.scores]}
        if self.attacks:
            values["fgsm"] = {f"{epsilon:g}": value for epsilon, value in self.attacks.items()}
        if self.corruptions:
            values["corruptions"] = self.corruptions
            values[f"mean_corruption_{self.column.name}"] = mean_over(self.corruptions)
        return values


def assess(
    net: SlimNet,
    source: data.DataSource,
    config: TrainConfig,
    widths: Sequence[float] = (1.0,),
    skips: Sequence[int] = (0,),
    epsilons: Sequence[float] = (),
    kinds: Sequence[str] = (),
    severities: Sequence[int] = (),
    task: AnyTask = CLASSIFICATION,
) -> Assessment:
    """Scores `net` and its sub-networks; attacks and corruptions are those of the full network.

    Raises InputError for attacks and corruptions of a task that has none.
    """
    if (epsilons or kinds) and not task.altered:
        raise InputError(
            f"attacks and corruptions are for images of one size, and {task.name} has lists: leave them out"
        )
    calibration = data.calibration_batches(source, config.batch_size, config.calibration_batches, config.seed)
    validation = data.evaluation_batches(source.validation, workers=config.workers)
    rows = subnetworks(net, widths, calibration, validation, config.round_to or 1, skips, True, task, config.scope)
    normal = source.mean, source.std
    attacks = {epsilon: fgsm(net, validation, epsilon, *normal, task).headline for epsilon in epsilons}
    return Assessment(rows, attacks, corrupted(net, source, kinds, severities, config.workers, task) if kinds else {})
