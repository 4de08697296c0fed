"""The steps of a network's programs as they are drawn: numbers left out, parameters at the steps that use them.

A layer is drawn in the module that holds it. A call belongs to no module that the program knows of: it is drawn in the
innermost one that the layers before and after it share, or that all its arguments come from; the sum that ends a block
is drawn in the block's module. A network that was followed in parts has a step for every module that stays Python,
with the parts that it calls below it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from netslim.ir.functions import SUMS
from netslim.ir.plan import Plan, Region
from netslim.ir.program import LIFTED, Node, Program
from netslim.net.runtime import named_tensors, runtime
from netslim.net.slimnet import SlimNet
from netslim.pictures.scene import Step
from netslim.pictures.values import Values, values
from netslim.trace.meta import at


def steps(net: SlimNet) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """The steps of a converted network in the order in which they run, and what was left out of them, in sentences."""
    plan = runtime(net).plan
    modes = {path: drawn_mode(region) for path, region in plan.regions.items()}
    found = values(net, modes)
    python = [path for path in _python(plan) if path not in plan.regions]
    made = [_opaque(net, path, python) for path in python]
    spans = []
    for path in plan.regions:
        spans.append((path, len(made)))
        made += _region(net, path, modes[path], found[path], len(made), python)
    _order(made, spans, python)
    made += _beside(net, made, python)
    return tuple(made), tuple(_left_out(plan, modes, found))


def _order(made: list[Step], spans: Sequence[tuple[str, int]], python: Sequence[str]) -> None:
    """Parts below each other, as they were met: each one, or else the module that calls it, after the one before."""
    before = ""
    for path, first in spans:
        callers = [caller for caller in _above(path) if caller in python and caller not in _above(before)]
        below = python.index(callers[0]) if callers and first > len(python) else first
        if first > len(python):
            made[below] = replace(made[below], after=(first - 1,))
        before = path


def drawn_mode(region: Region) -> bool:
    """The mode whose program is drawn: evaluation, unless training calls more layers (auxiliary heads)."""
    return _layers(region.programs[True]) > _layers(region.programs[False])


def _layers(program: Program) -> int:
    return len({node.target for node in program if node.op in ("module", "param")})


def _left_out(plan: Plan, modes: Mapping[str, bool], found: Mapping[str, Values | None]) -> Iterator[str]:
    for path, region in plan.regions.items():
        name = path or "the network"
        if not region.alike:
            other = "evaluation" if modes[path] else "training"
            yield f"{name} computes something else in {other}, which is not drawn."
        if found[path] is None:
            yield f"{name} does not run without values: shapes of its results are not shown."


# -------------------------------------------------------------------------------------------------- one program


def _region(
    net: SlimNet, path: str, training: bool, found: Values | None, first: int, python: Sequence[str]
) -> list[Step]:
    """The steps of one region, whose numbers begin at `first`."""
    program = runtime(net).plan.regions[path].programs[training]
    homes, shown = scopes(program, path), _Reads(program, found, first)
    homes |= _sums(runtime(net).plan, path, training, homes)
    calls = tuple(python.index(caller) for caller in _above(path) if caller in python)[-1:]
    blocks = _blocks(runtime(net).plan, path, training)
    made: list[Step] = []
    for node in program:
        if shown.number(node.name) is not None:
            step = _step(net, node, homes[node.name])
            made.append(
                replace(
                    step, reads=shown.reads(node), outs=(found or {}).get(node.name, ()),
                    tensors=(*step.tensors, *shown.tensors(node)), blocks=tuple(blocks.get(node.name, ())),
                    calls=calls if node.op == "input" else (),
                )
            )  # fmt: skip
    return [replace(step, name=f"{path}/{step.name}" if path else step.name) for step in made]


def _step(net: SlimNet, node: Node, home: str) -> Step:
    if node.op != "module":
        label = {"input": "input", "output": "output"}.get(node.op) or node.target.rpartition(".")[2]
        return Step(node.name, node.op, label, home, where=node.where)
    tensors = tuple(f"{node.target}.{name}" for name in _own(net, node.target))
    return Step(node.name, "layer", kind(net, node.target), home, node.target, node.where, tensors=tensors)


def kind(net: SlimNet, path: str) -> str:
    """The class of a layer, or of a module that stays Python."""
    made = type(at(runtime(net).top, path))
    return next((base.__name__ for base in made.__mro__ if not base.__module__.startswith("netslim.")), made.__name__)


def _own(net: SlimNet, path: str) -> list[str]:
    layer = at(runtime(net).top, path)
    return [name for name, tensor in [*layer._parameters.items(), *layer._buffers.items()] if tensor is not None]


class _Reads:
    """Which nodes of a program are drawn, under which numbers, and which of them each one reads."""

    def __init__(self, program: Program, found: Values | None, first: int) -> None:
        self._nodes = {node.name: node for node in program}
        drawn = [node.name for node in program if _is_drawn(node, found)]
        self._numbers = {name: first + i for i, name in enumerate(drawn)}

    def number(self, name: str) -> int | None:
        return self._numbers.get(name)

    def reads(self, node: Node) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self._numbers[name] for name in node.refs if name in self._numbers))

    def tensors(self, node: Node) -> tuple[str, ...]:
        """The parameters and buffers that a step is given."""
        given = [self._nodes[name] for name in dict.fromkeys(node.refs)]
        return tuple(each.target for each in given if each.op == "param")


def _is_drawn(node: Node, found: Values | None) -> bool:
    if node.op in ("input", "output", "module"):
        return True
    return node.op == "call" and (found is None or bool(found[node.name]))


def _blocks(plan: Plan, path: str, training: bool) -> dict[str, list[int]]:
    """The skippable blocks that each node is part of."""
    found: dict[str, list[int]] = {}
    for number, block in enumerate(plan.blocks):
        for skip in block.skips[training].parts if block.region == path else ():
            for name in dict.fromkeys((*skip.body, skip.end)):
                found.setdefault(name, []).append(number)
    return found


def _sums(plan: Plan, path: str, training: bool, homes: Mapping[str, str]) -> dict[str, str]:
    """The sums that end blocks: each is drawn in the module that holds the rest of the block."""
    nodes = {node.name: node for node in plan.regions[path].programs[training]}
    skips = [skip for block in plan.blocks if block.region == path for skip in block.skips[training].parts]
    ends = {skip.end: _shared([homes[name] for name in skip.body]) for skip in skips if nodes[skip.end].target in SUMS}
    return {end: max(homes[end], within, key=len) for end, within in ends.items()}


# ------------------------------------------------------------------------------------------------------ modules


def scopes(program: Program, path: str) -> dict[str, str]:
    """The module that each node is drawn in; `path` is the program's own."""
    held = {node.name: _parent(node.target) for node in program if node.op in ("module", "param")}
    known = held | {node.name: path for node in program if node.op in ("input", "output")}
    nodes, after, following = list(program), {}, path
    for node in reversed(nodes):
        following = known.get(node.name, following)
        after[node.name] = following
    homes, before = dict(known), path
    for node in nodes:
        before = known.get(node.name, before)
        if node.name not in known:
            beside, read = _shared([before, after[node.name]]), dict.fromkeys(node.refs)
            within = _shared([homes[name] for name in read]) if len(read) > 1 else beside
            homes[node.name] = max(beside, within, key=len)
    return homes


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _shared(paths: Sequence[str]) -> str:
    """The innermost module that holds them all."""
    parts = [path.split(".") if path else [] for path in paths]
    same = 0
    while all(len(part) > same for part in parts) and len({part[same] for part in parts}) == 1:
        same += 1
    return ".".join(parts[0][:same]) if parts else ""


def _above(path: str) -> list[str]:
    """The modules that hold a module, outermost first."""
    parts = path.split(".") if path else []
    return [".".join(parts[:i]) for i in range(len(parts))]


# ------------------------------------------------------------------------------------------------------- Python


def _python(plan: Plan) -> list[str]:
    """The modules that hold regions, outermost first."""
    return list(dict.fromkeys(path for region in plan.regions for path in _above(region))) or [""]


def _opaque(net: SlimNet, path: str, python: Sequence[str]) -> Step:
    calls = tuple(python.index(caller) for caller in _above(path) if caller in python)[-1:]
    return Step(f"{path}/python", "python", kind(net, path), path, path, calls=calls)


def _beside(net: SlimNet, made: Sequence[Step], python: Sequence[str]) -> list[Step]:
    """Layers that no drawn program calls, but that the network uses: Python calls them, or the other mode."""
    tensors = named_tensors(net)
    used = {id(tensors[name]) for step in made for name in step.tensors}
    rest: dict[str, list[str]] = {}
    for name in runtime(net).plan.layouts:
        if id(tensors[name]) not in used and LIFTED not in name.split("."):
            rest.setdefault(_parent(name), []).append(name)
    return [_alone(net, path, tuple(names), python) for path, names in rest.items()]


def _alone(net: SlimNet, path: str, names: tuple[str, ...], python: Sequence[str]) -> Step:
    calls = tuple(python.index(caller) for caller in [*_above(path), path] if caller in python)[-1:]
    return Step(f"{path}/layer", "layer", kind(net, path), _parent(path), path, calls=calls, tensors=names)
