"""What a person sees: a progress bar while training (a line per epoch without a terminal), a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gradaug.config.settings import TrainConfig
    from gradaug.evaluation.score import SubnetScore
    from gradaug.evaluation.sweep import Sweep
    from gradaug.tasks.task import Column, TaskScore
    from gradaug.training.estimate import Estimate
    from gradaug.training.record import Record


def score_table(rows: Sequence[SubnetScore], before: TaskScore | None = None, title: str = "") -> Table:
    """Full network (before and after training) and sub-networks: width, parameters, FLOPs, the task's figures."""
    head, cells, note = result_cells(rows, before)
    table = Table(title=Text(title), title_justify="left", caption=note or None, caption_justify="left")
    for name in head:
        table.add_column(name, justify="left" if name == head[0] else "right")
    for row in cells:
        table.add_row(*row)
    return table


def result_cells(
    rows: Sequence[SubnetScore], before: TaskScore | None = None
) -> tuple[list[str], list[list[str]], str]:
    """The head of that table, its cells, and what stands below it."""
    note = "* batch norm recalibrated on training images" if any(row.recalibrated for row in rows) else ""
    shown, full = _columns(rows), next((row for row in rows if row.full), None)

    def cells(score: TaskScore) -> list[str]:
        return [column.number(getattr(score, column.name)) for column in shown]

    found = []
    if before is not None:
        found.append(["full, before training", *(_size(full) if full else ("", "")), *cells(before)])
    for row in rows:
        name = "full" if row.full else f"{_kind(row)}{' *' if row.recalibrated else ''}"
        if before is not None and row.full:
            name = "full, after training"
        found.append([name, *_size(row), *cells(row.score)])
    return ["network", "parameters", "MFLOPs", *(column.heading for column in shown)], found, note


def sweep_table(found: Sweep, title: str = "") -> Table:
    """Every sub-network of a grid: size, the task's figures, time, and whether no other one beats it."""
    rows = [point.row for point in found.points]
    where = f"{found.threads} thread{'s' * (found.threads > 1)}, " if found.device == "cpu" else ""
    batch = f"{found.images} image{'s' * (found.images > 1)}"
    note = f"ms: the median time of a forward in torch, all networks in turns; {batch}, {where}{found.device}"
    starred = "* batch norm recalibrated on training images\n" if any(row.recalibrated for row in rows) else ""
    table = Table(title=Text(title), title_justify="left", caption=starred + note, caption_justify="left")
    table.add_column("network")
    shown = _columns(rows)
    for name in ("parameters", "MFLOPs", *(column.heading for column in shown), "ms"):
        table.add_column(name, justify="right")
    table.add_column("best for its")
    fronts = {"FLOPs": found.front("flops"), "time": found.front("seconds")}
    for point in found.points:
        row, best = point.row, [name for name, front in fronts.items() if point in front]
        cells = [column.number(getattr(row.score, column.name)) for column in shown]
        time = "" if point.seconds is None else f"{point.seconds * 1e3:.3g}"
        name = "full" if row.full else f"{_kind(row)}{' *' if row.recalibrated else ''}"
        table.add_row(name, *_size(row), *cells, time, ", ".join(best))
    return table


def attack_table(attacks: Mapping[float, float], column: Column) -> Table:
    """The figure `column` of the full network by FGSM's epsilon."""
    table = Table(title="FGSM, full network", title_justify="left")
    table.add_column("epsilon")
    table.add_column(column.heading, justify="right")
    for epsilon, value in attacks.items():
        table.add_row(f"{epsilon:g}", column.number(value))
    return table


def corruption_table(found: Mapping[str, Mapping[int, float]], column: Column) -> Table:
    """The figure `column` of the full network by kind of corruption and severity, and the means."""
    severities = list(next(iter(found.values())))
    table = Table(title=f"corrupted images, full network, {column.heading}", title_justify="left")
    table.add_column("kind")
    for severity in severities:
        table.add_column(f"severity {severity}", justify="right")
    table.add_column("mean", justify="right")

    def add(name: str, values: Sequence[float]) -> None:
        table.add_row(name, *(column.number(value) for value in (*values, sum(values) / len(values))))

    for kind, by_severity in found.items():
        add(kind.replace("_", " "), list(by_severity.values()))
    add("all", [sum(by[severity] for by in found.values()) / len(found) for severity in severities])
    return table


def estimate_table(found: Estimate, config: TrainConfig, images: int, known: bool, hours: float | None) -> Table:
    """The settings that differ from the defaults, and what the run will cost."""
    table = Table(title="dry run: nothing is trained", title_justify="left", show_header=False)
    for name, value in changed(config.to_dict()).items():
        table.add_row(name, said_value(value))
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


def run_tables(record: Record, name: str) -> Iterator[RenderableType]:
    """A run in a terminal: how far it is, what came out, the settings that are not the default, versions."""
    facts = Table(title=Text(name), title_justify="left", show_header=False)
    facts.add_row("state", Text(record.state))
    facts.add_row("time", shown_time(record.seconds))
    if record.epochs:
        for key, value in record.epochs[-1].items():
            column = record.columns.get(key.partition("_")[2])
            if column and value is not None and key.startswith(("val_", "train_")):
                part = "validation" if key.startswith("val_") else "training"
                facts.add_row(f"{part} {column.label}", f"{column.number(value)} {column.unit}".strip())
    facts.add_section()
    for key, setting in {**changed(record.settings), **record.versions}.items():
        facts.add_row(Text(key), Text(said_value(setting)))
    yield facts
    if record.subnets:
        yield score_table(record.subnets, record.before, f"after {record.scored} epoch{'s' * (record.scored != 1)}")


def named(records: Sequence[Record]) -> list[str]:
    """The runs by the names of their folders, or by their paths where these are not enough."""
    names = [one.path.resolve().name for one in records]
    return names if len(set(names)) == len(names) else [str(one.path) for one in records]


def changed(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings that are not those of a run of whose settings nothing is said."""
    from gradaug.config.settings import TrainConfig

    usual = TrainConfig().to_dict()
    return {name: value for name, value in settings.items() if name not in usual or value != usual[name]}


def said_value(value: object) -> str:
    """A setting for a table."""
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def shown_time(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    parts = [(whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def _columns(rows: Sequence[SubnetScore]) -> list[Column]:
    """The figures that a table has, of those that were measured."""
    there = (c for row in rows for c in row.score.columns if getattr(row.score, c.name) is not None)
    return [column for column in dict.fromkeys(there) if not column.detail]


def _kind(row: SubnetScore) -> str:
    blocks = f"{row.skipped} block{'s' * (row.skipped > 1)} left out"
    widths = f"width {row.width:g}"
    return widths if not row.skipped else blocks if row.width == 1 else f"{widths}, {blocks}"


def _size(row: SubnetScore) -> tuple[str, str]:
    return f"{row.params:,}", f"{row.flops / 1e6:.1f}"
