"""What a person sees while a network trains: a bar on a terminal, a line per epoch elsewhere, nothing for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from gradaug.tasks.task import Column
    from gradaug.training.log import Epoch


class Silent:
    """Shows nothing; the interface of the two below."""

    def compiling(self, done: int, of: int) -> None:
        """Before training, passes that compile the network: `done` of them."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Training begins: `steps` in all, of which `done` were taken before a resume."""

    def step(self, epoch: int, loss: float, measured: dict[Column, float], images_per_second: float) -> None:
        """One step was taken; the figures are running means of this epoch."""

    def epoch(self, epoch: Epoch) -> None:
        """One epoch was completed and validated."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Training ended, well or not."""


class Lines(Silent):
    """One line per epoch, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = 0

    def start(self, epochs: int, steps: int, done: int) -> None:
        self.epochs = epochs

    def epoch(self, epoch: Epoch) -> None:
        self.console.print(epoch_line(epoch, self.epochs), highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


class Bar(Lines):
    """A live bar with loss, the task's figures, images per second and the time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[measured]}  {task.fields[speed]} images/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None
        self.before = Progress(
            TextColumn("compiling"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )

    def compiling(self, done: int, of: int) -> None:
        if not self.before.tasks:
            self.before.start()
            self.before.add_task("compile")
        self.before.update(self.before.tasks[0].id, completed=done, total=of)
        if done == of:
            self.before.stop()

    def start(self, epochs: int, steps: int, done: int) -> None:
        super().start(epochs, steps, done)
        self.progress.start()
        self.task = self.progress.add_task(
            "train", total=steps, completed=done, epoch=f"-/{epochs}", loss="-", measured="-", speed="-"
        )

    def step(self, epoch: int, loss: float, measured: dict[Column, float], images_per_second: float) -> None:
        if self.task is not None:
            self.progress.update(
                self.task,
                advance=1,
                epoch=f"{epoch}/{self.epochs}",
                loss=f"{loss:.3f}",
                measured=_said(measured),
                speed=f"{images_per_second:.0f}",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.before.stop()
        self.progress.stop()


def progress_for(console: Console) -> Silent:
    """A bar on a terminal, lines elsewhere."""
    return Bar(console) if console.is_terminal else Lines(console)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One epoch in one line."""
    found = [] if epoch.val_loss is None else [f"loss {epoch.val_loss:.3f}"]
    found += [column.said(value) for column, value in epoch.val.items() if value is not None and not column.detail]
    validation = f"  validation: {'  '.join(found)}" if found else ""
    training = "  ".join(filter(None, [f"loss {epoch.train_loss:.3f}", _said(epoch.train)]))
    speed = f"{epoch.images_per_second:.0f} images/s"
    return f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  {training}{validation}  {speed}"


def _said(measured: dict[Column, float]) -> str:
    """Figures of a training epoch, which move too much for many digits."""
    return "  ".join(column.said(value, 1) for column, value in measured.items())
