"""How a converted network and its groups show themselves: short text in a terminal, a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from netslim.ir.plan import Group, Plan
from netslim.ir.proof import Proof
from netslim.ir.ties import Slot

_ROWS, _ROWS_IN_NOTEBOOK, _PLACES = 8, 200, 3
_WIDEST = 48
_HEAD = ("group", "channels", "places")


class Groups(tuple[Group, ...]):
    """The elastic axes of a network, in the order in which the program meets them: a tuple that shows as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join((_counted(self), *_lines(self)))

    def _repr_html_(self) -> str:
        return f"<p>{escape(_counted(self))}</p>{_table(self)}"


def text(plan: Plan, proof: Proof | None) -> str:
    """A network in a few lines: what it is of, its groups, blocks and proof."""
    return "\n".join((f"SlimNet of {plan.model}", *(f"  {fact}" for fact in _facts(plan, proof)), *_lines(plan.groups)))


def html(plan: Plan, proof: Proof | None) -> str:
    """The same for a notebook. Names are escaped: they can be anything."""
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in _facts(plan, proof))
    return f"<p><b>SlimNet of {escape(plan.model)}</b></p><ul>{facts}</ul>{_table(plan.groups)}"


def _facts(plan: Plan, proof: Proof | None) -> Iterator[str]:
    yield _counted(plan.groups)
    yield f"{len(plan.blocks)} blocks can be skipped"
    yield f"{sum(len(frozen.slots) for frozen in plan.frozen)} places stay at full width"
    yield f"proof: {'not done' if proof is None else proof.summary()}"


def _counted(groups: Sequence[Group]) -> str:
    return f"{len(groups)} channel groups of {sum(group.size for group in groups):,} channels"


def _places(slots: Sequence[Slot]) -> str:
    more = len(slots) - _PLACES
    named = ", ".join(f"{slot.param} dim {slot.dim}" for slot in slots[:_PLACES])
    return named + (f" and {more} more" if more > 0 else "")


def _lines(groups: Sequence[Group]) -> Iterator[str]:
    """The first rows, in columns."""
    rows = [(_cut(group.name), f"{group.size:,}", f"{len(group.slots)} places") for group in groups[:_ROWS]]
    wide = max((len(name) for name, _, _ in rows), default=0)
    yield from (f"  {name:<{wide}}  {size:>6}  {places}" for name, size, places in rows)
    if more := len(groups) - len(rows):
        yield f"  and {more} more"


def _cut(name: str) -> str:
    return name if len(name) <= _WIDEST else f"…{name[1 - _WIDEST :]}"


def _table(groups: Sequence[Group]) -> str:
    cells = ((group.name, f"{group.size:,}", _places(group.slots)) for group in groups[:_ROWS_IN_NOTEBOOK])
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    more = len(groups) - _ROWS_IN_NOTEBOOK
    head = "".join(f"<th>{name}</th>" for name in _HEAD)
    return f"<table><tr>{head}</tr>{rows}</table>" + (f"<p>and {more} more</p>" if more > 0 else "")
