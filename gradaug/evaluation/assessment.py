"""Everything that ``gradaug eval`` finds out about a network, as one value: sub-networks, attacks, corruptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gradaug import data
from gradaug.evaluation.robustness import corrupted, fgsm, mean_top1
from gradaug.evaluation.score import SubnetScore, subnetworks

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from netslim import SlimNet


@dataclass(frozen=True)
class Assessment:
    """Accuracies in percent, on the validation images of a data set."""

    scores: list[SubnetScore]
    """The full network and sub-networks, recalibrated on training images."""
    attacks: dict[float, float] = field(default_factory=dict)
    """Top-1 of the full network by FGSM's epsilon, in pixels of [0, 1]."""
    corruptions: dict[str, dict[int, float]] = field(default_factory=dict)
    """Top-1 of the full network by kind and severity."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values; only what was asked for."""
        values: dict[str, Any] = {"scores": [row.to_dict() for row in self.scores]}
        if self.attacks:
            values["fgsm"] = {f"{epsilon:g}": top1 for epsilon, top1 in self.attacks.items()}
        if self.corruptions:
            values["corruptions"] = self.corruptions
            values["mean_corruption_top1"] = mean_top1(self.corruptions)
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
) -> Assessment:
    """Scores `net` and its sub-networks; attacks and corruptions are those of the full network."""
    calibration = data.calibration_batches(source, config.batch_size, config.calibration_batches, config.seed)
    validation = data.evaluation_batches(source.validation, workers=config.workers)
    rows = subnetworks(net, widths, calibration, validation, config.round_to or 1, skips, calibration_error=True)
    attacks = {epsilon: fgsm(net, validation, epsilon, source.mean, source.std).top1 for epsilon in epsilons}
    return Assessment(rows, attacks, corrupted(net, source, kinds, severities, config.workers) if kinds else {})
