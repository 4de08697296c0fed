"""A run's folder read back: what it was, how it went, what came out. Of an unfinished run, as far as it has come."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from gradaug.config.registry import TASKS
from gradaug.evaluation.written import row_of, score_of
from gradaug.training.folder import RunFolder
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.evaluation.score import SubnetScore
    from gradaug.tasks.task import Column, TaskScore

_FURTHEST = 1 << 50
Place = Annotated[int, Meta(ge=0, le=_FURTHEST)]
"""A number of epochs or steps."""
Figures = Mapping[str, float | None]
Setting = bool | int | float | str | list[bool | int | float | str] | None


class StepLine(msgspec.Struct, frozen=True):
    """One of the steps that are recorded: losses, learning rate, a number for each sub-network."""

    step: Place
    epoch: Place
    loss: float
    subnet_loss: float | None
    lr: float
    widths: list[float] = []
    resolutions: list[float] = []
    skipped: list[float] = []


class _Start(msgspec.Struct, frozen=True):
    about: str = ""
    config: dict[str, Setting] = {}
    versions: dict[str, str] = {}
    processes: int = 1
    steps_per_epoch: int | None = None


class _Result(msgspec.Struct, frozen=True):
    config: dict[str, Setting]
    before: dict[str, Any]
    subnets: list[dict[str, Any]]
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Record:
    """One run, as its files tell of it."""

    path: Path
    settings: Mapping[str, Setting]
    """Empty for a run of an older gradaug that is unfinished."""
    about: str
    versions: Mapping[str, str]
    processes: int
    steps: list[StepLine]
    epochs: list[Figures]
    """By the names of metrics.jsonl, without those that are no numbers."""
    per_epoch: float
    """Steps in an epoch."""
    columns: Mapping[str, Column]
    """The task's figures by name."""
    before: TaskScore | None = None
    subnets: list[SubnetScore] = field(default_factory=list)
    scored: int | None = None
    """After how many epochs the sub-networks were scored; None: not yet."""
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Epochs completed."""
        return int(self.epochs[-1]["epoch"] or 0) if self.epochs else 0

    @property
    def finished(self) -> bool:
        """Whether the sub-networks were scored at the end of the run as it is to be now."""
        wanted = self.settings.get("epochs")
        return self.scored is not None and self.scored >= max(self.done, wanted if isinstance(wanted, int) else 0)

    @property
    def state(self) -> str:
        """In words."""
        if self.finished:
            return f"finished: {counted(self.done)}"
        wanted = self.settings.get("epochs")
        return f"unfinished: {f'{self.done} of {wanted} epochs' if wanted else counted(self.done)}"

    @property
    def picture(self) -> Path | None:
        """Images beside what the network says of them, of tasks that have such a picture."""
        path = RunFolder(self.path).predictions
        return path if path.is_file() else None


def counted(epochs: int) -> str:
    """In words."""
    return f"{epochs} epoch{'s' * (epochs != 1)}"


def read(path: Path) -> Record:
    """The run in a folder. InputError for one that has none, and for files that are damaged."""
    folder = RunFolder(path)
    if not path.is_dir():
        raise InputError(f"there is no folder {path}: give the folder of a run, the --out of gradaug train")
    if not folder.metrics.is_file():
        raise InputError(f"{path} is no run of gradaug train, as it has no {folder.metrics.name}")
    lines = list(_lines(folder.metrics))
    start = next((made for made in (_start(folder.metrics, *line) for line in reversed(lines)) if made), _Start())
    result = _result(folder.result)
    settings = start.config or (result.config if result else {})
    task = TASKS.get(str(settings.get("task", "classification")))
    if task is None:
        raise InputError(f"{path} is a run of a task that this gradaug does not have: {settings.get('task')!r}")
    scored: type[TaskScore] = task.load().scored
    steps = [_held(folder.metrics, number, values, StepLine) for number, values in lines if _is(values, "step")]
    epochs = [_figures(folder.metrics, number, values) for number, values in lines if _is(values, "epoch")]
    with _damaged(folder.result):
        return Record(
            path, settings, start.about, start.versions, start.processes, steps, epochs,
            start.steps_per_epoch or _per_epoch(steps, epochs),
            {column.name: column for column in scored.columns},
            score_of(result.before, scored) if result else None,
            [row_of(row, scored) for row in result.subnets] if result else [],
            result.epochs if result else None,
            max(result.seconds if result else 0.0, sum(line.get("seconds") or 0.0 for line in epochs)),
        )  # fmt: skip


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """The lines by their number; one at the end that is being written, or was when the run was killed, is left out."""
    try:
        *lines, last = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    for number, line in enumerate([*lines, last], 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number > len(lines):
                return
            raise _line_damaged(path, number) from error
        if not isinstance(values, dict):
            raise _line_damaged(path, number)
        yield number, values


def _line_damaged(path: Path, number: int) -> InputError:
    return InputError(f"line {number} of {path} is damaged: delete that line")


def _is(values: Mapping[str, object], event: str) -> bool:
    return values.get("event") == event


def _held(path: Path, number: int, values: Mapping[str, object], kind: Any) -> Any:
    try:
        return msgspec.convert(values, kind)
    except (msgspec.MsgspecError, OverflowError) as error:
        raise _line_damaged(path, number) from error


def _start(path: Path, number: int, values: Mapping[str, object]) -> _Start | None:
    return _held(path, number, values, _Start) if _is(values, "start") else None


def _figures(path: Path, number: int, values: Mapping[str, object]) -> Figures:
    numbers = {name: value for name, value in values.items() if name != "event"}
    found: Figures = _held(path, number, numbers, dict[str, float | None])
    if not all(0 <= (-1 if (place := found.get(name)) is None else place) <= _FURTHEST for name in ("epoch", "step")):
        raise _line_damaged(path, number)
    return found


def _per_epoch(steps: list[StepLine], epochs: list[Figures]) -> float:
    """Of a run that does not say: from what it recorded."""
    if epochs:
        return max(1.0, (epochs[0]["step"] or 0.0) / max(1.0, epochs[0]["epoch"] or 0.0))
    return max(1.0, steps[-1].step / max(1, steps[-1].epoch)) if steps else 1.0


def _result(path: Path) -> _Result | None:
    if not path.exists():
        return None
    with _damaged(path):
        found: _Result = msgspec.convert(json.loads(path.read_bytes()), _Result)
        return found


@contextlib.contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
