"""From a typed run to channel groups: which axes are elastic, what they are called, what is frozen and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from netslim.ir.plan import Frozen, Group, Slot
from netslim.layouts.axes import (
    Axis,
    Concat,
    Const,
    Elastic,
    Layout,
    Product,
    Reason,
    concat,
    is_fixed,
    leaves,
    product,
    resolve,
)  # fmt: skip
from netslim.layouts.engine import Engine
from netslim.layouts.ties import freeze, stop


@dataclass(frozen=True)
class Solution:
    """The solved axes of one analysis."""

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...]
    ids: Mapping[int, int]  # Axis.id -> group
    axes: tuple[Axis, ...]

    def solved(self, layout: Layout) -> Layout:
        """A layout with groups for axes; an axis that no parameter has keeps its size."""
        layout = resolve(layout)
        if isinstance(layout, Axis):
            group = self.ids.get(layout.id)
            return Const(layout.size) if group is None else Elastic(group, layout.size)
        if isinstance(layout, Product):
            return product(*map(self.solved, layout.factors))
        if isinstance(layout, Concat):
            return concat(*map(self.solved, layout.parts))
        return layout


def solve(engine: Engine, tensors: Mapping[str, Tensor]) -> Solution:
    """Groups of the tensors (parameters and buffers by name, in the order in which the program meets them)."""
    dims = {name: engine.dims(tensor) for name, tensor in tensors.items()}
    _choose_factors([layout for layouts in dims.values() for layout in layouts])
    slots: dict[int, list[Slot]] = {}
    axes: dict[int, Axis] = {}
    for name, layouts in dims.items():
        for dim, layout in enumerate(layouts):
            for leaf in dict.fromkeys(leaves(layout)):
                if isinstance(leaf, Axis):
                    slots.setdefault(leaf.id, []).append(Slot(name, dim))
                    axes[leaf.id] = leaf
    names = _names(slots)
    groups = tuple(Group(names[axis], axes[axis].size, tuple(found)) for axis, found in slots.items())
    return Solution(groups, _frozen(dims), {axis: i for i, axis in enumerate(slots)}, tuple(axes.values()))


def _choose_factors(layouts: Iterable[Layout]) -> None:
    """Where a product has several elastic factors the largest stays elastic (the last of equals); the others freeze.

    So a network of many narrow groups drops whole groups, and attention heads lose channels of every head.
    """
    again = True
    layouts = list(layouts)
    while again:
        again = False
        for layout in layouts:
            for found in _products(resolve(layout)):
                again = _choose(found, layout) or again


def _products(layout: Layout) -> list[Product]:
    if isinstance(layout, Product):
        return [layout, *(p for f in layout.factors for p in _products(f))]
    return [p for part in layout.parts for p in _products(part)] if isinstance(layout, Concat) else []


def _choose(found: Product, place: Layout) -> bool:
    elastic = [f for f in found.factors if not is_fixed(f)]
    if len(elastic) < 2:
        return False
    kept = max(reversed(elastic), key=lambda f: f.size)
    others = [factor for factor in elastic if factor != kept]  # an axis times itself is still one axis
    for factor in others:
        freeze(factor, lambda: _OTHER_FACTOR)
    if others and isinstance(place, Axis):
        stop(place, _OTHER_FACTOR)
    return bool(others)


_OTHER_FACTOR = Reason("another factor of the same dimension is elastic")


def _names(slots: Mapping[int, list[Slot]]) -> dict[int, str]:
    """Each axis is called after the first parameter that has it as its first dimension, else the first that has it."""
    names: dict[int, str] = {}
    used: set[str] = set()
    for axis, found in slots.items():
        slot = next((s for s in found if s.dim == 0), found[0])
        base = slot.param.removesuffix(".weight") if slot.dim == 0 else f"{slot.param}.{slot.dim}"
        name, i = base, 1
        while name in used:
            name, i = f"{base}#{i + 1}", i + 1
        used.add(name)
        names[axis] = name
    return names


def _frozen(dims: Mapping[str, list[Layout]]) -> tuple[Frozen, ...]:
    """Slots at full width, together where size and reason are the same. Kernels and single channels are no channels."""
    found: dict[tuple[int, Reason], list[Slot]] = {}
    for name, layouts in dims.items():
        for dim, layout in enumerate(map(resolve, layouts)):
            if layout.size < 2 or not is_fixed(layout):
                continue
            reason = next((leaf.reason for leaf in leaves(layout) if isinstance(leaf, Const) and leaf.reason), None)
            reason = reason or Reason("meets a dimension of fixed size")
            if reason.text != "kernel":
                found.setdefault((layout.size, reason), []).append(Slot(name, dim))
    return tuple(Frozen(tuple(slots), size, r.text, r.op, r.where) for (size, r), slots in found.items())
