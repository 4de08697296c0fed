"""Whether a plan's ties are between its own places, and tie what is the same there.

Everything that a chain of `why` is made of is checked here, so that a file cannot bring one that contradicts its plan.
A plan that analysis has made goes without ties rather than not at all.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from netslim.errors import PlanError
from netslim.ir.layout_checks import Layouts
from netslim.ir.links import Tie, digits
from netslim.ir.plan import Plan
from netslim.ir.program_checks import need
from netslim.ir.ties import Ties
from netslim.layouts.axes import Layout

_LOG = logging.getLogger(__name__)
MOST_WORK = 1 << 22
"""Pairs of parts that ties may hold against each other."""
MOST_NODES, MOST_TIES = 200_000, 400_000
"""What a file may hold of them."""


def explained(plan: Plan) -> Plan:
    """The plan; without its ties where those do not pass, since an explanation is nothing that a network needs."""
    try:
        check_ties(plan)
    except PlanError as error:
        _LOG.debug("without ties: %s", error)
        return replace(plan, ties=Ties())
    return plan


def check_ties(plan: Plan) -> None:
    """Raises PlanError for ties of other places than the plan's, or of dimensions that are not the same."""
    ties, layouts = plan.ties, Layouts(plan)
    need(max(len(ties.layouts), len(ties.reasons), len(ties.causes)) <= MOST_NODES, "its ties are too many")
    need(len(ties.ties) <= MOST_TIES, "its ties are too many")
    for layout in ties.layouts:
        layouts.check(layout)
    need(len(ties.places) <= len(ties.layouts), "its ties name a place without a layout")
    need(len(ties.numbers) == len(ties.places), "its ties name a place twice")
    for slot, layout in zip(ties.places, ties.layouts, strict=False):
        dims = plan.layouts.get(slot.param, ())
        need(slot.dim < len(dims), f"its ties name dim {slot.dim} of {slot.param!r}, which has no layout")
        need(dims[slot.dim] == layout, f"its ties have another layout for dim {slot.dim} of {slot.param!r}")
    for group in plan.groups if ties.places else ():
        need(all(slot in ties.numbers for slot in group.slots), f"its ties leave out a place of group {group.name!r}")
    need(all(node < len(ties.layouts) for node, _ in ties.roles), "its ties give a role to nothing")
    for tie in ties.ties:
        _check_tie(ties, tie)
    need(_work(ties) <= MOST_WORK, "its ties are between too many parts")
    for tie in ties.links.broken[:1]:
        need(False, f"it ties {_name(plan, tie.whole)} to {_name(plan, tie.part)}, which are not the same channels")


def _check_tie(ties: Ties, tie: Tie) -> None:
    dims = ties.layouts
    need(tie.whole < len(dims) and tie.part < len(dims) + len(ties.reasons), "a tie of it leads nowhere")
    need(tie.cause < len(ties.causes), "a tie of it has no cause")
    size = dims[tie.part].size if tie.part < len(dims) else 1
    need(size > 0, "a tie of it is to no channels")
    last = tie.start + (size - 1) * max(1, tie.step)
    need(last < dims[tie.whole].size, "a tie of it does not fit into its dimension")


def _work(ties: Ties) -> int:
    """What it takes to hold the parts that are tied against each other."""
    counted: dict[int, int] = {}

    def count(layout: Layout) -> int:
        if id(layout) not in counted:
            counted[id(layout)] = sum(1 for _ in digits(layout))
        return counted[id(layout)]

    layouts = ties.layouts
    parts = list(map(count, layouts))
    others = (1 if t.part >= len(parts) or layouts[t.whole] is layouts[t.part] else parts[t.part] for t in ties.ties)
    return sum(parts) + sum(parts[tie.whole] * other for tie, other in zip(ties.ties, others, strict=True))


def _name(plan: Plan, node: int) -> str:
    places = plan.ties.places
    if node < len(places):
        return f"dim {places[node].dim} of {places[node].param!r}"
    return "a value inside" if node < len(plan.ties.layouts) else "a reason to freeze"
