"""What a person sees: a progress bar while training (a line per epoch without a terminal), a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from gradaug.config.settings import TrainConfig
    from gradaug.evaluation.score import Score, SubnetScore
    from gradaug.training.estimate import Estimate
    from gradaug.training.log import Epoch


class Silent:
    """Shows nothing; the interface of the two below."""

    def start(self, epochs: int, steps: int, done: int) -> None:
        """Training begins: `steps` in all, of which `done` were taken before a resume."""

    def step(self, epoch: int, loss: float, top1: float, images_per_second: float) -> None:
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
    """A live bar with loss, top-1, images per second and the time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  top-1 {task.fields[top1]}  {task.fields[speed]} images/s"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self.task: TaskID | None = None

    def start(self, epochs: int, steps: int, done: int) -> None:
        super().start(epochs, steps, done)
        self.progress.start()
        self.task = self.progress.add_task(
            "train", total=steps, completed=done, epoch=f"-/{epochs}", loss="-", top1="-", speed="-"
        )

    def step(self, epoch: int, loss: float, top1: float, images_per_second: float) -> None:
        if self.task is not None:
            self.progress.update(
                self.task,
                advance=1,
                epoch=f"{epoch}/{self.epochs}",
                loss=f"{loss:.3f}",
                top1=f"{top1:.1f} %",
                speed=f"{images_per_second:.0f}",
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.progress.stop()


def progress_for(console: Console) -> Silent:
    """A bar on a terminal, lines elsewhere."""
    return Bar(console) if console.is_terminal else Lines(console)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One epoch in one line."""
    validation = ""
    if epoch.val_loss is not None and epoch.val_top1 is not None:
        validation = f"  validation: loss {epoch.val_loss:.3f}  top-1 {epoch.val_top1:.2f} %"
    training = f"loss {epoch.train_loss:.3f}  top-1 {epoch.train_top1:.1f} %"
    speed = f"{epoch.images_per_second:.0f} images/s"
    return f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  {training}{validation}  {speed}"


def score_table(rows: Sequence[SubnetScore], before: Score | None = None, title: str = "") -> Table:
    """Full network (before and after training) and sub-networks: width, parameters, FLOPs, accuracies, loss."""
    note = "* batch norm recalibrated on training images" if any(row.recalibrated for row in rows) else None
    table = Table(title=title, title_justify="left", caption=note, caption_justify="left")
    table.add_column("network")
    shown = [column for column in _COLUMNS if any(column[1](row.score) is not None for row in rows)]
    for name in ("parameters", "MFLOPs", *(name for name, _, _ in shown)):
        table.add_column(name, justify="right")

    def cells(score: Score) -> list[str]:
        values = [(get(score), form) for _, get, form in shown]
        return ["" if value is None else f"{value:{form}}" for value, form in values]

    full = next((row for row in rows if row.full), None)
    if before is not None:
        size = _size(full) if full else ("", "")
        table.add_row("full, before training", *size, *cells(before))
    for row in rows:
        name = "full" if row.full else f"{_kind(row)}{' *' if row.recalibrated else ''}"
        if before is not None and row.full:
            name = "full, after training"
        table.add_row(name, *_size(row), *cells(row.score))
    return table


_COLUMNS: tuple[tuple[str, Callable[[Score], float | None], str], ...] = (
    ("top-1 %", lambda score: score.top1, ".2f"),
    ("top-5 %", lambda score: score.top5, ".2f"),
    ("loss", lambda score: score.loss, ".3f"),
    ("ECE %", lambda score: score.calibration_error, ".2f"),
)


def attack_table(attacks: Mapping[float, float]) -> Table:
    """Top-1 of the full network by FGSM's epsilon."""
    table = Table(title="FGSM, full network", title_justify="left")
    table.add_column("epsilon")
    table.add_column("top-1 %", justify="right")
    for epsilon, top1 in attacks.items():
        table.add_row(f"{epsilon:g}", f"{top1:.2f}")
    return table


def corruption_table(found: Mapping[str, Mapping[int, float]]) -> Table:
    """Top-1 of the full network by kind of corruption and severity, and the means."""
    severities = list(next(iter(found.values())))
    table = Table(title="corrupted images, full network, top-1 %", title_justify="left")
    table.add_column("kind")
    for severity in severities:
        table.add_column(f"severity {severity}", justify="right")
    table.add_column("mean", justify="right")

    def add(name: str, values: Sequence[float]) -> None:
        table.add_row(name, *(f"{value:.2f}" for value in (*values, sum(values) / len(values))))

    for kind, by_severity in found.items():
        add(kind.replace("_", " "), list(by_severity.values()))
    add("all", [sum(by[severity] for by in found.values()) / len(found) for severity in severities])
    return table


def estimate_table(found: Estimate, config: TrainConfig, images: int, known: bool, hours: float | None) -> Table:
    """The settings that differ from the defaults, and what the run will cost."""
    table = Table(title="dry run: nothing is trained", title_justify="left", show_header=False)
    defaults = type(config)().to_dict()
    for name, value in config.to_dict().items():
        if value != defaults[name]:
            table.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
    table.add_section()
    table.add_row("parameters", f"{found.parameters:,}")
    table.add_row("training images", f"{images:,}" + ("" if known else " (the published number: the data is not here)"))
    table.add_row("steps", f"{found.steps:,}")
    table.add_row("FLOPs per step", f"{found.step_flops:.3g} ({found.ratio:.2f} plain steps)")
    table.add_row("memory per process", f"about {found.memory / 2**30:.1f} GiB")
    table.add_row("FLOPs", f"{found.steps * found.step_flops:.3g}")
    if hours is not None:
        table.add_row("hours", f"{hours:.1f}")
    return table


def _kind(row: SubnetScore) -> str:
    blocks = f"{row.skipped} block{'s' * (row.skipped > 1)} left out"
    widths = f"width {row.width:g}"
    return widths if not row.skipped else blocks if row.width == 1 else f"{widths}, {blocks}"


def _size(row: SubnetScore) -> tuple[str, str]:
    return f"{row.params:,}", f"{row.flops / 1e6:.1f}"
