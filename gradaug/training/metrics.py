"""Running means over one epoch, and the guard that stops a run whose loss is not finite.

The figures of a step are one small vector, so that several processes can add theirs up in the exchange of gradients
(:func:`gradaug.distributed.processes.average_gradients`) and a GPU need not be waited for: :class:`Readout` hands it
over one step late.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from gradaug.distributed.processes import exact
from gradaug.errors import TrainingError
from gradaug.tasks.task import AnyTask, Column, TaskScore
from gradaug.training.log import Epoch

if TYPE_CHECKING:
    from collections.abc import Callable, Sized
    from pathlib import Path

    from gradaug.step import Losses


TAUGHT = "subnet_images"
"""Of a sum: the images of the steps that are not plain."""


class Speed(TypedDict):
    """How fast an epoch is trained."""

    images_per_second: float
    data_wait: float
    """Share of the time spent waiting for images."""


def figure_names(task: AnyTask) -> tuple[str, ...]:
    """What a vector of figures holds: the losses times the images, the task's sums, images, and a wish to stop."""
    return "full", "subnets", *task.followed, "images", "stop"


def figures(task: AnyTask, losses: Losses, labels: Sized, stop: bool = False) -> Tensor:
    """The vector of one batch, in double and on the device; vectors of several batches and processes are added."""
    full = exact(losses.full)
    subnets = sum(map(exact, losses.subnets), start=torch.zeros_like(full))
    sums, images = task.train_sums(losses.output, labels), len(labels)
    own = [sums[name].to(full) for name in task.followed]
    count = torch.full_like(full, images)
    return torch.stack([full * images, subnets * images, *own, count, torch.full_like(full, stop)])


class Readout:
    """Vectors from the device in the order of the steps: at once from a CPU, one step late from a GPU."""

    def __init__(self) -> None:
        self._waiting: tuple[Tensor, torch.cuda.Event] | None = None

    def push(self, vector: Tensor) -> list[list[float]]:
        """Takes a vector in, returns those that are ready."""
        if vector.device.type != "cuda":
            return [vector.tolist()]
        ready = self.flush()
        event = torch.cuda.Event()
        host = vector.to("cpu", non_blocking=True)
        event.record()
        self._waiting = host, event
        return ready

    def flush(self) -> list[list[float]]:
        """What is still on its way."""
        if self._waiting is None:
            return []
        host, event = self._waiting
        event.synchronize()
        self._waiting = None
        return [host.tolist()]


class Tally:
    """Adds up one epoch. `done` epochs came before it; `kept` is the last good checkpoint, for the message.

    plain: whether a step has no sub-networks though others have some; the mean of their losses is over the others.
    """

    def __init__(
        self, task: AnyTask, done: int, step: int, lr: float, kept: Path, sums: dict[str, float] | None = None,
        plain: Callable[[int], bool] = lambda _: False,
    ) -> None:  # fmt: skip
        self.task, self.names = task, figure_names(task)
        self.done, self.step, self.lr, self.kept = done, step, lr, kept
        self.started = time.perf_counter()
        self.plain = plain
        self.sums = dict.fromkeys(self.names, 0.0) | (sums or {})
        self.sums.setdefault(TAUGHT, self.sums["images"])
        self.since = self.sums["images"]
        self.waited = 0.0
        """Seconds in which the loop waited for images."""
        self.last: tuple[float, float | None] = (0.0, None)
        """Losses of the last step: the full network's and the sum of the sub-networks', None in a plain one."""

    def add(self, vector: list[float]) -> None:
        """Takes in the figures of the next step. Raises TrainingError when a loss is not finite."""
        plain, self.step = self.plain(self.step), self.step + 1
        values = dict(zip(self.names, vector, strict=True))
        full, subnets = values["full"] / values["images"], values["subnets"] / values["images"]
        self.last = full, None if plain else subnets
        self._require_finite(full, "the loss of the full network")
        self._require_finite(subnets, "the loss of the sub-networks")
        for name, value in values.items():
            self.sums[name] += value
        self.sums[TAUGHT] += 0 if plain else values["images"]

    @property
    def stopping(self) -> bool:
        """Whether a process was asked to stop."""
        return self.sums["stop"] > 0

    def state(self) -> dict[str, float]:
        """For a checkpoint in mid-epoch."""
        return {**self.sums, "stop": 0.0}

    @property
    def loss(self) -> float:
        """Mean task loss of the full network so far."""
        return self._mean("full")

    @property
    def measured(self) -> dict[Column, float]:
        """The task's figures of the full network on the training images so far."""
        return {column: column.scale * self._mean(name) for name, column in self.task.followed.items()}

    @property
    def images_per_second(self) -> float:
        return (self.sums["images"] - self.since) / (time.perf_counter() - self.started)

    def speed(self) -> Speed:
        """So far."""
        return {
            "images_per_second": self.images_per_second,
            "data_wait": self.waited / (time.perf_counter() - self.started),
        }

    def epoch(self, validation: TaskScore | None, lr: float, speed: Speed) -> Epoch:
        """The epoch's record; a validation loss that is not finite stops the run before its checkpoint is written."""
        loss = validation.mean_loss if validation else None
        if loss is not None:
            self._require_finite(loss, "the validation loss")
        return Epoch(
            epoch=self.done + 1,
            step=self.step,
            train_loss=self.loss,
            subnet_loss=self._mean("subnets", TAUGHT) if self.sums[TAUGHT] else None,
            train=self.measured,
            val_loss=loss,
            val={column: getattr(validation, column.name, None) for column in self.task.recorded},
            lr=lr,
            seconds=time.perf_counter() - self.started,
            **speed,
        )

    def _mean(self, name: str, over: str = "images") -> float:
        return self.sums[name] / max(self.sums[over], 1)

    def _require_finite(self, value: float, name: str) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} became {value} at step {self.step} (epoch {self.done + 1}); start again with a smaller --lr "
                f"than {self.lr:g}. The last good checkpoint is kept in {self.kept}"
            )
