"""What comparisons of methods over several seeds share: which methods, rows that outlive an interruption, figures."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

Fields = dict[str, Any]


def chosen(said: str | None, known: Iterable[str]) -> list[str]:
    """The methods of --methods, or all; UsageError for one that there is not."""
    known = list(known)
    wanted = said.split(";") if said else known
    if unknown := [method for method in wanted if method not in known]:
        sentence = f"there is no {', '.join(unknown)}; known are {'; '.join(known)}"
        raise click.BadParameter(sentence, param_hint="methods")
    return wanted


def saved(path: Path | None) -> list[Fields]:
    """The rows of a run before."""
    found: list[Fields] = json.loads(path.read_text()) if path and path.exists() else []
    return found


def note(rows: list[Fields], row: Fields, path: Path | None) -> None:
    """Adds a row, shows it, and writes all of them."""
    rows.append(row)
    click.echo(json.dumps(row), err=True)
    if path:
        written(path, json.dumps(rows, indent=1))


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def piped(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first line names the columns."""
    head, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *body])
