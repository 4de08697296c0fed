"""Runs a model under the operator rules: every tensor that appears gets a layout for each of its dimensions.

The engine is a `TorchDispatchMode`. Under `torch.inference_mode()` it sees each ATen operator once, below autograd,
so `x + y`, `torch.add`, `add_` and `nn.Module`s all arrive as the same few operators. An operator with a rule is
typed by it; a pointwise one by its tag; a composite one is decomposed; any other one freezes what it touches.
"""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from netslim.errors import is_interruption
from netslim.layouts import ties
from netslim.layouts.axes import Const, Layout, Misaligned, Reason, fresh, is_fixed
from netslim.layouts.forms import executed, tensors_in
from netslim.layouts.lines import user_line

_LOG = logging.getLogger(__name__)

Rule = Callable[["Call"], None]
Dims = list[Layout]
Operator = OpOverload | OpOverloadPacket | str
"""An operator of ATen, all its overloads, or library::name of one that may not be loaded."""
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
"""What a torch function is called with: what may stand where, only the function itself knows."""


class Take(Protocol):
    """Takes the kept entries of a tensor along the dims that a rule has named; `count` says how many of a layout."""

    def __call__(self, tensor: Tensor) -> Tensor: ...
    def count(self, layout: Layout) -> int: ...


Redo = Callable[[Take], Tensor | tuple[Tensor, ...]]
"""Computes a result from kept entries only, given what takes them."""


class Engine(TorchDispatchMode):
    """Types every tensor of a run. `rules` maps ATen operators and packets, and names of other operators, to rules.

    A rule that fails on a use of its operator freezes what it touches, and is logged.
    """

    def __init__(self, rules: Mapping[Operator, Rule]) -> None:
        super().__init__()
        self.rules = rules
        self.notes: dict[str, Layout] = {}  # what the rules said about the call under way, for the rewriter
        self.unknown: dict[str, int] = {}  # operators without a rule, counted
        self.named: ties.Known = {}  # axes of results
        self._dims: dict[int, Dims] = {}  # by id; an entry goes with its tensor, so that a run holds no activations
        self._produced: set[int] = set()
        self._open: set[OpOverload] = set()  # composite operators that are being taken apart
        self._watched: dict[int, weakref.ref[Tensor]] = {}

    # -- layouts of tensors

    def dims(self, tensor: Tensor) -> Dims:
        """One layout per dimension; a tensor never seen before (a parameter, a constant) starts as fresh axes."""
        found = self._dims.get(id(tensor))
        if found is None:
            self.set(tensor, [fresh(n) for n in tensor.shape])
            found = self._dims[id(tensor)]
        return found

    def known(self, tensor: Tensor) -> Dims | None:
        """The layouts of a tensor that this run has met, else None."""
        return self._dims.get(id(tensor))

    def set(self, tensor: Tensor, dims: Sequence[Layout]) -> None:
        if [d.size for d in dims] != list(tensor.shape):
            raise AssertionError(f"layouts {list(dims)} do not describe a tensor of shape {tuple(tensor.shape)}")
        self._dims[id(tensor)] = list(dims)
        self._watch(tensor)

    def _watch(self, tensor: Tensor) -> None:
        key = id(tensor)
        if key not in self._watched:
            self._watched[key] = weakref.ref(tensor, lambda _: self._gone(key))

    def _gone(self, key: int) -> None:
        self._watched.pop(key, None)
        self._dims.pop(key, None)
        self._produced.discard(key)

    def produced(self, tensor: Tensor) -> bool:
        """Whether an operator of this run made the tensor (so that it is no parameter or constant)."""
        return id(tensor) in self._produced

    def forget(self, tensor: Tensor) -> None:
        """Treat a tensor that this run made as a constant."""
        self._produced.discard(id(tensor))

    # -- the mode

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        kwargs, rules = kwargs or {}, self.rules
        rule = rules.get(func) or rules.get(func.overloadpacket) or rules.get(func._schema.name)
        if rule is None and is_pointwise(func):
            rule = self.rules[torch.ops.aten.add]
        if rule is None and func not in self._open:
            out = self._decomposed(func, args, kwargs)
            if out is not NotImplemented:
                return out
        return self.run(Call(self, func, args, kwargs), rule or unknown_rule)

    def _decomposed(self, func: OpOverload, args: Args, kwargs: Kwargs) -> object:
        """What a composite operator is made of, typed; NotImplemented for any other, or one that is made of itself."""
        self._open.add(func)
        try:
            if is_mixed(args, kwargs):  # some operators insist on one device
                args, kwargs = tree_map_only(Tensor, self._without_values, (args, kwargs))
            with self:
                return func.decompose(*args, **kwargs)
        finally:
            self._open.discard(func)

    def _without_values(self, constant: Tensor) -> Tensor:
        """A stand-in without values for a constant; integers keep theirs, which may decide about shapes."""
        if constant.is_meta or not constant.dim() or not (constant.is_floating_point() or constant.is_complex()):
            return constant
        self.set(made := torch.empty_like(constant, device="meta"), self.dims(constant))
        return made

    def run(self, call: Call, rule: Rule) -> object:
        """Execute one operator and type its results."""
        call.execute()
        self.remember(call)
        self.typed(call, rule)
        return call.out

    def typed(self, call: Call, rule: Rule) -> None:
        """Let the rule type the results, or freeze what it does not cover."""
        try:
            rule(call)
        except Exception as error:  # an analysis never fails; it becomes less elastic, and says where
            if isinstance(error, Misaligned) or is_interruption(error):
                raise
            _LOG.debug("the rule for %s failed", call.name, exc_info=True)
            told = f"{call.name}: {type(error).__name__}: {error}"
            self.unknown[told] = self.unknown.get(told, 0) + 1
            unknown_rule(call)

    def remember(self, call: Call) -> None:
        inputs = set(map(id, call.tensors))
        for tensor in call.outs:
            if id(tensor) not in inputs:
                self._produced.add(id(tensor))
                self._watch(tensor)
                self._dims.pop(id(tensor), None)


class Call:
    """One operator call as a rule sees it."""

    def __init__(self, engine: Engine, func: OpOverload, args: Args, kwargs: Kwargs) -> None:
        self.engine, self.func, self.args, self.kwargs = engine, func, args, kwargs
        self.out: object = None
        self.mixes: list[tuple[list[tuple[Tensor, int]], Redo]] = []
        self._reason: Reason | None = None

    def execute(self) -> None:
        args, kwargs = on_one_device(self.args, self.kwargs)
        like = _like_input(self.func, args)
        self.out = executed(_LIKE, args[:1], {}) if like else executed(self.func, args, kwargs)

    @property
    def name(self) -> str:
        return str(self.func.overloadpacket).removeprefix("aten.")

    @property
    def outs(self) -> list[Tensor]:
        return list(tensors_in(self.out))

    @property
    def tensors(self) -> list[Tensor]:
        return list(tensors_in((self.args, self.kwargs)))

    def arg(self, name: str, default: object = None) -> Any:
        """The value of a schema argument, its default where it was not given, `default` where there is none."""
        for i, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                if i < len(self.args):
                    return self.args[i]
                return self.kwargs.get(name, argument.default_value if argument.has_default_value() else default)
        return default

    # -- what rules say

    def dims(self, tensor: Tensor) -> Dims:
        return self.engine.dims(tensor)

    def set(self, tensor: Tensor, dims: Sequence[Layout]) -> None:
        self.engine.set(tensor, [ties.named(d, self._cause, self.engine.named) for d in dims])

    def why(self, text: str = "") -> Callable[[], Reason]:
        """A reason that is worked out only if something is frozen."""
        return lambda: replace(self._cause(), text=text) if text else self._cause()

    def _cause(self) -> Reason:
        if self._reason is None:
            self._reason = Reason("sizes that cannot be aligned", self.name, user_line())
        return self._reason

    def unify(self, a: Layout, b: Layout) -> None:
        ties.unify(a, b, self._cause)

    def freeze(self, layouts: Iterable[Layout], text: str) -> None:
        for layout in layouts:
            ties.freeze(layout, self.why(text))

    def split(self, layout: Layout, outer: int, inner: int) -> tuple[Layout, Layout]:
        return ties.split(layout, outer, inner, self._cause, self.engine.named)

    def cut(self, layout: Layout, at: int) -> tuple[Layout, Layout]:
        """The layouts of `[:at]` and `[at:]`."""
        return ties.cut(layout, at, self._cause, self.engine.named)

    def count(self, layout: Layout, role: Literal["head", "group"]) -> None:
        """Say what a dimension counts, for those who ask why it is so."""
        ties.count(layout, role)

    def note(self, argument: str, layout: Layout) -> None:
        """Tell the rewriter that an integer argument of this call counts the channels of `layout`."""
        self.engine.notes.setdefault(argument, layout)

    def over(self, dims: Iterable[tuple[Tensor, int]], redo: Redo) -> None:
        """Say that the result mixes the entries of these dimensions: a statistic, a softmax, a contraction.

        `redo(take)` computes the result from kept entries only; take(t) is t without its dropped entries along the
        named dims. The proof uses it, since such a result is by design one over the kept channels.
        """
        mixed = [(t, d % t.dim()) for t, d in dims if not is_fixed(self.dims(t)[d])]
        if mixed:
            self.mixes.append((mixed, redo))


def unknown_rule(call: Call) -> None:
    """No rule: whatever meets the operator keeps its full width."""
    found = False
    for tensor in call.tensors:
        found = found or not all(map(is_fixed, call.dims(tensor)))
        call.freeze(call.dims(tensor), "no rule for this operator")
    if found:
        call.engine.unknown[call.name] = call.engine.unknown.get(call.name, 0) + 1
    for out in call.outs:
        if all(out is not t for t in call.tensors):
            reason = Reason("no rule for this operator", call.name, user_line())
            call.set(out, [Const(n, reason) for n in out.shape])


@functools.cache
def is_pointwise(func: OpOverload) -> bool:
    """By torch's own tag; some in-place variants lack it, so their functional twin is asked too."""
    if torch.Tag.pointwise in func.tags:
        return True
    name = func.overloadpacket.__name__
    twin = getattr(torch.ops.aten, name[:-1], None) if name.endswith("_") and not name.startswith("_") else None
    return twin is not None and any(torch.Tag.pointwise in getattr(twin, o).tags for o in twin.overloads())


def on_one_device(args: Args, kwargs: Kwargs) -> tuple[Args, Kwargs]:
    """Move constants to the meta device when any other operand lives there (values are not needed for shapes)."""
    return tree_map_only(Tensor, lambda t: t.to("meta"), (args, kwargs)) if is_mixed(args, kwargs) else (args, kwargs)


def is_mixed(args: Args, kwargs: Kwargs) -> bool:
    """Whether constants meet tensors without values."""
    return {True, False} == {t.is_meta for t in tensors_in((args, kwargs)) if t.dim()}


def _like_input(func: OpOverload, args: Args) -> bool:
    """Whether a call is a norm on meta whose result has the form of its input; torch works that out very slowly."""
    if func not in _NORMS or not args[0].is_meta:
        return False
    if func is torch.ops.aten.batch_norm.default:
        own, tensors = args[0].shape[1:2], args[1:5]
    else:
        own, tensors = args[0].shape[-len(args[1]) :], args[2:4]
        if list(own) != list(args[1]):
            return False
    return all(t is None or t.shape == own for t in tensors)


_LIKE = torch.ops.aten.empty_like.default
_NORMS = (torch.ops.aten.batch_norm.default, torch.ops.aten.layer_norm.default)
