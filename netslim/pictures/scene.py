"""A network as it is drawn: plain data, which the page gets as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netslim.files import JSON
from netslim.layouts.axes import Concat, Elastic, Layout, Product, resolve

Dims = tuple[Layout, ...]
"""The layouts of one tensor, a dimension each."""


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a network.

    kind: input | layer | call | output | python (a module whose forward stays Python). label: the class or function;
    module: the path of the module that it is drawn in; target: of a layer, its own path. where: file:line of the code.
    reads: the steps whose results it takes; calls: the Python that calls it; after: the step that it is drawn below.
    outs: its tensors. tensors: the parameters and buffers that it uses. blocks: the skippable ones that it is in.
    """

    name: str
    kind: str
    label: str
    module: str
    target: str = ""
    where: str = ""
    reads: tuple[int, ...] = ()
    calls: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    outs: tuple[Dims, ...] = ()
    tensors: tuple[str, ...] = ()
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Tensor:
    """A parameter or buffer: its layouts, and why they are what they are."""

    dims: Dims
    why: str


@dataclass(frozen=True, slots=True)
class Stop:
    """Where the width slider can stand: what every group keeps there, and what that costs, where it can be counted."""

    width: float
    kept: tuple[int, ...]
    params: int | None
    flops: int | None


@dataclass(frozen=True, slots=True)
class Named:
    """A group, a block, or a reason for which something is frozen: what a list on the page says of it.

    size: channels of a group or of a frozen place, parameters of a block; places: parameters and buffers.
    """

    name: str
    size: int
    where: str = ""
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scene:
    """All that is drawn of a network. modules: the class of each that is known; notes: what a reader must know."""

    title: str
    steps: tuple[Step, ...]
    modules: Mapping[str, str]
    tensors: Mapping[str, Tensor]
    groups: tuple[Named, ...]
    blocks: tuple[Named, ...]
    frozen: tuple[Named, ...]
    stops: tuple[Stop, ...]
    notes: tuple[str, ...]


def document(scene: Scene) -> dict[str, JSON]:
    """The scene as JSON-ready data: layouts of a tensor are written once, under a number, wherever they occur."""
    known: dict[str, tuple[int, list[JSON]]] = {}

    def number(dims: Dims) -> int:
        return known.setdefault(repr(dims), (len(known), [coded(layout) for layout in dims]))[0]

    steps = [_step(step, tuple(map(number, step.outs))) for step in scene.steps]
    tensors: dict[str, JSON] = {
        name: {"dims": number(each.dims), "why": each.why} for name, each in scene.tensors.items()
    }
    return {
        "title": scene.title,
        "steps": steps,
        "modules": dict(scene.modules),
        "tensors": tensors,
        "layouts": [code for _, code in known.values()],
        "groups": [_named(each) for each in scene.groups],
        "blocks": [_named(each) for each in scene.blocks],
        "frozen": [_named(each) for each in scene.frozen],
        "stops": [{"width": s.width, "kept": s.kept, "params": s.params, "flops": s.flops} for s in scene.stops],
        "notes": scene.notes,
    }


def coded(layout: Layout) -> JSON:
    """A number of entries, {"group": i}, {"product": [...]} or {"concat": [...]}."""
    layout = resolve(layout)
    if isinstance(layout, Elastic):
        return {"group": layout.group}
    if isinstance(layout, Product):
        return {"product": [coded(factor) for factor in layout.factors]}
    if isinstance(layout, Concat):
        return {"concat": [coded(part) for part in layout.parts]}
    return layout.size


def _step(step: Step, outs: tuple[int, ...]) -> dict[str, JSON]:
    """Without the fields that say nothing."""
    fields: dict[str, JSON] = {
        "name": step.name, "kind": step.kind, "label": step.label, "module": step.module, "target": step.target,
        "where": step.where, "reads": step.reads, "calls": step.calls, "after": step.after, "outs": outs,
        "tensors": step.tensors, "blocks": step.blocks,
    }  # fmt: skip
    return {key: value for key, value in fields.items() if value or key in _ALWAYS}


_ALWAYS = ("name", "kind", "label", "module")


def _named(item: Named) -> dict[str, JSON]:
    return {"name": item.name, "size": item.size, "where": item.where, "places": item.places}
