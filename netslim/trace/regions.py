"""What is recorded of a model: its whole forward, or, where that cannot be followed, its largest parts that can.

A forward that reads the values of tensors, wants targets in training mode or calls what netslim cannot store (detection
models do all three) stays Python. Such a model runs once for real, on the CPU, under the operator rules, so that every
axis is still found. Its submodules are then followed one by one, from the outermost inwards; those that can be followed
in both modes are its regions. The Python around them keeps running as it is: what it does with a literal size or with a
parameter of its own is recorded too, so that the analysis can leave that alone.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from netslim.errors import InputError, TraceError
from netslim.ir.inputs import Arguments, Inputs, described, tensors_in
from netslim.ir.program import Function, Node, Program
from netslim.layouts.axes import Const, Reason
from netslim.layouts.engine import Engine, Operator, Rule
from netslim.layouts.ties import freeze
from netslim.ops import MODULES
from netslim.trace.caches import known_caches
from netslim.trace.confirmation import dropped
from netslim.trace.contexts import alone, fast_path_off, prepared
from netslim.trace.follow import call_the_model, patched, trace
from netslim.trace.holding import Sizes, TableKept, Witnesses
from netslim.trace.meta import at, computed, copied, is_leaf, meta_copy
from netslim.trace.permissive import PermissiveTracer
from netslim.trace.precisions import held_in_both_modes
from netslim.trace.recordings import ConstantDiffers
from netslim.trace.result import Trace
from netslim.trace.state import kept, require_decidable
from netslim.trace.tracer import Tracer

Constants = dict[str, Tensor]


_NONE: Mapping[str, str] = {}


class Traced(NamedTuple):
    """A region's arguments, and its traces by mode."""

    inputs: Inputs
    traces: dict[bool, Trace]


@dataclass
class Recording:
    """The regions by path ('' is the whole model), and what the Python around them does in `shell`.

    root: the copy whose parameters and buffers the engine has typed. refusal: why the whole could not be followed.
    """

    root: nn.Module
    engine: Engine
    regions: dict[str, Traced]
    constants: Constants
    shell: tuple[Trace, ...] = ()
    refusal: str = ""

    @property
    def traces(self) -> list[Trace]:
        """Every trace, evaluation before training."""
        found = [traces[mode] for _, traces in self.regions.values() for mode in (False, True)]
        return found + list(self.shell)


def record(
    model: nn.Module, inputs: Mapping[str, object], two: Mapping[str, object], rules: Mapping[Operator, Rule],
    fixed_size: bool = False, python: Mapping[str, str] = _NONE,
) -> Recording:  # fmt: skip
    """Follow `model` on the example `inputs`, under the operator rules; `two` are the same for two images.

    A model that takes one image only is followed on that. fixed_size: whether a forward that takes other steps on other
    sizes is followed for this one. python: modules that are not followed ('' is the whole model), and why; their
    children may be.
    Raises TraceError when forward fails, or can be followed neither as a whole nor in parts.
    """
    with known_caches(model), prepared():
        if "" in python:
            return _in_regions(model, inputs, TraceError(python[""]), rules, python)
        return _recorded(model, inputs, two, rules, fixed_size, python)


def _recorded(
    model: nn.Module, inputs: Mapping[str, object], two: Mapping[str, object], rules: Mapping[Operator, Rule],
    fixed_size: bool, python: Mapping[str, str],
) -> Recording:  # fmt: skip
    refusal: TraceError | None = None
    for given in (two, inputs) if tensors_in(described(two)) != tensors_in(described(inputs)) else (two,):
        try:
            try:
                return _whole(model, inputs, given, rules)
            except ConstantDiffers:
                return _whole(model, inputs, given, rules, making=True)
        except TraceError as error:
            refusal = refusal or error
    assert refusal is not None
    if fixed_size:
        return _whole(model, inputs, inputs, rules, making=True, fixed_size=True)
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        raise refusal
    return _in_regions(model, inputs, refusal, rules, python)


def _whole(
    model: nn.Module, inputs: Mapping[str, object], given: Mapping[str, object], rules: Mapping[Operator, Rule],
    making: bool = False, fixed_size: bool = False,
) -> Recording:  # fmt: skip
    root = meta_copy(model)
    try:
        return _with_tables(_followed_whole(root, inputs, given, rules, making, fixed_size, None))
    except TableKept as tables:
        before = kept(root)
        tables.left()
        found = _followed_whole(root, inputs, given, rules, making, fixed_size, tables.sizes)
        before.put_back()
        if not all(traced.left for traced in found.traces):  # what is kept does for this size too
            found = _followed_whole(root, inputs, given, rules, making, fixed_size, [])
        return _with_tables(found)


def _with_tables(found: Recording) -> Recording:
    """The tables that every call makes anew take no part in widths."""
    buffers = dict(found.root.named_buffers(remove_duplicate=False))
    for name in {name for traced in found.traces for name in traced.dropped} & buffers.keys():
        for layout in found.engine.dims(buffers[name]):
            freeze(layout, lambda: Reason("a table that forward makes for each size"))
    return found


def _followed_whole(
    root: nn.Module, inputs: Mapping[str, object], given: Mapping[str, object], rules: Mapping[Operator, Rule],
    making: bool, fixed_size: bool, tables: Sizes | None,
) -> Recording:  # fmt: skip
    engine, constants = Engine(rules), Constants()
    traces = {mode: trace(root, given, engine, _leaf, mode, constants, Tracer, making) for mode in (True, False)}
    require_decidable(traces.values(), constants)
    held = held_in_both_modes(
        traces, lambda mode: Witnesses(root, given, mode, _leaf, making, fixed_size, kept=tables), whole=True
    )
    return Recording(root, engine, {"": Traced(described(inputs), held)}, constants)


def _leaf(module: nn.Module) -> bool:
    return is_leaf(module, MODULES)


# ------------------------------------------------------------------------------------------------- in regions


def _in_regions(
    model: nn.Module, inputs: Mapping[str, object], refusal: TraceError, rules: Mapping[Operator, Rule],
    python: Mapping[str, str],
) -> Recording:  # fmt: skip
    engine, constants = Engine(rules), Constants()
    real, meta = copied(model, computed(model)).to("cpu"), meta_copy(model)
    for ours, theirs in zip(_tensors(real), _tensors(meta), strict=True):
        engine.set(theirs, engine.dims(ours))
    calls = _survey(real, tree_map_only(Tensor, lambda t: t.cpu(), dict(inputs)), engine)
    regions = dict(_regions(meta, "", {k: v for k, v in calls.items() if k not in python}, engine, constants, set()))
    if not regions and not any(map(_leaf, real.modules())):
        raise refusal
    inside = {id(at(real, path)) for path in regions}
    shell = [_shell(real, inputs, engine, inside, False)]
    with contextlib.suppress(TraceError):  # it may want targets, which the example does not hold
        shell.append(_shell(real, inputs, engine, inside, True))
    told = [str(refusal), *(why for path, why in python.items() if path)]
    return Recording(real, engine, regions, constants, tuple(shell), " ".join(told))


def _tensors(root: nn.Module) -> list[Tensor]:
    named = [*root.named_parameters(remove_duplicate=False), *root.named_buffers(remove_duplicate=False)]
    return [tensor for _, tensor in named]


def _survey(root: nn.Module, inputs: Mapping[str, object], engine: Engine) -> dict[str, list[Arguments]]:
    """Run `root` for real in eval mode; the distinct arguments of every module's calls, as typed meta tensors."""
    calls: dict[str, dict[tuple[object, ...], Arguments]] = {}

    def watched(path: str, module: nn.Module) -> Function:
        forward, signature = module.forward, inspect.signature(module.forward)

        def run(*args: object, **kwargs: object) -> object:
            with contextlib.suppress(InputError, TypeError):
                bound = signature.bind(*args, **kwargs).arguments
                calls.setdefault(path, {}).setdefault(_shapes(bound), _on_meta(bound, engine))
            return forward(*args, **kwargs)

        return run

    root.eval()
    with torch.inference_mode(), fast_path_off(), alone(), contextlib.ExitStack() as stack:
        stack.callback(kept(root).put_back)
        for path, module in root.named_modules():
            if path and not _leaf(module):
                patched(stack, module, watched(path, module))
        stack.enter_context(engine)
        for tensor in tree_leaves(dict(inputs)):
            if isinstance(tensor, Tensor):
                engine.set(tensor, [Const(n, Reason("model input")) for n in tensor.shape])
        call_the_model(root, dict(inputs))
    return {path: list(found.values()) for path, found in calls.items()}


def _shapes(bound: Mapping[str, object]) -> tuple[object, ...]:
    return tuple(tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf) for leaf in tree_leaves(dict(bound)))


def _on_meta(bound: Mapping[str, object], engine: Engine) -> Arguments:
    """The arguments with meta tensors of the same layouts: no activation is kept."""

    def stand_in(tensor: Tensor) -> Tensor:
        made = torch.empty_like(tensor, device="meta") if tensor.is_floating_point() else tensor.clone()
        engine.set(made, engine.dims(tensor))
        return made

    return tree_map_only(Tensor, stand_in, dict(bound))


def _regions(
    module: nn.Module, path: str, calls: Mapping[str, list[Arguments]], engine: Engine, constants: Constants,
    seen: set[int],
) -> Iterator[tuple[str, Traced]]:  # fmt: skip
    """The outermost modules below `module` that can be followed in both modes."""
    if id(module) in seen or _leaf(module):
        return
    seen.add(id(module))
    found = _followed(module, path, calls[path], engine, constants) if path in calls else None
    if found is not None:
        yield path, found
        return
    for name, child in module.named_children():
        yield from _regions(child, f"{path}.{name}" if path else name, calls, engine, constants, seen)


def _followed(
    module: nn.Module, path: str, calls: list[Arguments], engine: Engine, constants: Constants,
    kept_for: Sizes | None = None,
) -> Traced | None:  # fmt: skip
    """The module's traces by mode, when they are the same for all its calls; None when it cannot be followed."""
    if module._forward_hooks or module._forward_pre_hooks or not all(map(_only_tensors, calls)):
        return None
    found: list[dict[bool, Trace]] = []
    lifted = Constants()
    try:
        for inputs in calls:
            lifted = Constants()
            found.append({mode: trace(module, inputs, engine, _leaf, mode, lifted) for mode in (True, False)})
            require_decidable(found[-1].values(), lifted)
        held = held_in_both_modes(
            found[0], lambda mode: Witnesses(module, calls[0], mode, _leaf, given=calls[1:], kept=kept_for)
        )
    except TableKept as tables:
        before = kept(module)
        tables.left()
        again = _followed(module, path, calls, engine, constants, tables.sizes)
        before.put_back()
        made = again is not None and all(traced.left for traced in again.traces.values())
        return again if made else _followed(module, path, calls, engine, constants, [])
    except TraceError:
        return None
    constants |= {f"{path}.{name}": tensor for name, tensor in found[0][True].constants.items()}
    return Traced(described(calls[0]), {mode: _at(path, traced) for mode, traced in held.items()})


def _only_tensors(inputs: Mapping[str, object]) -> bool:
    leaves = tree_leaves(dict(inputs))
    return any(isinstance(t, Tensor) for t in leaves) and all(t is None or isinstance(t, Tensor) for t in leaves)


def _at(path: str, traced: Trace) -> Trace:
    """The trace of a module with the paths that its modules and parameters have in the whole model."""

    def moved(node: Node) -> Node:
        return replace(node, target=f"{path}.{node.target}") if node.op in ("module", "param") else node

    return replace(traced, program=Program(tuple(map(moved, traced.program))))


# ---------------------------------------------------------------------------------------- the Python around them


def _shell(root: nn.Module, inputs: Mapping[str, object], engine: Engine, regions: set[int], training: bool) -> Trace:
    """What the Python outside the regions does, in one real run."""

    def leaf(module: nn.Module) -> bool:
        return id(module) in regions or _leaf(module)

    return dropped(trace(root, inputs, engine, leaf, training, Constants(), PermissiveTracer))
