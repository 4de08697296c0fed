"""Whether a plan and a network fit together: every plan is checked before a network runs by it.

It holds for what analysis makes as for what a file brings. Layouts have the shapes of their tensors and are made of the
plan's groups; programs are what `program_checks` lets through, and `every_program` is the one walk over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from torch import Tensor, nn

from netslim.ir.inputs import tensors_in
from netslim.ir.plan import Plan, Skip
from netslim.ir.program_checks import Placed, Walk, is_identifier, need
from netslim.ir.tie_checks import check_ties
from netslim.layouts.axes import Concat, Const, Elastic, Layout, Product, leaves


def every_program(plan: Plan) -> Iterator[Placed]:
    """Every program of a plan, with the steps that replace its blocks; one that serves both modes comes once."""
    for path, region in plan.regions.items():
        for mode in (True,) if region.same else (True, False):
            skips = _skips(plan, path, mode)
            yield Placed(path, region.programs[mode], len(tensors_in(region.inputs)), skips)
        if region.same:  # its blocks may be skipped in two ways all the same
            others = _skips(plan, path, False)
            if others != skips:
                yield Placed(path, region.programs[False], len(tensors_in(region.inputs)), others)


def _skips(plan: Plan, path: str, mode: bool) -> tuple[tuple[int, Skip], ...]:
    """The ends of all blocks of a region, with the number of the block."""
    mine = ((i, block) for i, block in enumerate(plan.blocks) if block.region == path)
    return tuple((i, part) for i, block in mine for part in block.skips[mode].parts)


def check_plan(plan: Plan, modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Raises PlanError unless the plan is one of a network with these modules and tensors, by path."""
    _check_layouts(plan, tensors)
    check_ties(plan)
    need("" in modules, "it has no network")
    for path in plan.regions:
        need(path in modules, f"it has a program for {path!r}, which it does not hold")
    need(all(map(is_identifier, plan.inputs)), "it has an argument whose name is no word")
    for region in plan.regions.values():
        names = [*region.inputs, *(each.name for each in region.left)]
        need(all(map(is_identifier, names)), "it has an argument whose name is no word")
        need(len(set(names)) == len(names), "two arguments have one name")
    for block in plan.blocks:
        need(block.region in plan.regions, f"its block {block.name!r} is in no program")
    names = [block.name for block in plan.blocks] + [group.name for group in plan.groups]
    need(len(set(names[: len(plan.blocks)])) == len(plan.blocks), "two of its blocks have one name")
    need(len(set(names[len(plan.blocks) :])) == len(plan.groups), "two of its groups have one name")
    for placed in every_program(plan):
        Walk(plan, placed, modules, tensors).check()


# ------------------------------------------------------------------------------------------------- layouts


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


def _check_layouts(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    pieces: list[int] = []
    inside: dict[int, set[int]] = {}  # groups by layout, which many dims share

    def check(layout: Layout) -> None:
        if id(layout) in inside:
            return
        found = inside[id(layout)] = set()
        pieces.append(_most_runs(layout))
        need(pieces[-1] <= MOST_RUNS and sum(pieces) <= 8 * MOST_RUNS, "its layouts are cut into too many pieces")
        for leaf in leaves(layout):
            need(isinstance(leaf, (Const, Elastic)), "a layout of it is not solved")
            if isinstance(leaf, Elastic):
                need(leaf.group < len(plan.groups), "a layout names a group that it does not have")
                need(leaf.size == plan.groups[leaf.group].size, "a layout and its group differ in size")
                found.add(leaf.group)

    for name, dims in plan.layouts.items():
        need(name in tensors, f"it has a layout for {name!r}, which it does not hold")
        for layout in dims:
            check(layout)
        need(
            [layout.size for layout in dims] == list(tensors[name].shape),
            f"the layout of {name!r} is not of its shape {tuple(tensors[name].shape)}",
        )
    for group in plan.groups:
        need(group.size > 1, f"its group {group.name!r} has {group.size} channels")
    for number, group in enumerate(plan.groups):
        for slot in group.slots:
            dims = plan.layouts.get(slot.param, ())
            need(slot.dim < len(dims), f"its group {group.name!r} is in no dim {slot.dim} of {slot.param!r}")
            need(number in inside[id(dims[slot.dim])], f"its group {group.name!r} is not in {slot.param!r}")
    for layout in plan.ties.layouts:
        check(layout)
    for layout, at in plan.sizes:
        check(layout)
        need(0 <= at <= layout.size, "a size is counted beyond the end of its layout")
    for name in plan.cuts:
        need(name in plan.layouts, f"it cuts {name!r}, which has no layout")
    for ints in plan.ints.values():
        for layout in ints.values():
            check(layout)
