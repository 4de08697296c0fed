"""A plan as a part of the document, and back.

What comes back is typed by the schema; that its parts fit together, and to a network, is the business of
`netslim.ir.plan_checks`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from netslim.archive import schema as s
from netslim.archive.literals import DEEPEST, dict_data, inputs_from, value_data, value_from
from netslim.ir.inputs import Left
from netslim.ir.plan import Block, Frozen, Group, Plan, Refused, Region, Skip, Slot
from netslim.ir.program import Node, Program
from netslim.ir.ties import Tie, Ties
from netslim.layouts.axes import Concat, Const, Elastic, Layout, Product, Reason

_MOST = 4096


def plan_data(plan: Plan) -> s.PlanData:
    """The plan as data. Equal layouts are written once. Raises ValueError for a literal that cannot be stored."""
    places: dict[bytes, int] = {}
    distinct: list[s.LayoutData] = []

    def place(layout: Layout) -> int:
        made = _layout_data(layout)
        key = msgspec.json.encode(made)
        if key not in places:
            places[key] = len(distinct)
            distinct.append(made)
        return places[key]

    return s.PlanData(
        groups=[s.GroupData(g.name, g.size, _slots_data(g.slots)) for g in plan.groups],
        frozen=[
            s.FrozenData(_slots_data(f.slots), f.size, text(f.reason), text(f.op), text(f.where)) for f in plan.frozen
        ],
        layouts={name: list(map(place, dims)) for name, dims in plan.layouts.items()},
        regions=[_region_data(path, region) for path, region in plan.regions.items()],
        sizes=[(place(layout), at) for layout, at in plan.sizes],
        cuts=list(plan.cuts),
        ints={path: {name: place(d) for name, d in ints.items()} for path, ints in plan.ints.items()},
        inputs=dict_data(plan.inputs),
        refusal=text(plan.refusal),
        blocks=[s.BlockData(b.name, b.params, text(b.where), b.region, _skips_data(b), b.stage) for b in plan.blocks],
        refused=[s.RefusedData(*map(text, refused)) for refused in plan.refused],
        specialised=list(map(text, plan.specialised)),
        unknown={text(name): n for name, n in plan.unknown.items()},
        model=text(plan.model),
        distinct=distinct,
        ties=_ties_data(plan.ties, list(map(place, plan.ties.layouts))),
    )


def plan_from(data: s.PlanData) -> Plan:
    """The plan that was written. Raises ValueError where a value stands for none of Python's or torch's."""
    _check_places(data)
    distinct = [_layout_from(found) for found in data.distinct]
    layout = distinct.__getitem__

    if sum(map(len, (steps for region in data.regions for steps in region.programs))) > s.STEPS:
        raise ValueError(f"its programs have more than {s.STEPS:,} steps")
    return Plan(
        groups=tuple(Group(g.name, g.size, _slots_from(g.slots)) for g in data.groups),
        frozen=tuple(
            Frozen(_slots_from(f.slots), f.size, text(f.reason), text(f.op), text(f.where)) for f in data.frozen
        ),
        layouts={name: tuple(map(layout, dims)) for name, dims in data.layouts.items()},
        regions={region.path: _region_from(region) for region in data.regions},
        sizes=tuple((layout(place), at) for place, at in data.sizes),
        cuts=tuple(data.cuts),
        ints={path: {name: layout(place) for name, place in ints.items()} for path, ints in data.ints.items()},
        inputs=inputs_from(data.inputs),
        refusal=text(data.refusal),
        blocks=tuple(_block_from(block) for block in data.blocks),
        refused=tuple(Refused(text(found.where), text(found.reason)) for found in data.refused),
        specialised=tuple(map(text, data.specialised)),
        unknown={text(name): n for name, n in data.unknown.items()},
        model=text(data.model),
        ties=Ties() if data.ties is None else _ties_from(data.ties, tuple(map(layout, data.ties.layouts))),
    )


def _check_places(data: s.PlanData) -> None:
    """Every layout that is named is there, and the other way round."""
    named = {place for dims in data.layouts.values() for place in dims} | {place for place, _ in data.sizes}
    named |= {place for ints in data.ints.values() for place in ints.values()}
    named |= set(data.ties.layouts) if data.ties else set()
    if named != set(range(len(data.distinct))):
        raise ValueError("the layouts that it names are not those that it holds")


def text(value: str) -> str:
    """What is only read by people: of a bounded length, of letters that can be printed."""
    return "".join(c if c.isprintable() else "?" for c in value[:_MOST])


def _slots_data(slots: tuple[Slot, ...]) -> list[s.SlotData]:
    return [s.SlotData(slot.param, slot.dim) for slot in slots]


def _slots_from(data: list[s.SlotData]) -> tuple[Slot, ...]:
    return tuple(Slot(slot.param, slot.dim) for slot in data)


def _reason_data(reason: Reason) -> s.ReasonData:
    return s.ReasonData(text(reason.text), text(reason.op), text(reason.where))


def _reason_from(data: s.ReasonData) -> Reason:
    return Reason(text(data.text), text(data.op), text(data.where))


def _ties_data(ties: Ties, layouts: list[int]) -> s.TiesData:
    reasons, causes = (list(map(_reason_data, found)) for found in (ties.reasons, ties.causes))
    places, edges = _slots_data(ties.places), list[s.TieData](ties.ties)
    return s.TiesData(places, layouts, reasons, causes, edges, list(ties.roles))  # type: ignore[arg-type]


def _ties_from(data: s.TiesData, layouts: tuple[Layout, ...]) -> Ties:
    reasons, causes = (tuple(map(_reason_from, found)) for found in (data.reasons, data.causes))
    edges = tuple(Tie(*tie) for tie in data.ties)
    return Ties(_slots_from(data.places), layouts, reasons, causes, edges, tuple(data.roles))


# ------------------------------------------------------------------------------------------------- layouts


def _layout_data(layout: Layout) -> s.LayoutData:
    if isinstance(layout, Elastic):
        return s.GroupRef(layout.group, layout.size)
    if isinstance(layout, Const):
        return s.ConstData(layout.size, _reason_data(layout.reason) if layout.reason else None)
    if isinstance(layout, Product):
        return s.ProductData(list(map(_layout_data, layout.factors)))
    assert isinstance(layout, Concat)
    return s.ConcatData(list(map(_layout_data, layout.parts)))


def _layout_from(data: s.LayoutData, depth: int = 0) -> Layout:
    if isinstance(data, s.GroupRef):
        return Elastic(data.group, data.size)
    if isinstance(data, s.ConstData):
        return Const(data.size, _reason_from(data.reason) if data.reason else None)
    if depth > DEEPEST:
        raise ValueError("a layout is nested too deeply")
    children = data.factors if isinstance(data, s.ProductData) else data.parts
    made = tuple(_layout_from(child, depth + 1) for child in children)
    return Product(made) if isinstance(data, s.ProductData) else Concat(made)


# ------------------------------------------------------------------------------------------------ programs


def _region_data(path: str, region: Region) -> s.RegionData:
    modes = (True,) if region.same else (True, False)
    programs = [list(map(_node_data, region.programs[mode])) for mode in modes]
    left = [s.LeftData(each.name, each.place, value_data(each.value)) for each in region.left]  # type: ignore[arg-type]
    return s.RegionData(path, dict_data(region.inputs), programs, left)


def _region_from(data: s.RegionData) -> Region:
    programs = [Program(tuple(map(_node_from, steps))) for steps in data.programs]
    left = tuple(Left(each.name, each.place, value_from(each.value)) for each in data.left)
    return Region(inputs_from(data.inputs), {True: programs[0], False: programs[-1]}, left)


def _skips_data(block: Block) -> list[s.SkipData]:
    modes = (True,) if block.skips[True] == block.skips[False] else (True, False)
    skips = [block.skips[mode] for mode in modes]
    return [s.SkipData(*_end_data(skip), [s.EndData(*_end_data(part)) for part in skip.more]) for skip in skips]


def _end_data(skip: Skip) -> tuple[str, list[str], list[s.NodeData], str, list[str]]:
    return skip.end, list(skip.body), list(map(_node_data, skip.instead)), skip.value, list(skip.bodies)


def _skip_from(data: s.EndData, more: Iterable[s.EndData] = ()) -> Skip:
    instead = tuple(map(_node_from, data.instead))
    return Skip(data.end, tuple(data.body), instead, data.value, tuple(data.bodies), tuple(map(_skip_from, more)))


def _block_from(data: s.BlockData) -> Block:
    made = [_skip_from(skip, skip.more) for skip in data.skips]
    return Block(data.name, data.params, data.where, data.region, {True: made[0], False: made[-1]}, data.stage)


def _node_data(node: Node) -> s.NodeData:
    args, kwargs = list(map(value_data, node.args)), {name: value_data(v) for name, v in node.kwargs.items()}
    return s.NodeData(node.name, node.op, node.target, args, kwargs, text(node.where), node.grad, node.cast, node.again)  # type: ignore[arg-type]


def _node_from(data: s.NodeData) -> Node:
    args, kwargs = tuple(map(value_from, data.args)), {name: value_from(v) for name, v in data.kwargs.items()}
    return Node(data.name, data.op, data.target, args, kwargs, data.where, data.grad, data.cast, data.again)
