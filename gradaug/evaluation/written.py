"""Scores as they stand in files, read back: every figure of its type, or msgspec's ValidationError."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import msgspec

from gradaug.evaluation.score import SubnetScore

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradaug.tasks.task import TaskScore


class _Row(msgspec.Struct, frozen=True):
    """A sub-network without its score."""

    width: float
    params: int
    flops: int
    recalibrated: bool
    skipped: int
    full: bool


def row_of(values: Mapping[str, object], scored: type[TaskScore]) -> SubnetScore:
    """What :meth:`SubnetScore.to_dict` gave, of a task with such scores."""
    row = msgspec.convert(values, _Row)
    return SubnetScore(
        row.width, row.params, row.flops, row.recalibrated, score_of(values, scored), row.skipped, row.full
    )


def score_of(values: Mapping[str, object], scored: type[TaskScore]) -> TaskScore:
    """The figures of a task among some values."""
    return msgspec.convert({f.name: values[f.name] for f in fields(scored) if f.name in values}, scored)
