"""The run's record: one JSON object a line in metrics.jsonl, the same numbers for trackers (trackers.py).

    {"event": "start", "step": 0, "config": {...}, "versions": {...}, "about": ..., "steps_per_epoch": 22, ...}
    {"event": "step", "step": 120, "epoch": 5, "loss": 0.41, "subnet_loss": 0.06, "lr": 0.081, "widths": [0.97, 0.8]}
    {"event": "epoch", "step": 132, "epoch": 6, "train_loss": ..., "val_loss": ..., ...}

The task's figures are there by their names, train_NAME and val_NAME. Of the sub-networks of a step: widths (of several
groups their mean), resolutions and the numbers of skipped blocks, as far as these are drawn. `subnet_loss` is null in a
step without sub-networks, and in an epoch of such steps, where other steps of the run have some.
After a resume the lines beyond the checkpoint are dropped, so that the file reads like one uninterrupted run.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from gradaug.errors import OutputError
from gradaug.training.trackers import heard, opened
from netslim.files import atomic_write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from gradaug.config.kinds import JSON
    from gradaug.subnets.sampler import Draw
    from gradaug.tasks.task import Column

STEP_INTERVAL = 10
"""Every how many steps a step is recorded."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to. Losses in nats, shares in percent, time in seconds."""

    epoch: int
    """Epochs completed, from 1."""
    step: int
    train_loss: float
    """Mean loss of the full network on the augmented training images."""
    subnet_loss: float | None
    """Mean, over the steps that have sub-networks, of the summed distillation losses; None where all steps are plain
    ones and later or earlier epochs have others."""
    train: dict[Column, float]
    """The task's figures on those images."""
    val_loss: float | None
    """None after an epoch that was not validated, and for a task without a loss in evaluation."""
    val: dict[Column, float | None]
    """And on the validation images."""
    lr: float
    seconds: float
    images_per_second: float
    data_wait: float = 0.0
    """Share of the training time in which the loop waited for images."""

    def to_dict(self) -> dict[str, float | None]:
        """JSON values."""
        found: dict[str, float | None] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            found |= (
                {f"{field.name}_{c.name}": v for c, v in value.items()}
                if isinstance(value, dict)
                else {field.name: value}
            )
        return found


class RunLog:
    """Adds to the record of a run that continues after `step` (0: a new run); use it in a ``with``.

    What is in the file stays: :func:`keep_until` is called before.
    """

    def __init__(
        self, folder: Path, step: int = 0, trackers: Sequence[str] = (), settings: Mapping[str, object] | None = None
    ) -> None:
        self.path = folder / "metrics.jsonl"
        with _refusals(self.path), contextlib.ExitStack() as stack:
            self._file = stack.enter_context(self.path.open("a", encoding="utf-8"))
            self._trackers = stack.enter_context(opened(trackers, folder, step, settings or {}))
            self._open = stack.pop_all()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exception: object) -> None:
        with _refusals(self.path), heard("a tracker"):
            self._open.close()

    def start(self, step: int, about: Mapping[str, JSON]) -> None:
        """Records what a run is from `step` on: in the first line, and where it goes on for more epochs."""
        self._write("start", {"step": step, **about})

    def step(
        self,
        step: int,
        epoch: int,
        loss: float,
        subnet_loss: float | None,
        lr: float,
        draws: Callable[[], Sequence[Draw]] = tuple,
    ) -> None:
        """Records every tenth step, with the sub-networks that it trained; a loss of None: it is a plain one."""
        if step % STEP_INTERVAL == 0:
            losses: dict[str, float | None] = {"loss": loss, "subnet_loss": subnet_loss}
            self._record("step", {"step": step, "epoch": epoch, **losses, "lr": lr}, drawn(draws()))

    def epoch(self, epoch: Epoch) -> None:
        self._record("epoch", epoch.to_dict())

    def _record(
        self, event: str, values: Mapping[str, float | None], lists: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        """Writes the values, which are the trackers' too, and lists, which are the file's alone."""
        self._write(event, {**values, **(lists or {})})
        figures = {f"{event}/{k}": v for k, v in values.items() if v is not None and k not in ("step", "epoch")}
        with _refusals(self.path):
            for tracker in self._trackers:
                with heard(type(tracker).__name__.lower()):
                    tracker.scalars(figures, int(values["step"] or 0))

    def _write(self, event: str, values: Mapping[str, JSON]) -> None:
        with _refusals(self.path):
            self._file.write(json.dumps({"event": event, **values}) + "\n")
            self._file.flush()


def drawn(draws: Sequence[Draw]) -> dict[str, list[float]]:
    """What a record has of the sub-networks of a step, a number each."""
    found: dict[str, list[float]] = {}
    if any(one.width != 1.0 for one in draws):
        found["widths"] = [round(_width(one), 4) for one in draws]
    if any(one.resolution is not None for one in draws):
        found["resolutions"] = [one.resolution or 0 for one in draws]
    if any(one.skip for one in draws):
        found["skipped"] = [len(one.skip) for one in draws]
    return found


def _width(one: Draw) -> float:
    ratios = [one.width] if isinstance(one.width, float) else [ratio for _, ratio in one.width]
    return sum(ratios) / len(ratios)


class NoLog(RunLog):
    """Of a process that leaves the writing to another."""

    def __init__(self) -> None:
        """No file."""

    def __exit__(self, *exception: object) -> None:
        """Nothing to close."""

    def _record(
        self, event: str, values: Mapping[str, float | None], lists: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        """Nothing is written."""

    def _write(self, event: str, values: Mapping[str, JSON]) -> None:
        """Nothing is written."""


def keep_until(path: Path, step: int) -> None:
    """Drops the lines of a metrics file beyond `step`, and a last line that a crash cut off.

    The file is as it was until its replacement is whole. OutputError names a line that is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    *lines, last = content.split(b"\n")
    reached = [(text, _step_of(text, path, number)) for number, text in enumerate(lines, 1) if text.strip()]
    with contextlib.suppress(OutputError):
        reached.append((last, _step_of(last, path, len(lines) + 1)))
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"".join(text + b"\n" for text, at in reached if at <= step))


def _step_of(line: bytes, path: Path, number: int) -> int:
    """The step that a line is about."""
    try:
        found = json.loads(line)["step"]
        if type(found) is int:
            return found
    except (ValueError, TypeError, LookupError, RecursionError):
        pass
    raise OutputError(f"line {number} of {path} is damaged; delete that line, checkpoint.pt has all that the run needs")


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """What the system refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
