"""Follows a model's forward once, on meta tensors, and writes down the program.

The model runs for real: its Python sees real tensors and real integers, so `isinstance`, `len`, `if x.shape[1] > 3`
and `x[:, :k] = y` simply work. A function mode records every torch call; sizes come back as integers that remember
where they came from, so that arithmetic on them is recorded too. The leaves (torch.nn layers) are recorded as module
calls. Beneath, the engine types every tensor.
"""

from __future__ import annotations

import contextlib
import copy
import keyword
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from netslim import gradmode
from netslim.axes import Const, Layout, Reason
from netslim.engine import Engine, user_line
from netslim.errors import TraceError
from netslim.program import RESERVED, Node, Program, Ref, Struct, name_of
from netslim.sizes import TracedFloat, TracedInt, plain

# ------------------------------------------------------------------------------------------------ the model


def skeleton(model: nn.Module) -> nn.Module:
    """A copy of `model` whose float parameters and buffers live on the meta device: no weight is copied.

    Integer buffers keep their values, since networks index with them. Raises TraceError when the model cannot be
    copied.
    """
    memo: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise TraceError(f"{type(model).__name__} has lazy layers: run it once on an image before converting it.")
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(torch.empty_like(tensor, device="meta"), tensor.requires_grad)
        elif tensor.is_floating_point():
            memo[id(tensor)] = torch.empty_like(tensor, device="meta")
    memo |= computed(model)
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise TraceError(
            f"{type(model).__name__} cannot be copied ({error}); remove what copy.deepcopy refuses."
        ) from error


def computed(model: nn.Module) -> dict[int, Any]:
    """A copying memo for tensors that modules hold but computed themselves (old weight_norm does): detached copies."""
    held = [value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)]
    return {id(tensor): tensor.detach().clone() for tensor in held if tensor.grad_fn is not None}


def is_leaf(module: nn.Module, slim: Mapping[type, Any]) -> bool:
    """Whether a module is recorded as one call: a torch layer that netslim can slim, or one without parameters."""
    plain = type(module).__module__.startswith(("torch.nn.modules.", "torchvision.ops.stochastic_depth"))
    hooked = module._forward_pre_hooks or module._forward_hooks or hasattr(module, "parametrizations")
    if not plain or hooked or isinstance(module, _TRACED_THROUGH) or any(True for _ in module.children()):
        return False
    own = set(module.__dict__["_parameters"]) | set(module._buffers)
    if type(module) in slim:
        return not any(isinstance(v, Tensor) for v in vars(module).values())
    return not own


_TRACED_THROUGH = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Unflatten, nn.MultiheadAttention, nn.RNNBase)

# --------------------------------------------------------------------------------------------- the recording


@dataclass
class Trace:
    """A program and what is known about its values."""

    program: Program
    tensors: dict[str, Any] = field(default_factory=dict)  # node name -> its traced value (tensors, containers)
    numbers: dict[str, Any] = field(default_factory=dict)  # node name -> its traced number
    notes: dict[str, dict[str, Layout]] = field(default_factory=dict)  # node name -> what the rules noted
    constants: dict[str, Tensor] = field(default_factory=dict)  # lifted constants by path
    specialised: tuple[str, ...] = ()  # lines whose branch depended on a size


class Tracer(TorchFunctionMode):
    """Records the torch calls of one forward."""

    def __init__(self, root: nn.Module, engine: Engine, constants: dict[str, Tensor]) -> None:
        super().__init__()
        self.engine, self.quiet, self.grad = engine, False, True
        self.nodes: list[Node] = []
        self.tensors: dict[str, Any] = {}
        self.numbers: dict[str, Any] = {}
        self.notes: dict[str, dict[str, Layout]] = {}
        self.specialised: dict[str, None] = {}
        self.constants = constants
        self._node_of: dict[int, str] = {}
        self._dtype_read: Tensor | None = None
        self._alive: list[Any] = []
        self._used: set[str] = set(RESERVED)
        self._paths = {id(t): n for n, t in _named_tensors(root)}
        self._lifted = {id(t): n for n, t in constants.items()}

    # -- nodes

    def new_name(self, hint: str) -> str:
        hint = "".join(c if c.isalnum() else "_" for c in hint).strip("_").lower() or "value"
        hint = f"v{hint}" if hint[0].isdigit() else hint
        name, i = hint, 0
        while name in self._used or name in _KEYWORDS:
            i += 1
            name = f"{hint}_{i}"
        self._used.add(name)
        return name

    def add(self, op: str, target: str, hint: str, args: Any = (), kwargs: Any = None, where: str = "") -> str:
        name = self.new_name(hint)
        grad = op not in ("call", "module") or self.grad  # a parameter that is read once may be used in both ways
        self.nodes.append(Node(name, op, target, args, kwargs or {}, where, grad))
        return name

    def claim(self, name: str, value: Any) -> None:
        """Remember which node the tensors in `value` come from."""
        self.tensors[name] = value
        if isinstance(value, Tensor):
            self._node_of[id(value)] = name
            self._alive.append(value)
        elif isinstance(value, (tuple, list)):
            for i, item in enumerate(value):
                if isinstance(item, (Tensor, tuple, list)):
                    part = self.add("call", "operator.getitem", f"{name}_{i}", (Ref(name), i))
                    self.claim(part, item)

    def encode(self, value: Any) -> Any:
        """A literal for the program: tensors and traced numbers become references."""
        if isinstance(value, Tensor):
            return Ref(self._tensor(value))
        if isinstance(value, (TracedInt, TracedFloat)):
            return Ref(value.node)
        if isinstance(value, (tuple, list)):
            items = [self.encode(v) for v in value]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, dict):
            return {k: self.encode(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(self.encode(value.start), self.encode(value.stop), self.encode(value.step))
        if isinstance(value, torch.device):
            return self.device(value)
        if isinstance(value, torch.dtype):
            return self._dtype(value)
        if value is None or value is Ellipsis or isinstance(value, _LITERALS):
            return value
        raise TraceError(
            f"a {type(value).__name__} is passed to a torch function at {user_line()}; netslim cannot store it."
        )

    def _tensor(self, value: Tensor) -> str:
        name = self._node_of.get(id(value))
        if name is not None:
            return name
        path = self._paths.get(id(value)) or self._lifted.get(id(value))
        if path is None:
            if self.engine.produced(value):
                raise TraceError(
                    f"a tensor used at {user_line()} was computed out of sight (in a scripted or compiled function)."
                )
            path = f"{LIFTED}.c{len(self.constants)}"
            self.constants[path] = value
            self._lifted[id(value)] = path
        name = self.add("param", path, path.replace(".", "_"))
        self.claim(name, value)
        return name

    def device(self, device: torch.device) -> Any:
        """A device literal; the one that the trace runs on stands for that of the first input."""
        if device.type != "meta":
            return device
        first = next(node.name for node in self.nodes if node.op == "input")
        return Ref(self.add("call", "torch.Tensor.device.__get__", "device", (Ref(first),)))

    def _dtype(self, dtype: torch.dtype) -> Any:
        """A dtype; one that was just read from a tensor stands for that tensor's, so that other precisions run."""
        read, self._dtype_read = self._dtype_read, None
        if read is None or read.dtype != dtype or not dtype.is_floating_point:
            return dtype
        return Ref(self.add("call", "torch.Tensor.dtype.__get__", "dtype", (Ref(self._tensor(read)),)))

    def unnamed(self, func: Any) -> str:
        """The name to record for a function that is not on the allowlist."""
        raise TraceError(
            f"{getattr(func, '__qualname__', func)} at {user_line()} is no function that netslim can store."
        )

    def placeholder(self, name: str, tensor: Tensor) -> Tensor:
        """The meta tensor that stands for an input."""
        value = torch.empty_like(tensor, device="meta") if tensor.is_floating_point() else tensor.clone()
        known = self.engine.known(tensor)
        self.engine.set(value, known or [Const(n, Reason("model input")) for n in value.shape])
        self.claim(self.add("input", name, name), value)
        return value

    # -- calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.quiet:
            return func(*args, **kwargs)
        name = name_of(func)
        if name in _SIZES:
            return self._size(name, args, kwargs)
        if name == "torch.Tensor.dtype.__get__":
            self._dtype_read = args[0]
        if name == "torch.nn.functional.multi_head_attention_forward":
            with _python_body(), self:
                return func(*args, **kwargs)
        self.engine.notes = {}
        out = func(*plain(args), **plain(kwargs))
        if not any(isinstance(t, Tensor) for t in tree_leaves(out)) and name != "torch.Tensor.__setitem__":
            return out
        if name in _CONSTANT_MAKERS and not out.is_meta and not _has_numbers((args, kwargs)):
            self.engine.forget(out)  # the same at every call: a constant of the model
            return out
        name = name or self.unnamed(func)
        node = self.add("call", name, _hint(name), self.encode(tuple(args)), self.encode(kwargs), user_line())
        self._finish(node, out)
        return out

    def call_module(self, path: str, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run a leaf module, recording one node."""
        if self.quiet:
            return forward(*args, **kwargs)
        encoded = self.encode(tuple(args)), self.encode(kwargs)
        self.engine.notes, where = {}, user_line()
        with self.silenced():
            out = forward(*plain(args), **plain(kwargs))
        node = self.add("module", path, path.replace(".", "_"), *encoded, where)
        self._finish(node, out)
        return out

    @contextlib.contextmanager
    def silenced(self) -> Iterator[None]:
        self.quiet, before = True, self.quiet
        try:
            yield
        finally:
            self.quiet = before

    def _finish(self, node: str, out: Any) -> None:
        if self.engine.notes:
            self.notes[node] = self.engine.notes
        if out is not None:
            self.claim(node, out)

    # -- numbers

    def _size(self, name: str, args: Any, kwargs: Any) -> Any:
        tensor, shape = args[0], tuple(args[0].shape)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if name == "torch.Tensor.__len__":
            self.specialised.setdefault(user_line(), None)
            return shape[0]
        if name in ("torch.numel", "torch.Tensor.numel", "torch.Tensor.nelement"):
            node = self.add("call", "torch.Tensor.numel", "numel", (self.encode(tensor),), where=user_line())
            return self._traced(node, tensor.numel())
        if dim is not None:
            return self._dim(tensor, int(dim) % len(shape))
        return torch.Size([self._dim(tensor, i) for i in range(len(shape))])

    def _dim(self, tensor: Tensor, dim: int) -> TracedInt:
        node = self.add("call", "torch.Tensor.size", "size", (self.encode(tensor), dim), where=user_line())
        return self._traced(node, tensor.shape[dim])

    def number(self, fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """Arithmetic on traced numbers, recorded."""
        value = fn(*(plain(o) for o in operands))
        if self.quiet:
            return value
        name = name_of(fn)
        assert name is not None
        return self._traced(self.add("call", name, "n", self.encode(operands), where=user_line()), value)

    def _traced(self, node: str, value: Any) -> Any:
        self.numbers[node] = value
        number: Any = (TracedInt if isinstance(value, int) else TracedFloat)(value)
        number.node, number.tracer = node, self
        return number

    # -- the end

    def output(self, value: Any) -> Any:
        """The returned structure, with references for tensors."""
        if value is None or isinstance(value, (Tensor, *_LITERALS)):
            return self.encode(value)
        if isinstance(value, OrderedDict):
            return Struct("OrderedDict", tuple(value), tuple(map(self.output, value.values())))
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return Struct(type(value).__name__, tuple(value._fields), tuple(map(self.output, value)))
        if type(value) in (tuple, list):
            return type(value)(map(self.output, value))
        if isinstance(value, dict):
            return {k: self.output(v) for k, v in value.items()}
        raise TraceError(
            f"the model returns a {type(value).__name__}; return tensors in tuples, lists or dicts instead."
        )

    def finished(self) -> Trace:
        return Trace(
            Program(tuple(_without_unused_numbers(self.nodes, set(self.numbers)))),
            self.tensors, self.numbers, self.notes, self.constants, tuple(s for s in self.specialised if s),
        )  # fmt: skip


LIFTED = "_lifted"
_LITERALS = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
_KEYWORDS = {word.lower() for word in keyword.kwlist}
_SIZES = {"torch.Tensor.size", "torch.Tensor.shape.__get__", "torch.Tensor.numel", "torch.Tensor.nelement",
          "torch.numel", "torch.Tensor.__len__"}  # fmt: skip
_CONSTANT_MAKERS = {"torch.tensor", "torch.as_tensor", "torch.arange", "torch.linspace", "torch.eye",
                    "torch.tril_indices", "torch.triu_indices"}  # fmt: skip


def _has_numbers(value: Any) -> bool:
    return any(isinstance(leaf, (TracedInt, TracedFloat, Tensor)) for leaf in tree_leaves(value))


def _hint(name: str) -> str:
    return name.removesuffix(".__get__").rsplit(".", 1)[-1]


def _named_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for name, tensor in [*root.named_parameters(), *root.named_buffers()]:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


def _without_unused_numbers(nodes: list[Node], numbers: set[str]) -> list[Node]:
    """Drop size reads, arithmetic and unpackings whose value nobody uses; calls on tensors all stay."""
    used: set[str] = set()
    kept: list[Node] = []
    for node in reversed(nodes):
        idle = (
            node.name in numbers
            or node.target in ("operator.getitem", "torch.Tensor.device.__get__", "torch.Tensor.dtype.__get__")
            or node.op == "param"
        )
        if idle and node.name not in used:
            continue
        used.update(node.refs)
        kept.append(node)
    return kept[::-1]


# ---------------------------------------------------------------------------------------------- the one run


def trace(
    root: nn.Module, inputs: Mapping[str, Any], engine: Engine, leaf: Callable[[nn.Module], bool], training: bool,
    constants: dict[str, Tensor], kind: type[Tracer] = Tracer,
) -> Trace:  # fmt: skip
    """Run `root` (a skeleton) once in the given mode and return its trace.

    `inputs` maps argument names of forward to example values; tensors become the program's inputs, with the layouts
    that the engine knows of them, else as constants. Raises TraceError when forward fails or does what cannot be
    recorded.
    """
    root.train(training)
    tracer = kind(root, engine, constants)
    with torch.inference_mode(), fast_path_off(), contextlib.ExitStack() as stack:
        arguments = _placeholders(tracer, inputs)
        for path, module in root.named_modules():
            if module is not root and leaf(module):
                _record(stack, tracer, path, module)
        _remember(stack, root)
        stack.enter_context(gradmode.noted(tracer))
        stack.enter_context(engine)
        stack.enter_context(tracer)
        value = call_the_model(root, arguments)
        encoded = tracer.output(value)
    tracer.add("output", "", "output", (encoded,))
    return tracer.finished()


def freeze_outputs(engine: Engine, traced: Trace) -> None:
    """The model's outputs keep their full width."""
    from netslim.axes import freeze

    for name in traced.program.nodes[-1].refs:
        value = traced.tensors.get(name)
        if isinstance(value, Tensor):
            for layout in engine.dims(value):
                freeze(layout, lambda: Reason("model output"))


def call_the_model(root: nn.Module, arguments: dict[str, Any]) -> Any:
    try:
        return root(**arguments)
    except TraceError:
        raise
    except Exception as error:
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
    from netslim.engine import is_user_file

    found, entry = "", error.__traceback__
    while entry is not None:
        filename = entry.tb_frame.f_code.co_filename
        if is_user_file(filename):
            found = f" ({filename.rsplit('/', 1)[-1]}:{entry.tb_lineno})"
        entry = entry.tb_next
    return found


def _placeholders(tracer: Tracer, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Meta tensors for the example inputs; containers of tensors get one input per tensor."""
    return {
        name: tree_map_only(Tensor, lambda t, name=name: tracer.placeholder(name, t), value)  # type: ignore[misc]
        for name, value in inputs.items()
    }


def _record(stack: contextlib.ExitStack, tracer: Tracer, path: str, module: nn.Module) -> None:
    forward = module.forward
    patched(stack, module, lambda *args, **kwargs: tracer.call_module(path, forward, args, kwargs))


def patched(stack: contextlib.ExitStack, module: nn.Module, forward: Callable[..., Any]) -> None:
    """Gives a module another forward until the stack closes."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    if before is None:
        stack.callback(module.__dict__.pop, "forward", None)
    else:
        stack.callback(module.__dict__.__setitem__, "forward", before)


def _remember(stack: contextlib.ExitStack, root: nn.Module) -> None:
    """What forward keeps on its modules (a cached table, a counter) is forgotten when the stack closes."""
    for module in root.modules():
        for table in (vars(module), module._parameters, module._buffers, module._modules):
            stack.callback(_reset, table, dict(table))


def _reset(table: dict[str, Any], before: dict[str, Any]) -> None:
    for name in table.keys() - before.keys():
        del table[name]
    table.update(before)


@contextlib.contextmanager
def _python_body() -> Iterator[None]:
    """Multi-head attention is one overridable function with weights among its arguments; its body is recorded instead.

    While open, the body does not hand itself back to the function mode that called it.
    """
    functional: Any = torch.nn.functional
    before = functional.has_torch_function
    functional.has_torch_function = lambda *_: False
    try:
        yield
    finally:
        functional.has_torch_function = before


@contextlib.contextmanager
def fast_path_off() -> Iterator[None]:
    """Transformer layers would otherwise call one fused kernel in eval mode."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
