"""A sweep as a file, which is whole after every point, so that one that was interrupted can go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gradaug.evaluation.sweep import Point, Sweep
from gradaug.evaluation.written import row_of
from netslim.errors import InputError
from netslim.files import atomic_write

if TYPE_CHECKING:
    from gradaug.config.kinds import JSON
    from gradaug.tasks.task import TaskScore


class _Document(msgspec.Struct, frozen=True):
    made_with: dict[str, Any]
    points: list[dict[str, Any]]


def document(found: Sweep, made_with: Mapping[str, JSON]) -> dict[str, JSON]:
    """JSON values. made_with: what has to be the same for scores to be comparable."""
    return {"made_with": made_with, **found.to_dict()}


def write(found: Sweep, made_with: Mapping[str, JSON], path: Path) -> None:
    """Puts the file in the place of what was there."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(document(found, made_with), indent=2) + "\n", encoding="utf-8")


def read(path: Path, made_with: Mapping[str, JSON], scored: type[TaskScore]) -> list[Point]:
    """The points of a file, with the scores of a task; InputError for no such file, or one made with other settings."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Document)
        _require_same(path, found.made_with, made_with)
        return [_point(values, scored) for values in found.points]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}): leave --resume out") from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no sweep of this gradaug ({error}): leave --resume out") from error


def _require_same(path: Path, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    for name in now:
        if before.get(name) != now[name]:
            said = name.replace("_", "-")
            raise InputError(
                f"{path} is a sweep of another kind: {said} was {before.get(name)!r}, now {now[name]!r}; give the "
                "same, or leave --resume out"
            )


def _point(values: Mapping[str, object], scored: type[TaskScore]) -> Point:
    return Point(row_of(values, scored), tuple(msgspec.convert(values.get("blocks"), list[str])))
