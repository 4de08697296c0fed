"""Running means over one epoch, and the guard that stops a run whose loss is not finite."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gradaug.errors import TrainingError
from gradaug.evaluate import Score, top1_hits
from gradaug.log import Epoch

if TYPE_CHECKING:
    from pathlib import Path

    from gradaug.step import Losses


class Tally:
    """Adds up one epoch. `done` epochs came before it; `kept` is the last good checkpoint, for the message."""

    def __init__(self, done: int, lr: float, kept: Path) -> None:
        self.done, self.lr, self.kept = done, lr, kept
        self.started = time.perf_counter()
        self.batches = self.images = 0
        self.last_full = self.last_subnets = 0.0
        self.sum_full = self.sum_subnets = self.hits = 0.0

    def add(self, losses: Losses, labels: Tensor, step: int) -> None:
        """Takes in step number `step` (from 1) before its optimizer step: a bad gradient never reaches the weights.

        Raises TrainingError when a loss is not finite.
        """
        self.last_full = float(losses.full)
        self.last_subnets = float(sum(losses.subnets, start=torch.zeros_like(losses.full)))
        self._require_finite(self.last_full, "the loss of the full network", step)
        self._require_finite(self.last_subnets, "the loss of the sub-networks", step)
        self.batches += 1
        self.images += len(labels)
        self.sum_full += self.last_full
        self.sum_subnets += self.last_subnets
        self.hits += float(top1_hits(losses.output, labels))

    @property
    def loss(self) -> float:
        """Mean task loss of the full network so far."""
        return self.sum_full / self.batches

    @property
    def top1(self) -> float:
        """Training top-1 of the full network so far, in percent."""
        return 100 * self.hits / self.images

    @property
    def images_per_second(self) -> float:
        return self.images / (time.perf_counter() - self.started)

    def epoch(self, step: int, validation: Score, lr: float, speed: float) -> Epoch:
        """The epoch's record; a validation loss that is not finite stops the run before its checkpoint is written."""
        self._require_finite(validation.loss, "the validation loss", step)
        return Epoch(
            epoch=self.done + 1,
            step=step,
            train_loss=self.loss,
            subnet_loss=self.sum_subnets / self.batches,
            train_top1=self.top1,
            val_loss=validation.loss,
            val_top1=validation.top1,
            lr=lr,
            seconds=time.perf_counter() - self.started,
            images_per_second=speed,
        )

    def _require_finite(self, value: float, name: str, step: int) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} became {value} at step {step} (epoch {self.done + 1}); start again with a smaller --lr than "
                f"{self.lr:g}. The last good checkpoint, after epoch {self.done}, is kept in {self.kept}"
            )
