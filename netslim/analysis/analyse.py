"""The whole analysis, in the order in which it happens: record both modes, solve the axes, rewrite the programs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from netslim.analysis.blocks import Found, find
from netslim.analysis.dataflow import Facts
from netslim.analysis.groups import Solution, solve
from netslim.analysis.overrides import Overrides, apply
from netslim.analysis.rewrite import Rewriter
from netslim.errors import InputError
from netslim.ir.functions import memory
from netslim.ir.inputs import Left, described
from netslim.ir.merging import merged
from netslim.ir.plan import Frozen, Plan, Region, groups_in
from netslim.ir.program import Node, Program, Size
from netslim.ir.ties import Slot, Ties, collected
from netslim.layouts.axes import Axis, Layout, leaves
from netslim.layouts.engine import Engine
from netslim.layouts.ties import freeze, stop
from netslim.trace.follow import freeze_outputs
from netslim.trace.meta import at
from netslim.trace.regions import Arguments, Constants, Recording, record
from netslim.trace.resized import Scale, batch, resized
from netslim.trace.result import Trace


def analyse(
    model: nn.Module, example_inputs: object, *, fix_outputs: bool = True, overrides: Overrides | None = None,
    python: Mapping[str, str] | None = None,
) -> tuple[Plan, Constants]:  # fmt: skip
    """Find the channel groups of `model` and rewrite its forward; no weight is read, the model may live on `meta`.

    example_inputs: a tensor (N, C, ...), a tuple of positional arguments, or a dict of keyword arguments of forward.
    python: modules that are not to be followed, by path ('' is the model), and why.
    Returns the plan, and the tensors that forward uses but the model does not register.
    Raises InputError when the inputs do not fit forward's signature or an override names nothing, TraceError when
    forward fails or cannot be recorded.
    """
    inputs, overrides = bind(model, example_inputs), overrides or Overrides()
    two = resized(inputs, Scale(2), {}) if batch(inputs) == 1 else dict(inputs)
    recording = record(model, inputs, two, overrides.all_rules, overrides.fixed_size, python or {})
    engine, root, constants = recording.engine, recording.root, recording.constants
    if fix_outputs:
        for trace in recording.regions[""].traces.values() if "" in recording.regions else ():
            freeze_outputs(engine, trace)
    tensors = dict(root.named_parameters(remove_duplicate=False)) | dict(root.named_buffers(remove_duplicate=False))
    apply(overrides, engine, tensors)
    met = _in_program_order(recording, tensors | constants)
    solution, rewriter = _solved(recording, met, tensors | constants)
    regions = {
        path: Region(traced.inputs, _programs(traced.traces, rewriter)) for path, traced in recording.regions.items()
    }
    if "" in regions:
        regions[""] = replace(regions[""], left=left_out(model, inputs))
    for traced in recording.shell:
        rewriter.leaves(traced)
    found = find_blocks(recording, regions, rewriter, tensors)
    return Plan(
        groups=solution.groups,
        frozen=solution.frozen + _never_used(tensors, met),
        layouts=rewriter.layouts,
        regions=regions,
        sizes=tuple(rewriter.sizes),
        cuts=tuple(rewriter.cuts),
        ints=rewriter.ints,
        inputs=described(inputs),
        refusal=recording.refusal,
        blocks=found.blocks,
        refused=found.refused,
        specialised=tuple(dict.fromkeys(line for traced in recording.traces for line in traced.specialised)),
        unknown=dict(engine.unknown),
        model=type(model).__name__,
        ties=_ties(engine, solution, met),
    ), constants


def bind(model: nn.Module, example_inputs: object) -> Arguments:
    """Example inputs by argument name of forward. Raises InputError when they do not fit the signature."""
    signature = inspect.signature(model.forward)
    try:
        if isinstance(example_inputs, Mapping):
            bound = signature.bind(**example_inputs)
        else:
            args = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
            bound = signature.bind(*args)
    except TypeError as error:
        raise InputError(
            f"the example inputs do not fit {type(model).__name__}.forward{signature}: {error}."
        ) from error
    inputs: Arguments = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            raise InputError(f"{type(model).__name__}.forward takes *{name}; give it named arguments to convert it.")
        inputs |= value if kind is inspect.Parameter.VAR_KEYWORD else {name: value}
    if not any(isinstance(t, Tensor) for t in tree_leaves(inputs)):
        raise InputError(
            "the example inputs hold no tensor; pass one image batch, such as torch.randn(2, 3, 224, 224)."
        )
    return inputs


def left_out(model: nn.Module, inputs: Arguments) -> tuple[Left, ...]:
    """Arguments of forward that the example left out, as far as their defaults are plain values."""
    named = [
        (place, p.name, p.default)
        for place, p in enumerate(inspect.signature(model.forward).parameters.values())
        if p.name not in inputs and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    return tuple(Left(name, place, value) for place, name, value in named if _is_plain(value))


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, float, str)


def _in_program_order(recording: Recording, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters and buffers that some program or the Python around it uses, in the order in which they are met."""
    met: dict[str, Tensor] = {}
    for traced in recording.traces:
        for node in traced.program:
            if node.op == "param":
                met[node.target] = tensors[node.target]
            elif node.op == "module" and node.target not in recording.regions:
                leaf = at(recording.root, node.target)
                for name, tensor in [*leaf.named_parameters(recurse=False), *leaf.named_buffers(recurse=False)]:
                    met[f"{node.target}.{name}"] = tensor
    first = {id(tensor): name for name, tensor in reversed(met.items())}
    return {name: tensor for name, tensor in met.items() if first[id(tensor)] == name}


def _solved(
    recording: Recording, met: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[Solution, Rewriter]:
    """Groups, and the rewriter for them; what the Python around the regions takes as it is keeps its full width."""
    engine = recording.engine
    while True:
        solution = solve(engine, met)
        rewriter = Rewriter(engine, solution, _layouts(engine, solution, met, tensors))
        demands = [demand for traced in recording.shell for demand in rewriter.demands(traced)]
        for layout, reason, met_here in demands:
            whole = [solution.axes[group] for group in groups_in(layout)]
            for axis in met_here:
                if not set(whole).isdisjoint(leaves(axis)):
                    stop(axis, reason)
            for axis in whole:
                freeze(axis, lambda reason=reason: reason)  # type: ignore[misc]
        if not demands:
            return solution, rewriter


def _ties(engine: Engine, solution: Solution, met: Mapping[str, Tensor]) -> Ties:
    """What ties the dimensions of these tensors to each other."""
    dims = {Slot(name, dim): layout for name, t in met.items() for dim, layout in enumerate(engine.dims(t))}
    axes = {slot: layout for slot, layout in dims.items() if isinstance(layout, Axis)}
    return collected(axes, solution.solved)


def _programs(traces: Mapping[bool, Trace], rewriter: Rewriter) -> dict[bool, Program]:
    """One program for both modes where they differ in flags only, else one for each."""
    joined = merged(traces[True].program, traces[False].program)
    if joined is not None:
        program = rewriter.rewrite(replace(traces[True], program=joined))
        return {True: program, False: program}
    return {mode: rewriter.rewrite(traced) for mode, traced in traces.items()}


def find_blocks(
    recording: Recording, regions: Mapping[str, Region], rewriter: Rewriter, tensors: Mapping[str, Tensor]
) -> Found:
    """The blocks of all regions; the sizes that skipping needs are added to the rewriter's."""
    modules = dict(recording.root.named_modules(remove_duplicate=False))

    def parameters(node: Node) -> dict[str, int]:
        if node.op == "param":
            return (
                {node.target: tensors[node.target].numel()}
                if isinstance(tensors.get(node.target), nn.Parameter)
                else {}
            )
        if node.op != "module":
            return {}
        named = modules[node.target].named_parameters(recurse=False)
        return {f"{node.target}.{name}": tensor.numel() for name, tensor in named}

    @functools.cache
    def facts(path: str, mode: bool) -> Facts:
        traced = recording.regions[path].traces[mode]
        program = regions[path].programs[mode]
        values = {name: value for name, value in traced.tensors.items() if isinstance(value, Tensor)}

        def layer(node: Node) -> tuple[bool, bool]:
            """Whether its result is in its argument's memory, as it was when it was followed, and whether it writes."""
            given = traced.tensors.get(node.refs[0]) if node.refs else None  # a module may be called with a constant
            module, gave = modules[node.target], traced.tensors.get(node.name)
            return _is_shared(given, gave), isinstance(module, InPlace) and bool(module.inplace)

        def channels(name: str, dim: int) -> Size | int:
            return rewriter.size(recording.engine.dims(values[name])[dim])

        return Facts(
            shapes={name: tuple(value.shape) for name, value in values.items()},
            weights={node.name: sum(parameters(node).values()) for node in program},
            memory=memory(program, layer),
            channels=channels,
        )

    return find(regions, facts, parameters)


@runtime_checkable
class InPlace(Protocol):
    """A layer that may write its result into its argument."""

    inplace: bool


def _is_shared(a: object, b: object) -> bool:
    storages = [t.untyped_storage()._cdata for t in (a, b) if isinstance(t, Tensor)]
    return len(storages) == 2 and storages[0] == storages[1]


def _layouts(
    engine: Engine, solution: Solution, met: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, tuple[Layout, ...]]:
    """Solved layouts of all tensors that are used, under every name they have; equal layouts are one object."""
    interned: dict[Layout, Layout] = {}
    used = {id(t) for t in met.values()}
    ordered = dict(met) | {n: t for n, t in tensors.items() if id(t) in used}
    return {
        name: tuple(interned.setdefault(s, s) for s in map(solution.solved, engine.dims(tensor)))
        for name, tensor in ordered.items()
    }


def _never_used(tensors: Mapping[str, Tensor], met: Mapping[str, Tensor]) -> tuple[Frozen, ...]:
    used = {id(t) for t in met.values()}
    found: dict[int, list[Slot]] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in used:
            for dim, size in enumerate(tensor.shape):
                found.setdefault(size, []).append(Slot(name, dim))
    return tuple(Frozen(tuple(slots), size, "never used by forward") for size, slots in found.items() if size > 1)
