"""What a person reads: tables of groups, frozen slots, blocks and proofs, and the same as JSON-ready data."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from netslim.cost import elastic_share
from netslim.files import JSON
from netslim.net.runtime import runtime

if TYPE_CHECKING:
    from netslim.ir.plan import Frozen, Slot
    from netslim.ir.proof import Proof
    from netslim.net.slimnet import SlimNet

HALF = 0.5
"""The width at which the elastic share is told."""

_SHOWN_REASONS = 8
_SHOWN_SLOTS = 3
_PLAIN_WIDTH = 160  # columns of a table when nobody's terminal says how wide it is


# ------------------------------------------------------------------------------------------------ printing


def say(what: RenderableType) -> None:
    """Prints to stdout: colours and the terminal's width on a terminal, plain text elsewhere."""
    if isinstance(what, str) or sys.stdout.isatty():
        Console(highlight=False, markup=False).print(what, soft_wrap=isinstance(what, str))
        return
    plain = Console(highlight=False, markup=False, width=_PLAIN_WIDTH, file=io.StringIO())
    with plain.capture() as capture:
        plain.print(what)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


@contextmanager
def stages() -> Iterator[Callable[[str, float], None]]:
    """A progress(stage, fraction done of it) to call; a bar on a terminal's stderr, else a line per stage."""
    console = Console(stderr=True, highlight=False, markup=False)
    if not console.is_terminal:
        told: set[str] = set()

        def line(stage: str, _done: float) -> None:
            if stage not in told:
                told.add(stage)
                console.print(f"{stage} ...", soft_wrap=True)

        yield line
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("start", total=1.0)
        yield lambda stage, done: bar.update(task, description=stage, completed=done)


# ------------------------------------------------------------------------------------------------- reports


def conversion(net: SlimNet, title: str) -> RenderableType:
    """What a conversion found: groups, elastic share, what is frozen and why, the proof."""
    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, fact in _facts(net):
        facts.add_row(name, Text(fact))
    found = runtime(net).plan.frozen
    frozen = ("", frozen_table(found, limit=_SHOWN_REASONS)) if found else ()
    return Group(Text(title, style="bold"), facts, *frozen)


def _facts(net: SlimNet) -> Iterator[tuple[str, str]]:
    cost, plan, proof = elastic_share(net, width=HALF), runtime(net).plan, runtime(net).proof
    slots = sum(len(group.slots) for group in plan.groups)
    yield "groups", f"{len(plan.groups)} of {sum(g.size for g in plan.groups):,} channels, in {slots} places"
    yield "parameters", f"{cost.params_full:,}; at width {HALF} {cost.params_kept:,} ({cost.params_share:.1%})"
    yield "FLOPs", f"{cost.flops_full:,}; at width {HALF} {cost.flops_kept:,} ({cost.flops_share:.1%})"
    if plan.blocks:
        yield "blocks", f"{len(plan.blocks)} can be skipped"
    if plan.frozen:
        yield "frozen", f"{sum(len(frozen.slots) for frozen in plan.frozen)} places stay at full width"
    else:
        yield "frozen", "nothing"
    if plan.specialised:
        yield "refused", f"sizes and dtypes that take another way than the example's: {_listed(plan.specialised)}"
    if plan.refusal:
        yield "python", f"stays in part, and a file of it needs --trust: {plan.refusal}"
    yield "proof", "not done" if proof is None else proof.summary()


def _listed(lines: Sequence[str]) -> str:
    more = len(lines) - _SHOWN_LINES
    return ", ".join(lines[:_SHOWN_LINES]) + (f" and {more} further lines" if more > 0 else "")


_SHOWN_LINES = 3


def conversion_dict(net: SlimNet) -> dict[str, JSON]:
    """The same as data."""
    cost, plan, proof = elastic_share(net, width=HALF), runtime(net).plan, runtime(net).proof
    return {
        "groups": len(plan.groups),
        "channels": sum(group.size for group in plan.groups),
        "blocks": len(plan.blocks),
        "width": HALF,
        "params": {"full": cost.params_full, "kept": cost.params_kept, "share": cost.params_share},
        "flops": {"full": cost.flops_full, "kept": cost.flops_kept, "share": cost.flops_share},
        "frozen": [_frozen_dict(frozen) for frozen in plan.frozen],
        "specialised": list(plan.specialised),
        "refusal": plan.refusal,
        "proof": None if proof is None else proof_dict(proof),
    }


def inspection(net: SlimNet, parts: Sequence[str]) -> RenderableType:
    """The tables named by `parts`: groups, blocks, frozen."""
    tables = {
        "groups": lambda: groups_table(net),
        "blocks": lambda: blocks_table(net),
        "frozen": lambda: frozen_table(runtime(net).plan.frozen),
    }
    shown = [renderable for part in parts for renderable in ("", tables[part]())]
    if "groups" in parts:
        shown += [line for found in (_specialised(net), _refused(net)) for line in found]
    return Group(*shown[1:])


def _specialised(net: SlimNet) -> Iterator[Text | str]:
    """Where the program holds for inputs like the example only."""
    if found := runtime(net).plan.specialised:
        yield ""
        yield Text("decided by a size or the dtype of the example; others must agree, or are refused", style="bold")
        yield from map(Text, found)


def _refused(net: SlimNet) -> Iterator[Text | str]:
    """Why parts of the network stay Python."""
    plan = runtime(net).plan
    if plan.refusal:
        yield ""
        yield Text("followed in parts", style="bold")
        yield Text(f"{plan.refusal} These parts were followed: {', '.join(plan.regions) or 'none'}.")


def inspection_dict(net: SlimNet, parts: Sequence[str]) -> dict[str, JSON]:
    """The same as data."""
    plan = runtime(net).plan
    found: dict[str, JSON] = {
        "groups": [{"name": g.name, "size": g.size, "slots": [list(slot) for slot in g.slots]} for g in plan.groups],
        "blocks": [{"name": b.name, "params": b.params, "where": b.where, "region": b.region} for b in plan.blocks],
        "frozen": [_frozen_dict(frozen) for frozen in plan.frozen],
    }
    about: dict[str, JSON] = {
        "specialised": list(plan.specialised),
        "refusal": plan.refusal,
        "regions": list(plan.regions),
    }
    refused: dict[str, JSON] = {"refused_blocks": [item._asdict() for item in plan.refused]}
    chosen = {part: found[part] for part in parts}
    return chosen | (about if "groups" in parts else {}) | (refused if "blocks" in parts else {})


def groups_table(net: SlimNet) -> RenderableType:
    """One row per elastic group."""
    groups, table = runtime(net).plan.groups, _table("group", "channels", "places", right=(1,))
    for group in groups:
        table.add_row(Text(group.name), str(group.size), Text(_places(group.slots)))
    return _titled(f"{len(groups)} elastic groups", table)


def blocks_table(net: SlimNet) -> RenderableType:
    """One row per skippable block."""
    blocks, refused = runtime(net).plan.blocks, _refused_table(net)
    if not blocks:
        return Group(Text("no block can be skipped"), *refused)
    table = _table("block", "parameters", "where", right=(1,))
    for block in blocks:
        table.add_row(Text(block.name), f"{block.params:,}", Text(block.where))
    return _titled(f"{len(blocks)} skippable blocks", table, *refused)


def _refused_table(net: SlimNet) -> list[RenderableType]:
    """Sums that look like the end of a block, with the reason why they are none."""
    found = runtime(net).plan.refused
    if not found:
        return []
    table = _table("sum", "not a block, because")
    for refused in found:
        table.add_row(Text(refused.where), Text(refused.reason))
    return ["", _titled("refused", table)]


def frozen_table(frozen: Sequence[Frozen], limit: int | None = None) -> RenderableType:
    """One row per reason, operator and line of the model's code; the first `limit` of them."""
    if not frozen:
        return Text("nothing is frozen")
    causes: dict[tuple[str, str, str], list[Slot]] = {}
    for item in frozen:
        causes.setdefault((item.reason, item.op, item.where), []).extend(item.slots)
    table = _table("reason", "operator", "where", "places")
    shown = list(causes.items())[:limit]
    for cause, slots in shown:
        table.add_row(*map(Text, cause), Text(_places(slots)))
    rest = len(causes) - len(shown)
    hint = "an operator without a rule: give one with convert(..., rules={'aten::NAME': rule}), see docs/rules.md"
    hints = [Text(hint)] if any("no rule" in cause[0] for cause in causes) and limit is None else []
    more = [*hints, *([Text(f"... and {rest} more: netslim inspect --frozen")] if rest else [])]
    return _titled("frozen", table, *more)


def proof_table(proof: Proof) -> RenderableType:
    """One row per sub-network that was compared, and the verdict."""
    table = _table("case", "largest difference", "", right=(1,))
    for case in proof.cases:
        table.add_row(Text(case.name), f"{case.max_rel_diff:.1e}", "ok" if case.passed else "WRONG")
    return _titled("sub-networks against the masked full network", table, Text(proof.summary()))


def proof_dict(proof: Proof) -> dict[str, JSON]:
    """The same as data."""
    return {"passed": proof.passed, **proof.to_data()}


def _titled(title: str, *body: RenderableType) -> Group:
    return Group(Text(title, style="bold"), *body)


def _table(*columns: str, right: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def _places(slots: Sequence[Slot]) -> str:
    """fc.weight[1], fc.bias[0] and 3 more."""
    names = ", ".join(f"{slot.param}[{slot.dim}]" for slot in slots[:_SHOWN_SLOTS])
    rest = len(slots) - _SHOWN_SLOTS
    return f"{names} and {rest} more" if rest > 0 else names


def _frozen_dict(frozen: Frozen) -> dict[str, JSON]:
    return {
        "reason": frozen.reason,
        "op": frozen.op,
        "where": frozen.where,
        "size": frozen.size,
        "slots": [list(slot) for slot in frozen.slots],
    }
