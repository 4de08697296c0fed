"""Records a forward whose Python is told dtypes again in other precisions, and holds the first recording to that.

The same steps: that precision is right, whatever Python did in between. A dtype that is another one there stands for
that of the tensor which Python has asked, and a fraction for a table of what it is in each. What differs in any other
way is refused, by the dtypes of the network's inputs and parameters: autocast leaves those as they are.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from netslim.errors import TraceError
from netslim.ir.functions import DTYPE
from netslim.ir.merging import alike
from netslim.ir.own import BY_DTYPE, PRECISIONS, REQUIRE
from netslim.ir.program import Literal, Node, Program, Ref
from netslim.trace.amending import replaced
from netslim.trace.confirmation import dropped
from netslim.trace.differing import Instead, Other, asked_before, differences
from netslim.trace.follow import trace
from netslim.trace.holding import Untyped, Witness, Witnesses
from netslim.trace.meta import at, computed, copied
from netslim.trace.recordings import ConstantDiffers, against
from netslim.trace.result import Path, Trace


def held_in_both_modes(
    traces: Mapping[bool, Trace], witnesses: Callable[[bool], Witnesses], whole: bool = False
) -> dict[bool, Trace]:
    """A module's traces by mode, held to further recordings; training mode to as many as evaluation.

    Where both take the same steps, and evaluation takes them at every size, training mode is held to few.
    whole: whether the module's inputs are the network's own. Raises TraceError where a recording has to be given up.
    """
    evaluation, training = witnesses(False), witnesses(True)
    copies = functools.cache(lambda name: _in_precision(evaluation.root, name))
    precise = {mode: _others(traced, (evaluation, training)[mode], copies) for mode, traced in traces.items()}
    held = {False: evaluation.hold(traces[False])}
    training.least = evaluation.made
    if not evaluation.made and traces[True].comparisons == traces[False].comparisons:
        training.alike = evaluation if alike(traces[True].program, traces[False].program) else None
    held[True] = training.hold(traces[True])
    root = evaluation.root
    return {mode: dropped(_amended(traces[mode], held[mode], precise[mode], root, whole)) for mode in (True, False)}


# ------------------------------------------------------------------------------------------------------ recordings


def _others(base: Trace, witness: Witnesses, copies: Callable[[str], nn.Module]) -> dict[str, Other]:
    """The recordings in every precision but the base's, where its Python is told dtypes.

    Raises ConstantDiffers where forward makes another constant in one.
    """
    own = _own(base, witness.root) if base.reads else ""
    return {name: _other(base, witness, copies(name), PRECISIONS[name]) for name in PRECISIONS if own and name != own}


def _other(base: Trace, witness: Witnesses, root: nn.Module, dtype: torch.dtype) -> Other:
    inputs = tree_map_only(Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, dict(witness.inputs))
    try:
        other = trace(root, inputs, Untyped(), witness.leaf, witness.training, {}, Witness, witness.making)
        held = against(base, other, precise=True)
    except ConstantDiffers:
        raise
    except TraceError as error:
        return Other(failed=str(error))
    return Other(held, other.reads, asked_before(other, held.alike))


def _in_precision(root: nn.Module, name: str) -> nn.Module:
    """A copy of a module without values, as `half` and its kin make it."""
    made = copied(root, computed(root))
    return {"float16": made.half, "bfloat16": made.bfloat16, "float32": made.float, "float64": made.double}[name]()


def _own(base: Trace, root: nn.Module) -> str:
    """The precision of the recording, by name; nothing where it has none of those."""
    parameter = _parameter(base, root)
    values = [base.tensors[node.name] for node in base.program.inputs]
    floating = [t.dtype for t in values if isinstance(t, Tensor) and t.is_floating_point()]
    dtype = floating[0] if parameter is None and floating else parameter and parameter[1].dtype
    return next((name for name, other in PRECISIONS.items() if other == dtype), "")


def _parameter(base: Trace, root: nn.Module) -> tuple[str, Tensor] | None:
    """The first parameter of floats that a program meets, and its path."""
    parameters = dict(root.named_parameters(remove_duplicate=False))
    for node in base.program:
        named = {node.target: parameters.get(node.target)} if node.op == "param" else {}
        if node.op == "module":
            named = {f"{node.target}.{name}": t for name, t in at(root, node.target).named_parameters(recurse=False)}
        for path, tensor in named.items():
            if tensor is not None and tensor.is_floating_point():
                return path, tensor
    return None


# -------------------------------------------------------------------------------------------------- the amended trace


def _amended(base: Trace, held: Trace, others: Mapping[str, Other], root: nn.Module, whole: bool) -> Trace:
    """The trace that is right in every precision which it does not refuse."""
    if not others:
        return held
    found = differences(base, held, others)
    writer = _Writer({node.name for node in base.program} | {node.name for node in held.program})
    nodes: list[Node] = []
    put: dict[str, dict[Path, Instead]] = {}
    for (i, path), instead in found.put.items():
        put.setdefault(base.steps[i].name, {})[path] = instead
    for node in held.program:
        given = {path: writer.instead(instead, node) for path, instead in put.get(node.name, {}).items()}
        args, kwargs = replaced((node.args, node.kwargs), given) if given else (node.args, node.kwargs)
        nodes += [*writer.taken(), replace(node, args=args, kwargs=kwargs)]
    if found.refused:
        nodes = _guarded(base, nodes, found.refused, others, root, whole, writer)
    lines = {line: [n for n, other in found.refused.items() if other == line] for line in found.refused.values()}
    told = tuple(f"{line} ({', '.join(names)})" for line, names in lines.items())
    return replace(
        held,
        program=Program(tuple(nodes)),
        tensors={**held.tensors, **writer.tensors},
        specialised=(*held.specialised, *told),
    )


@dataclass
class _Writer:
    """Makes steps with names of their own."""

    used: set[str]
    made: list[Node] = field(default_factory=list)
    tensors: dict[str, object] = field(default_factory=dict)

    def add(
        self, op: str, target: str, args: tuple[Literal, ...] = (), like: Node | None = None, where: str = ""
    ) -> Ref:
        name = next(name for i in itertools.count() if (name := f"of_dtype_{i}") not in self.used)
        self.used.add(name)
        node = Node(name, op, target, args, where=where)
        self.made.append(node if like is None else replace(like, name=name, op=op, target=target, args=args, kwargs={}))
        return Ref(name)

    def instead(self, found: Instead, node: Node) -> Ref:
        """What stands for a literal of a step, worked out before it."""
        if found.table is None:
            return Ref(found.read.node)
        otherwise = found.table[next(name for name, dtype in PRECISIONS.items() if dtype == found.read.dtype)]
        return self.add("call", BY_DTYPE, (Ref(found.read.node), dict(found.table), otherwise), like=node)

    def taken(self) -> list[Node]:
        made, self.made = self.made, []
        return made


def _guarded(
    base: Trace, nodes: Sequence[Node], refused: Mapping[str, str], others: Mapping[str, Other], root: nn.Module,
    whole: bool, writer: _Writer,
) -> list[Node]:  # fmt: skip
    """The steps with refusals before the first that computes.

    By the dtypes of a parameter and of the network's inputs: what a part of it is given may be autocast's.
    Raises TraceError where there are none.
    """
    parameter, own = _parameter(base, root), _own(base, root)
    before = {node.name for node in base.program if node.op != "input"}
    start = next(i for i, node in enumerate(nodes) if node.name in before)
    inputs = [node.name for node in nodes[:start] if node.op == "input"] if whole else []
    keys = [Ref(name) for name in inputs if isinstance(t := base.tensors[name], Tensor) and t.is_floating_point()]
    if parameter is not None:
        keys.append(writer.add("param", parameter[0]))
        writer.tensors[keys[-1].name] = parameter[1]
    if not keys:
        raise TraceError(f"forward decides by the dtype at {next(iter(refused.values()))}.")
    for key in keys:
        dtype = writer.add("call", DTYPE, (key,))
        for name, line in refused.items():
            text = _refusal(own, name, line, others[name].failed)
            allowed = writer.add("call", BY_DTYPE, (dtype, {name: False}, True), where=line)
            writer.add("call", REQUIRE, (allowed, True, text), where=line)
    return [*nodes[:start], *writer.taken(), *nodes[start:]]


def _refusal(own: str, name: str, line: str, failed: str) -> str:
    at = f" at {line}" if line else ""
    if failed:
        return f"forward is told its dtype{at}, and fails in {name}, so that no program is known: {failed}"[:_LONGEST]
    return (
        f"forward decides by the dtype{at}, and this network was converted in {own}; convert the model in {name} to "
        "use it there."
    )


_LONGEST = 1000
