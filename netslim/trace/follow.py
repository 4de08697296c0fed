"""Follows a model's forward once, on meta tensors, and writes down the program.

The model runs for real: its Python sees real tensors and real integers, so `isinstance`, `len`, `if x.shape[1] > 3`
and `x[:, :k] = y` simply work. A function mode records every torch call; sizes come back as integers that remember
where they came from, so that arithmetic on them is recorded too. The leaves (torch.nn layers) are recorded as module
calls. Beneath, the engine types every tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from netslim.errors import TraceError, is_interruption
from netslim.ir.functions import written_parameters
from netslim.ir.inputs import every_tensor
from netslim.ir.program import Function
from netslim.layouts.axes import Reason
from netslim.layouts.engine import Engine
from netslim.layouts.lines import is_user_file
from netslim.layouts.ties import freeze
from netslim.trace import contexts
from netslim.trace.caches import emptied
from netslim.trace.meta import at
from netslim.trace.result import Trace
from netslim.trace.state import kept, record_replaced, settled
from netslim.trace.tracer import Tracer


def trace(
    root: nn.Module, inputs: Mapping[str, object], engine: Engine, leaf: Callable[[nn.Module], bool], training: bool,
    constants: dict[str, Tensor], kind: type[Tracer] = Tracer, making: bool = False,
) -> Trace:  # fmt: skip
    """Run `root` (a meta copy) once in the given mode and return its trace.

    `inputs` maps argument names of forward to example values; tensors become the program's inputs, with the layouts
    that the engine knows of them, else as constants. Raises TraceError when forward fails or does what cannot be
    recorded.
    """
    found = _uncached(root, inputs, engine, leaf, training, constants, kind, making)
    changed = _written_layers(root, found)
    if changed and kind.keeps:  # what forward has written to a layer is read by the layer
        found = _uncached(
            root, inputs, engine, lambda m: leaf(m) and id(m) not in changed, training, constants, kind, making
        )
    return found


def _uncached(
    root: nn.Module, inputs: Mapping[str, object], engine: Engine, leaf: Callable[[nn.Module], bool], training: bool,
    constants: dict[str, Tensor], kind: type[Tracer], making: bool,
) -> Trace:  # fmt: skip
    with emptied() as stale:
        found = _trace(root, inputs, engine, leaf, training, constants, kind, making)
        again = stale()
    if again:  # what a cache held from before is no part of forward
        with emptied():
            found = _trace(root, inputs, engine, leaf, training, constants, kind, making)
    return found


def _written_layers(root: nn.Module, traced: Trace) -> set[int]:
    """The layers called as one whose parameters or buffers other steps write to: a step of theirs must see that."""
    called = {node.target for node in traced.program if node.op == "module"}
    written = written_parameters(traced.program) if called else {}
    changed = {path.rpartition(".")[0] for path in written.values()}
    return {id(at(root, path)) for path in called & changed}


def _trace(
    root: nn.Module, inputs: Mapping[str, object], engine: Engine, leaf: Callable[[nn.Module], bool], training: bool,
    constants: dict[str, Tensor], kind: type[Tracer], making: bool,
) -> Trace:  # fmt: skip
    root.train(training)
    tracer = kind(root, engine, constants, making)
    with torch.inference_mode(), contexts.fast_path_off(), contexts.alone(), contextlib.ExitStack() as stack:
        arguments = _placeholders(tracer, inputs)
        for path, module in root.named_modules():
            if module is not root and leaf(module):
                _record(stack, tracer, path, module)
        before = kept(root)
        stack.callback(before.put_back)
        stack.enter_context(contexts.noted(tracer))
        stack.enter_context(engine)
        stack.enter_context(tracer)
        value = call_the_model(root, arguments)
        replaced = record_replaced(tracer, before)
        encoded = tracer.output(value)
    tracer.add("output", "", "output", (encoded,))
    return settled(tracer.finished(), replaced)


def freeze_outputs(engine: Engine, traced: Trace) -> None:
    """The model's outputs keep their full width."""
    for name in traced.program.nodes[-1].refs:
        value = traced.tensors.get(name)
        if isinstance(value, Tensor):
            for layout in engine.dims(value):
                freeze(layout, lambda: Reason("model output"))


def call_the_model(root: nn.Module, arguments: Mapping[str, object]) -> object:
    try:
        return root(**arguments)
    except TraceError:
        raise
    except Exception as error:
        if is_interruption(error):
            raise
        if "meta tensors" in str(error):
            raise TraceError(
                f"the model's forward reads the values of tensors to decide what to do{_at(error)}; "
                "netslim follows forward once, without values, and cannot tell what it would do on other images."
            ) from error
        raise TraceError(
            f"the model's forward failed: {type(error).__name__}: {_first_line(error)}{_at(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _at(error: Exception) -> str:
    """' (file:line)' of the innermost frame of the user's code in a traceback."""
    found, entry = "", error.__traceback__
    while entry is not None:
        filename = entry.tb_frame.f_code.co_filename
        if is_user_file(filename):
            found = f" ({filename.rsplit('/', 1)[-1]}:{entry.tb_lineno})"
        entry = entry.tb_next
    return found


def _placeholders(tracer: Tracer, inputs: Mapping[str, object]) -> dict[str, object]:
    """Meta tensors for the example inputs; containers of tensors get one input per tensor.

    Raises TraceError for tensors inside an object that is no container: they would be taken for constants.
    """
    for name, value in inputs.items() if tracer.keeps else ():
        for leaf in tree_leaves(value):
            if not isinstance(leaf, Tensor) and next(every_tensor(leaf), None) is not None:
                raise TraceError(
                    f"argument {name!r} is a {type(leaf).__name__} that holds tensors; pass tensors, or tuples, lists "
                    "and dicts of tensors, to have forward followed."
                )
    return {
        name: tree_map_only(Tensor, lambda t, name=name: tracer.placeholder(name, t), value)  # type: ignore[misc]
        for name, value in inputs.items()
    }


def _record(stack: contextlib.ExitStack, tracer: Tracer, path: str, module: nn.Module) -> None:
    forward = module.forward
    patched(stack, module, lambda *args, **kwargs: tracer.call_module(path, forward, args, kwargs))


def patched(stack: contextlib.ExitStack, module: nn.Module, forward: Function) -> None:
    """Gives a module another forward until the stack closes."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    if before is None:
        stack.callback(module.__dict__.pop, "forward", None)
    else:
        stack.callback(module.__dict__.__setitem__, "forward", before)
