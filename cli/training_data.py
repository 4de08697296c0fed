"""Training images that rank, compare and recalibrate networks: where netslim's commands meet gradaug's data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from .options import require_data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gradaug.data import Batches
    from gradaug.tasks.task import AnyTask
    from netslim import SlimNet


@dataclass(frozen=True, slots=True)
class DataOptions:
    """What says which training images are taken, if any are."""

    data: str | None
    batch_size: int
    calibration_batches: int
    seed: int

    def require(self, seeded: bool) -> None:
        """UsageError for options that choose images where no data was named; seeded: the seed is for chance, too."""
        if self.data is None:
            seed = {} if seeded else {"seed": self.seed}
            sizes = {"batch_size": self.batch_size, "calibration_batches": self.calibration_batches}
            require_data(click.get_current_context(), {**sizes, **seed})

    def of(self, net: SlimNet) -> TrainingData | None:
        """The images for a network, after the same checks as in `gradaug eval`."""
        if self.data is None:
            return None
        return training_data(net, self.data, self.batch_size, self.calibration_batches, self.seed)


def together(command: Callable[..., None]) -> Callable[..., None]:
    """The command gets --data and the options of `data_options` together, as `images`."""

    @functools.wraps(command)
    def gathering(data: str | None, batch_size: int, calibration_batches: int, seed: int, **others: object) -> None:
        command(images=DataOptions(data, batch_size, calibration_batches, seed), **others)

    return gathering


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Batches of them, and what is learned on them."""

    net: SlimNet
    batches: Batches
    task: AnyTask
    said: str
    """Which they are, in words."""

    def losses(self) -> Iterator[Tensor]:
        """Of the full network: in eval mode, or in training mode where the task has a loss in that alone.

        There batch norm uses the statistics of its batch, and the running ones stay.
        """
        from gradaug.inputs import device_of, on_device
        from gradaug.tasks.task import LOSS

        self.net.train(LOSS not in self.task.scored.columns)
        with self.net.sub(1.0):
            for i, batch in enumerate(self.batches):
                images, labels = on_device(batch, device_of(self.net))
                with self.task.passing(self.net, (i,)):
                    yield self.task.loss(self.task.answer(self.net, images, labels), labels)

    def score(self, model: nn.Module) -> float:
        """How good a plain network is on these images, recalibrated on them; the more the better."""
        from gradaug.evaluation.score import recalibrate, score

        recalibrate(model, self.batches)
        found = score(model, self.batches, task=self.task)
        return found.headline if found.mean_loss is None else -found.mean_loss

    def recalibrate(self, model: nn.Module) -> str:
        """Gives an extracted network the statistics that `gradaug eval` would; RECALIBRATED or PARTLY."""
        import torch

        from gradaug.evaluation.score import recalibrate
        from netslim.notes import PARTLY, RECALIBRATED, Normalised

        seen = Normalised()
        with torch.no_grad(), seen:
            model(next(iter(self.batches))[0])
        before = [mean.clone() for mean in seen.means]
        recalibrate(model, self.batches)
        return PARTLY if any(map(torch.equal, before, seen.means)) else RECALIBRATED


def training_data(net: SlimNet, data: str, batch_size: int, calibration_batches: int, seed: int) -> TrainingData:
    """The training images on which `gradaug eval` recalibrates, after the same checks."""
    from gradaug.data import calibration_batches as batches_of
    from gradaug.data import load
    from gradaug.evaluation.score import require_fit
    from gradaug.inputs import image_shape
    from gradaug.tasks import TASKS

    source = load(data, image_shape(net), seed)
    task = TASKS[source.task].load()()
    require_fit(net, source, task)
    batches = batches_of(source, batch_size, calibration_batches, seed)
    return TrainingData(net, batches, task, f"{len(batches)} batches of {batch_size} training images of {data}")
