"""What a person sees: a progress bar while training (a line per epoch without a terminal), a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from gradaug.evaluation.score import Score, SubnetScore
    from gradaug.training.estimate import Estimate


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
