"""A plan as plain lists, and back. What comes from a file is checked: functions, names and literals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from netslim.axes import Concat, Const, Elastic, Layout, Product, Reason
from netslim.errors import ArchiveError
from netslim.inputs import Input
from netslim.ops import FUNCTIONS
from netslim.plan import Block, Frozen, Group, Plan, Refused, Region, Skip, Slot
from netslim.program import RESERVED, Mode, Node, Program, Ref, Size, Struct, Track, function, leaves


def plan_data(plan: Plan) -> dict[str, Any]:
    return {
        "groups": [[g.name, g.size, [list(s) for s in g.slots]] for g in plan.groups],
        "frozen": [[[list(s) for s in f.slots], f.size, f.reason, f.op, f.where] for f in plan.frozen],
        "layouts": {name: [_layout_data(d) for d in dims] for name, dims in plan.layouts.items()},
        "regions": [[path, *_region_data(region)] for path, region in plan.regions.items()],
        "sizes": [[_layout_data(layout), at] for layout, at in plan.sizes],
        "cuts": list(plan.cuts),
        "ints": {p: {n: _layout_data(d) for n, d in ints.items()} for p, ints in plan.ints.items()},
        "inputs": _value_data(plan.inputs),
        "refusal": plan.refusal,
        "blocks": [[b.name, b.params, b.where, b.region, _skips_data(b), b.stage] for b in plan.blocks],
        "refused": [list(refused) for refused in plan.refused],
        "specialised": list(plan.specialised),
        "unknown": dict(plan.unknown),
        "model": plan.model,
    }  # fmt: skip


def plan_from(data: Mapping[str, Any]) -> Plan:
    def slots(found: Any) -> tuple[Slot, ...]:
        return tuple(Slot(str(name), int(dim)) for name, dim in found)

    interned: dict[Layout, Layout] = {}

    def layout(found: Any) -> Layout:
        made = _layout_from(found, len(data["groups"]))
        return interned.setdefault(made, made)

    return Plan(
        groups=tuple(Group(name, size, slots(found)) for name, size, found in data["groups"]),
        frozen=tuple(Frozen(slots(found), size, *rest) for found, size, *rest in data["frozen"]),
        layouts={name: tuple(map(layout, dims)) for name, dims in data["layouts"].items()},
        regions={str(path): _region_from(rest, data) for path, *rest in data["regions"]},
        sizes=tuple((layout(found), int(at)) for found, at in data["sizes"]),
        cuts=tuple(data["cuts"]),
        ints={p: {n: layout(d) for n, d in ints.items()} for p, ints in data["ints"].items()},
        inputs=_value_from(data["inputs"]),
        refusal=str(data["refusal"]),
        blocks=tuple(_block_from(block, data) for block in data["blocks"]),
        refused=tuple(Refused(*map(str, found)) for found in data["refused"]),
        specialised=tuple(data["specialised"]),
        unknown=dict(data["unknown"]),
        model=str(data["model"]),
    )


def _layout_data(layout: Layout) -> list[Any]:
    if isinstance(layout, Elastic):
        return ["group", layout.group, layout.size]
    if isinstance(layout, Const):
        reason = layout.reason
        return ["const", layout.size, [reason.text, reason.op, reason.where] if reason else None]
    if isinstance(layout, Product):
        return ["product", *map(_layout_data, layout.factors)]
    assert isinstance(layout, Concat)
    return ["concat", *map(_layout_data, layout.parts)]


def _layout_from(data: list[Any], groups: int) -> Layout:
    kind, *rest = data
    if kind == "group":
        if not 0 <= rest[0] < groups:
            raise ValueError("no such group")
        return Elastic(rest[0], rest[1])
    if kind == "const":
        return Const(rest[0], Reason(*rest[1]) if rest[1] else None)
    children = tuple(_layout_from(child, groups) for child in rest)
    return Product(children) if kind == "product" else Concat(children)


def _region_data(region: Region) -> list[Any]:
    modes = (True,) if region.same else (True, False)
    return [_value_data(region.inputs), [_program_data(region.programs[mode]) for mode in modes]]


def _region_from(found: Any, data: Mapping[str, Any]) -> Region:
    inputs, nodes = found
    programs = [_program_from(n, len(data["sizes"]), len(data["cuts"])) for n in nodes]
    return Region(_value_from(inputs), {True: programs[0], False: programs[-1]})


def _skips_data(block: Block) -> list[Any]:
    modes = (True,) if block.skips[True] == block.skips[False] else (True, False)
    skips = [block.skips[mode] for mode in modes]
    return [[s.end, list(s.body), _program_data(Program(s.instead)), s.value, list(s.bodies)] for s in skips]


def _block_from(found: Any, data: Mapping[str, Any]) -> Block:
    name, params, where, region, skips, stage = found
    made = [
        Skip(end, tuple(body), tuple(map(_node_from, instead)), value, tuple(bodies))
        for end, body, instead, value, bodies in skips
    ]
    words = {word for skip in made for word in (skip.end, skip.value, *skip.body, *skip.bodies)}
    sizes = [i.index for skip in made for node in skip.instead for i in leaves(node.args) if isinstance(i, Size)]
    if not all(isinstance(word, str) and word.isidentifier() for word in words) or any(
        not 0 <= i < len(data["sizes"]) for i in sizes
    ):
        raise ArchiveError("the file's blocks name what its program does not hold.")
    return Block(str(name), int(params), str(where), str(region), {True: made[0], False: made[-1]}, int(stage))


def _program_data(program: Program) -> list[Any]:
    return [
        [n.name, n.op, n.target, _value_data(n.args), _value_data(n.kwargs), n.where, n.grad, n.cast] for n in program
    ]


def _program_from(nodes: list[Any], sizes: int, cuts: int) -> Program:
    """A program whose every name was made by an earlier step and whose every index is in range."""
    program = Program(tuple(map(_node_from, nodes)))
    if [i for i, node in enumerate(program) if node.op == "output"] != [len(program.nodes) - 1]:
        raise ArchiveError("the file's program does not end in its one output.")
    made: set[str] = set()
    for node in program:
        if not made.issuperset(node.refs):
            raise ArchiveError("the file's program uses a value that no step has made.")
        made.add(node.name)
        indices = [leaf.index for leaf in leaves((node.args, node.kwargs)) if isinstance(leaf, Size)]
        if any(not 0 <= i < sizes for i in indices):
            raise ArchiveError("the file's program uses a size that the file does not hold.")
        if node.op == "param" and node.args and not (type(node.args[0]) is int and 0 <= node.args[0] < cuts):
            raise ArchiveError("the file's program cuts a parameter in a way that the file does not hold.")
    return program


def _node_from(data: list[Any]) -> Node:
    name, op, target, args, kwargs, where, grad, *rest = data
    (cast,) = rest or (True,)  # files of format 1 do not say
    place = " ".join(str(where).split())
    flags = bool(grad), bool(cast)
    made = Node(str(name), str(op), str(target), _value_from(args), _value_from(kwargs), place, *flags)
    if op not in ("input", "param", "module", "call", "output"):
        raise ArchiveError(f"the file's program has a step of kind {op!r}, which netslim does not know.")
    if op == "call" and target not in FUNCTIONS:
        function(target)
    words = [name, *made.kwargs, *made.refs]
    if not all(isinstance(w, str) and w.isidentifier() and not w.startswith("__") for w in words) or name in RESERVED:
        raise ArchiveError("the file's program uses a name that is no plain identifier.")
    return made


def _value_data(value: Any) -> Any:
    if isinstance(value, Ref):
        return ["ref", value.name]
    if isinstance(value, Size):
        return ["size", value.index]
    if isinstance(value, Mode):
        return ["mode", value.negated]
    if isinstance(value, Track):
        return ["track"]
    if isinstance(value, (tuple, list)):
        return ["list" if isinstance(value, list) else "tuple", [_value_data(v) for v in value]]
    if isinstance(value, Mapping):
        return ["dict", [[k, _value_data(v)] for k, v in value.items()]]
    if isinstance(value, slice):
        return ["slice", [_value_data(v) for v in (value.start, value.stop, value.step)]]
    if isinstance(value, Struct):
        return ["struct", value.kind, list(value.keys), [_value_data(v) for v in value.values]]
    if isinstance(value, Input):
        return ["input", list(value.shape), value.dtype, value.high]
    if value is Ellipsis:
        return ["ellipsis"]
    if isinstance(value, (torch.memory_format, torch.layout)):
        return ["torch", str(value).removeprefix("torch.")]
    return ["value", value]


def _value_from(data: list[Any]) -> Any:
    kind, *rest = data
    if kind == "value":
        if not (rest[0] is None or isinstance(rest[0], (bool, int, float, complex, str, torch.dtype, torch.device))):
            raise ValueError("no literal")
        return rest[0]
    if kind == "ref":
        return Ref(str(rest[0]))
    if kind == "input":
        if not isinstance(rest[1], torch.dtype):
            raise ValueError("no dtype")
        return Input(tuple(map(int, rest[0])), rest[1], int(rest[2]))
    if kind in ("size", "mode"):
        return Size(int(rest[0])) if kind == "size" else Mode(bool(rest[0]))
    if kind in ("track", "ellipsis"):
        return Track() if kind == "track" else Ellipsis
    if kind == "torch":
        found = getattr(torch, str(rest[0]))
        if not isinstance(found, (torch.memory_format, torch.layout)):
            raise ValueError("no memory format")
        return found
    if kind == "dict":
        return {_key(k): _value_from(v) for k, v in rest[0]}
    if kind == "struct":
        if not str(rest[0]).isidentifier():
            raise ValueError("no name")
        return Struct(rest[0], tuple(map(_key, rest[1])), tuple(map(_value_from, rest[2])))
    items = [_value_from(v) for v in rest[0]]
    return items if kind == "list" else slice(*items) if kind == "slice" else tuple(items)


def _key(key: Any) -> str | int:
    if type(key) not in (str, int):
        raise ValueError("no key")
    return key
