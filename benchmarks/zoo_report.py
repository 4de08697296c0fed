"""The zoo run as tables: on the terminal, and as the Markdown of docs/zoo.md."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from importlib import metadata

import thirdparty
from rich.console import Console
from rich.table import Table
from zoo_limits import Fields
from zoo_models import LARGE
from zoo_peers import PEERS
from zoo_summary import library, running_share, sentences, slowest, summaries

Columns = dict[str, Callable[[Fields], str]]

LOW = 0.95
"""Elastic share below which the reasons are told."""


def versions() -> dict[str, str]:
    """Of everything that a figure may depend on."""
    found = {"python": platform.python_version()}
    for name in ("netslim-gradaug", "torch", "torchvision", "timm", *thirdparty.DISTRIBUTIONS, *PEERS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


MEANING = """*Elastic outputs*: share of the output channels of all convolution and linear layers that belong to a
channel group, the model's own outputs left out. *Kept*: with every group at half width. *Proved*: three random
sub-networks equal the masked full network. *Parity*: the largest difference of a training step of the converted
network from the original's (outputs, gradients of parameters and inputs, buffers), relative; 0 is bit for bit, others
are in double precision unless they say single; at half the input's height and width where the model takes that.
*Step*: one training step at random widths ran. A peer has converted a model that still runs with everything it found
elastic at its smallest; whether it computes the right thing is not checked."""


# ------------------------------------------------------------------------------------------------ cells


def _number(name: str, form: str, factor: float = 1.0) -> Callable[[Fields], str]:
    return lambda row: "" if row.get(name) is None else format(row[name] * factor, form)


def _yes(name: str) -> Callable[[Fields], str]:
    return lambda row: "" if row.get(name, None) is None else "yes" if row[name] else "no"


def _proof(row: Fields) -> str:
    frozen = row.get("proof_frozen")
    return _yes("proved")(row) + (f", {frozen} frozen" if frozen else "")


def _parity(row: Fields) -> str:
    """The largest difference of a training step from the original's, with what it is in if it is more than rounding."""
    share = row.get("parity")
    if share is None:
        return ""
    single = ", single" if share and row.get("parity_dtype") == "float32" else ""
    evaluated = ", eval" if row.get("parity_mode") == "eval" else ""
    return ("0" if share == 0 else f"{share:.0e}") + single + evaluated


def _name(row: Fields) -> str:
    return row["model"].partition(":")[2].rpartition("/")[2]


def _stage(row: Fields) -> str:
    return row.get("stage") or "starting"


def _held(row: Fields) -> str:
    """The main reasons for what is not elastic."""
    told = []
    for why in row.get("frozen", ())[:3]:
        place = ", ".join(part for part in (why["op"], why["where"]) if part)
        told.append(f"{why['channels']} {why['reason']}" + (f" ({place})" if place else ""))
    return "; ".join(told)


MAIN: Columns = {
    "model": _name,
    "M params": _number("params", ".1f", 1e-6),
    "converted": _yes("converted"),
    "proved": _proof,
    "parity": _parity,
    "groups": _number("groups", ".0f"),
    "blocks": _number("blocks", ".0f"),
    "elastic outputs": _number("elastic_share", ".1%"),
    "params kept": _number("params_kept", ".3f"),
    "FLOPs kept": _number("flops_kept", ".3f"),
    "step": _yes("trained"),
    "analysis, s": _number("analysis_s", ".2f"),
    "convert and prove, s": _number("convert_s", ".1f"),
}
FAILED: Columns = {
    "model": lambda r: r["model"],
    "tool": lambda r: r["tool"],
    "in": _stage,
    "reason": lambda r: r["failure"],
}
STEPS: Columns = {"model": lambda r: r["model"], "step": _yes("trained"), "reason": lambda r: r["training_note"]}
PARITY: Columns = {"model": lambda r: r["model"], "parity": _parity, "where": lambda r: r["parity_note"]}
HELD: Columns = {
    "model": lambda r: r["model"],
    "elastic outputs": _number("elastic_share", ".1%"),
    "output channels at full width, and why": _held,
}


def _beside(rows: Sequence[Fields]) -> tuple[list[Fields], Columns]:
    """One row a model: what each tool makes elastic, in how many seconds."""
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    by_model: dict[str, Fields] = {}
    for row in rows:
        by_model.setdefault(row["model"], {"model": row["model"]})[row["tool"]] = row
    columns: Columns = {"model": lambda r: r["model"]}
    for tool in tools:
        columns[f"{tool}, elastic"] = _of(tool, _elastic)
        columns[f"{tool}, s"] = _of(tool, _number("convert_s", ".1f"))
    return list(by_model.values()), columns


def _of(tool: str, cell: Callable[[Fields], str]) -> Callable[[Fields], str]:
    return lambda row: cell(row.get(tool, {}))


def _elastic(row: Fields) -> str:
    return f"{running_share(row):.1%}" if row.get("converted") else "does not run" if row else ""


# ------------------------------------------------------------------------------------------------ output


def line(row: Fields) -> str:
    """A row while the run goes on."""
    if row.get("failure"):
        return f"{row['tool']} {row['model']}: {row['failure']} [{_stage(row)}]"
    shown = {title: cell(row) for title, cell in MAIN.items() if title != "model"}
    note = f"; {row['training_note']}" if row.get("training_note") else ""
    return f"{row['tool']} {row['model']}: " + ", ".join(f"{k} {v}" for k, v in shown.items() if v) + note


def printed(console: Console, run: Fields, rows: Sequence[Fields]) -> None:
    """The table of every model, and the summary."""
    for title, some, columns in sections(rows):
        table = Table(title=title)
        for column in columns:
            table.add_column(column)
        for row in some:
            table.add_row(*(cell(row) for cell in columns.values()))
        console.print(table)
    for found in summaries(rows):
        console.print("\n  ".join(sentences(found)), highlight=False)
    console.print(f"slowest: {_slowest(rows)}", highlight=False)
    console.print("\n".join([_said(run["versions"]), *_commands(run)]), highlight=False, soft_wrap=True)


def sections(rows: Sequence[Fields]) -> list[tuple[str, Sequence[Fields], Columns]]:
    """Every table with its title, those without rows left out."""
    ours = [row for row in rows if row["tool"] == "netslim"]
    small = [row for row in ours if row.get("params", 0) <= LARGE]
    found: list[tuple[str, Sequence[Fields], Columns]] = [
        (f"Models of {name}", [row for row in small if library(row) == name], MAIN)
        for name in dict.fromkeys(map(library, ours))
    ]
    found.append(
        (f"Models above {LARGE / 1e6:.0f} million parameters", [r for r in ours if r.get("params", 0) > LARGE], MAIN)
    )
    low = [row for row in ours if row.get("elastic_share") is not None and row["elastic_share"] < LOW]
    found.append((f"Less than {LOW:.0%} elastic", sorted(low, key=lambda r: r["elastic_share"]), HELD))
    found.append(("Failures of netslim", [row for row in ours if row.get("failure")], FAILED))
    found.append(("Training steps that did not run", [row for row in ours if row.get("training_note")], STEPS))
    found.append(("Parity beyond rounding, or not compared", [row for row in ours if row.get("parity_note")], PARITY))
    if len({row["tool"] for row in rows}) > 1:
        found.append(("Beside the peers", *_beside(rows)))
        found.append(("Failures of the peers", [r for r in rows if r["tool"] in PEERS and r.get("failure")], FAILED))
    return [section for section in found if section[1]]


def markdown(run: Fields, rows: Sequence[Fields]) -> str:
    """The whole of docs/zoo.md."""
    models = len({row["model"] for row in rows})
    size = "half the input size where that runs" if run["reduced"] else "the input size of the library"
    method = f"""{_said(run["versions"])}. {models} models: all of torchvision but the quantized ones and the smallest
variants of every module of timm's models, at {size}; those of other packages from small configurations,
at small inputs (`benchmarks/thirdparty`). One thread a model; all times are seconds of processor time."""
    left = [source for source, _ in run["models"] if source not in {row["model"] for row in rows}]
    if left:
        method += f"\n\n**Unfinished**: {len(left)} models are still to be measured (--resume): {', '.join(left)}."
    parts = [
        "# The zoo",
        "Written by this, never by hand:",
        "\n".join(f"    {command}" for command in _commands(run)),
        method,
        MEANING,
        "## Summary",
        "\n".join(f"- {'; '.join(sentences(found))}" for found in summaries(rows)),
        f"Slowest: {_slowest(rows)}.",
    ]
    for title, some, columns in sections(rows):
        parts += [f"## {title}", _table(columns, some)]
    return "\n\n".join(parts) + "\n"


def _commands(run: Fields) -> list[str]:
    """What was typed, with the limits of each; the later ones went on with the rows of the first."""
    return [f"{c['command']}  # at most {c['seconds']:.0f} s and {c['gib']:.0f} GiB a model" for c in run["commands"]]


def _table(columns: Columns, rows: Iterable[Fields]) -> str:
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell(row).replace("|", "\\|").replace("\n", " ") for cell in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _slowest(rows: Sequence[Fields]) -> str:
    ours = [row for row in rows if row["tool"] == "netslim"]
    return ", ".join(f"{row['model']} {row['convert_s']:.0f} s" for row in slowest(ours, 5))


def _said(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
