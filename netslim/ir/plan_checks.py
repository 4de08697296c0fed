"""Whether a plan and a network fit together: every plan is checked before a network runs by it.

It holds for what analysis makes as for what a file brings. Layouts have the shapes of their tensors and are made of the
plan's groups; programs are what `program_checks` lets through, and `every_program` is the one walk over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from netslim.ir.inputs import tensors_in
from netslim.ir.layout_checks import Layouts
from netslim.ir.plan import Plan, Skip
from netslim.ir.program_checks import Placed, Walk, is_identifier, need
from netslim.ir.tie_checks import check_ties


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


def _check_layouts(plan: Plan, tensors: Mapping[str, Tensor]) -> None:
    layouts = Layouts(plan)
    for name, dims in plan.layouts.items():
        need(name in tensors, f"it has a layout for {name!r}, which it does not hold")
        for layout in dims:
            layouts.check(layout)
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
            need(number in layouts.inside[id(dims[slot.dim])], f"its group {group.name!r} is not in {slot.param!r}")
    for layout, at in plan.sizes:
        layouts.check(layout)
        need(0 <= at <= layout.size, "a size is counted beyond the end of its layout")
    for name in plan.cuts:
        need(name in plan.layouts, f"it cuts {name!r}, which has no layout")
    for ints in plan.ints.values():
        for layout in ints.values():
            layouts.check(layout)
