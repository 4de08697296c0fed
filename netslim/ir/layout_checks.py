"""Whether layouts are made of a plan's groups, and of so few pieces that they can be worked with."""

from __future__ import annotations

from math import prod

from netslim.ir.plan import Plan
from netslim.ir.program_checks import need
from netslim.layouts.axes import Concat, Const, Elastic, Layout, Product, leaves

MOST_RUNS = 1 << 20
"""Pieces that a layout's kept channels can be in."""


def _most_runs(layout: Layout) -> int:
    """Pieces that a layout can be cut into: one for a constant, at most every channel of a group, products of these."""
    if isinstance(layout, Concat):
        return sum(map(_most_runs, layout.parts))
    if isinstance(layout, Product):
        inner = max(map(_most_runs, layout.factors[1:]))
        whole = all(isinstance(factor, Const) for factor in layout.factors[1:])
        return _most_runs(layout.factors[0]) if whole else prod(f.size for f in layout.factors[:-1]) * inner
    return layout.size if isinstance(layout, Elastic) else 1


class Layouts:
    """Checks the layouts of a plan, each once. inside: the groups in each, by the layout, which many dims share."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.pieces = plan, 0
        self.inside: dict[int, set[int]] = {}

    def check(self, layout: Layout) -> None:
        """Raises PlanError for one that is not solved, or of other groups than the plan's, and for too many pieces."""
        if id(layout) in self.inside:
            return
        found = self.inside[id(layout)] = set()
        runs = _most_runs(layout)
        self.pieces += runs
        need(runs <= MOST_RUNS and self.pieces <= 8 * MOST_RUNS, "its layouts are cut into too many pieces")
        for leaf in leaves(layout):
            need(isinstance(leaf, (Const, Elastic)), "a layout of it is not solved")
            if isinstance(leaf, Elastic):
                need(leaf.group < len(self.plan.groups), "a layout names a group that it does not have")
                need(leaf.size == self.plan.groups[leaf.group].size, "a layout and its group differ in size")
                found.add(leaf.group)
