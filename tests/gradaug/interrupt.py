"""A run that somebody kills after so many steps."""

from __future__ import annotations

from gradaug.training.progress import Silent


class StopError(Exception):
    """The run was killed."""


class StopAfter(Silent):
    """Interrupts a run after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def step(self, *figures: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise StopError
