"""Programs that show a run's figures, by the names of registry.TRACKERS: TensorBoard, Weights & Biases, MLflow.

Each is optional. Where they write to is theirs to say, by their own settings (WANDB_MODE, MLFLOW_TRACKING_URI, ...).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gradaug.config.registry import TRACKERS
from gradaug.errors import OutputError
from netslim.errors import MissingError, NetslimError
from netslim.extras import needed, require

Settings = Mapping[str, object]


class Tracker(Protocol):
    """Made with the run's folder, the step that it goes on after (0: a new run), and its settings."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Takes the figures of one step."""

    def close(self) -> None:
        """The run ends here."""


class TensorBoard:
    """Event files in the run's folder."""

    package = "tensorboard"

    def __init__(self, folder: Path, step: int, settings: Settings) -> None:
        with needed(self.package, "its curves"):
            from torch.utils.tensorboard import SummaryWriter
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, called like the folder, in the project gradaug unless WANDB_PROJECT names another."""

    package = "wandb"

    def __init__(self, folder: Path, step: int, settings: Settings) -> None:
        import os

        import wandb

        project = os.environ.get("WANDB_PROJECT", "gradaug")
        self.run = wandb.init(project=project, name=folder.resolve().name, dir=str(folder), config=dict(settings))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


class MLflow:
    """A run of MLflow, called like the folder, in the experiment that MLflow's settings name."""

    package = "mlflow"

    def __init__(self, folder: Path, step: int, settings: Settings) -> None:
        import mlflow

        self.mlflow = mlflow
        self.run = mlflow.start_run(run_name=folder.resolve().name)
        mlflow.log_params({name: str(value) for name, value in settings.items()})

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.mlflow.log_metrics(dict(values), step=step)

    def close(self) -> None:
        self.mlflow.end_run()


def require_all(names: Sequence[str]) -> None:
    """MissingError, before a run begins, for a tracker that was asked for and is not installed."""
    for name in names:
        require(TRACKERS[name].load().package, f"runs with --trackers {name}")


@contextlib.contextmanager
def opened(names: Sequence[str], folder: Path, step: int, settings: Settings) -> Iterator[list[Tracker]]:
    """The trackers of a run, and TensorBoard beside them where it is installed; closed at the end, however it ends."""
    with contextlib.ExitStack() as stack:
        made: list[Tracker] = []
        for name in dict.fromkeys(("tensorboard", *names)):
            kind = TRACKERS[name].load()
            try:
                with heard(name):
                    tracker: Tracker = kind(folder, step, settings)
            except MissingError:
                if name in names:
                    raise
                continue
            stack.enter_context(contextlib.closing(tracker))
            made.append(tracker)
        yield made


@contextlib.contextmanager
def heard(name: str) -> Iterator[None]:
    """What a tracker refuses, as a sentence; what the system refuses is its caller's to say."""
    try:
        yield
    except (OSError, NetslimError):
        raise
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OutputError(f"{name} cannot take this run ({said}); set it up, or leave it out of --trackers") from error
