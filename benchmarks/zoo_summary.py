"""The zoo run in a few figures: what converted, how much of it is elastic, how fast, and what the peers make of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import thirdparty
from zoo_limits import Fields
from zoo_models import library as source_library

MEDIUM = 100_000_000
"""Parameters below which the time that 95 % of the models take is told."""
SLOW = 60.0
"""Seconds of conversion and proof above which a model is named."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One tool on one library."""

    library: str
    tool: str
    models: int
    analysed: int
    converted: int
    proved: int
    untouched: int  # proved without the proof freezing anything
    trained: int
    step_impossible: int  # the model itself cannot do the step
    families: int
    families_converted: int
    elastic: float  # share of the output channels of all models together; 0 for those that do not run
    median_elastic: float  # of those that run
    median_analysis: float | None
    median_convert: float | None
    p95_convert: float | None  # of those below MEDIUM
    slow: tuple[str, ...]


def summaries(rows: Sequence[Fields]) -> list[Summary]:
    """By library and tool, in the order of the rows; channels are counted over the models that netslim can count."""
    kinds = dict.fromkeys((library(row), row["tool"]) for row in rows)
    return [
        _summary(lib, tool, [r for r in rows if (library(r), r["tool"]) == (lib, tool)], rows) for lib, tool in kinds
    ]


def library(row: Fields) -> str:
    name = source_library(row["model"])
    return name if name in ("torchvision", "timm", *thirdparty.PACKAGES) else "other"


def _summary(lib: str, tool: str, rows: Sequence[Fields], everything: Sequence[Fields]) -> Summary:
    outputs = {r["model"]: r["outputs"] for r in everything if r.get("outputs") and r["tool"] == "netslim"}
    families = _families(rows)
    return Summary(
        library=lib,
        tool=tool,
        models=len(rows),
        analysed=_count(rows, lambda r: r.get("analysed")),
        converted=_count(rows, lambda r: r.get("converted")),
        proved=_count(rows, lambda r: r.get("proved")),
        untouched=_count(rows, lambda r: r.get("proved") and not r.get("proof_frozen")),
        trained=_count(rows, lambda r: r.get("trained")),
        step_impossible=_count(rows, lambda r: r.get("converted") and r.get("trained", 0) is None),
        families=len(families),
        families_converted=sum(all(done) for done in families.values()),
        elastic=sum(running_share(r) * outputs.get(r["model"], 0) for r in rows)
        / max(1, sum(outputs.get(r["model"], 0) for r in rows)),
        median_elastic=_median(running_share(r) for r in rows if r.get("converted")) or 0.0,
        median_analysis=_median(r["analysis_s"] for r in rows if "analysis_s" in r),
        median_convert=_median(r["convert_s"] for r in rows if "convert_s" in r),
        p95_convert=_p95(r["convert_s"] for r in rows if "convert_s" in r and (r.get("params") or 0) < MEDIUM),
        slow=tuple(f"{r['model']} {r['convert_s']:.0f} s" for r in slowest(rows) if r["convert_s"] > SLOW),
    )


def running_share(row: Fields) -> float:
    """The elastic share of a network that runs; nothing is elastic in one that does not."""
    return (row.get("elastic_share") or 0.0) if row.get("converted") else 0.0


def slowest(rows: Iterable[Fields], n: int | None = None) -> list[Fields]:
    """Rows by the time of their conversion, longest first."""
    return sorted((r for r in rows if "convert_s" in r), key=lambda r: -r["convert_s"])[:n]


def sentences(found: Summary) -> list[str]:
    """The summary in words."""
    s = found
    told = [f"{s.library}, {s.tool}: {s.converted} of {s.models} models converted"]
    if s.tool == "netslim":
        told[0] += f", {s.proved} proved ({s.untouched} with nothing frozen by the proof), {s.analysed} analysed"
        told += [
            f"{s.trained} trained a step at random widths; {s.step_impossible} cannot on such inputs",
        ]
        told += [f"{s.families_converted} of {s.families} families converted whole"] if s.families > 1 else []
    told += [f"{s.elastic:.1%} of all output channels elastic (median of those converted {s.median_elastic:.1%})"]
    if s.median_analysis is not None:
        told += [f"median analysis {s.median_analysis:.2f} s"]
    if s.median_convert is not None:
        told += [f"median conversion{' and proof' if s.tool == 'netslim' else ''} {s.median_convert:.1f} s"]
        if s.p95_convert is not None:
            told[-1] += f", 95 % of those below {MEDIUM // 10**6} M parameters within {s.p95_convert:.1f} s"
    return [*told, f"above {SLOW:.0f} s: " + (", ".join(s.slow) or "none")]


def _families(rows: Iterable[Fields]) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for row in rows:
        found.setdefault(row["family"], []).append(bool(row.get("converted")))
    return found


def _count(rows: Iterable[Fields], holds: Callable[[Fields], object]) -> int:
    return sum(bool(holds(row)) for row in rows)


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None


def _p95(values: Iterable[float]) -> float | None:
    """The smallest value that 95 % are within."""
    found = sorted(values)
    return found[math.ceil(0.95 * len(found)) - 1] if found else None
