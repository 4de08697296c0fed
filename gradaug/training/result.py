"""What a run came to, as a value and as result.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from gradaug.config.kinds import JSON
    from gradaug.config.settings import TrainConfig
    from gradaug.evaluation.score import SubnetScore
    from gradaug.tasks.task import TaskScore
    from gradaug.training.checkpoint import Length


@dataclass(frozen=True)
class Result:
    """Scores on the validation images, at the last epoch (never the best one)."""

    config: TrainConfig
    """With every automatic choice written down."""
    before: TaskScore
    after: TaskScore
    subnets: list[SubnetScore]
    """The full network, then sub-networks down to alpha with their batch norm recalibrated."""
    steps: int
    seconds: float
    """Wall time of training and validation."""
    folder: Path
    lengths: tuple[Length, ...] = ()
    """What the run was to be before it went on for another number of epochs."""

    def to_dict(self) -> dict[str, JSON]:
        """JSON values; shares in percent, ``loss`` in nats, ``flops`` per image forward."""
        return {
            "mode": self.config.mode,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "subnets": [row.to_dict() for row in self.subnets],
            "epochs": self.config.epochs,
            "steps": self.steps,
            "lengths": [asdict(one) for one in self.lengths],
            "seconds": round(self.seconds, 3),
            "folder": str(self.folder),
            "config": self.config.to_dict(),
        }
