"""The steps of a run as they are written down: their names, and literals for whatever their arguments are."""

from __future__ import annotations

import keyword
from dataclasses import replace
from numbers import Integral, Real
from types import EllipsisType
from typing import overload

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from netslim.errors import TraceError
from netslim.ir.functions import DTYPE
from netslim.ir.program import LIFTED, RESERVED, Function, Literal, Node, Ref, name_of
from netslim.ir.structures import can_be_made, taken_apart
from netslim.layouts.axes import Layout
from netslim.layouts.engine import Engine
from netslim.layouts.lines import user_line
from netslim.trace.numbers import TracedFloat, TracedInt, plain, traced
from netslim.trace.result import Comparison, Read


class Writing(TorchFunctionMode):
    """What has been written down of one forward, and what its values were."""

    keeps = True  # whether all that the next call depends on is to be recorded

    def __init__(self, root: nn.Module, engine: Engine, constants: dict[str, Tensor], making: bool = False) -> None:
        """making: whether tensors that forward makes of plain numbers are calls, rather than constants."""
        super().__init__()
        self.making, self.open = making, True
        self.engine, self.quiet, self.grad, self.cast = engine, False, True, True
        self.again = self._stretches = 0
        self.nodes: list[Node] = []
        self.tensors: dict[str, object] = {}
        self.numbers: dict[str, int | float] = {}
        self.notes: dict[str, dict[str, Layout]] = {}
        self.comparisons: list[Comparison] = []
        self.constants = constants
        self.decided: dict[tuple[str, str], None] = {}
        self._made: dict[int, Tensor] = {}  # constants that this forward makes, as they were when they were made
        self._node_of: dict[int, str] = {}
        self.reads: list[Read] = []
        self._alive: list[Tensor] = []
        self._used: set[str] = set(RESERVED)
        self._last: dict[str, int] = {}  # by hint, the number of its last name
        self._paths = {id(t): name for name, t in reversed([*root.named_parameters(), *root.named_buffers()])}
        self._lifted = {id(t): n for n, t in constants.items()}

    def line(self) -> str:
        """Where the model's source is now."""
        return user_line()

    # -- nodes

    def new_name(self, hint: str) -> str:
        hint = "".join(c if c.isalnum() else "_" for c in hint).strip("_").lower() or "value"
        hint = f"v{hint}" if hint[0].isdigit() else hint
        i = self._last.get(hint, 0)
        name = f"{hint}_{i}" if i else hint
        while name in self._used or name in _KEYWORDS:
            i += 1
            name = f"{hint}_{i}"
        self._used.add(name)
        self._last[hint] = i
        return name

    def add(
        self, op: str, target: str, hint: str, args: tuple[Literal, ...] = (),
        kwargs: dict[str, Literal] | None = None, where: str = "",
    ) -> str:  # fmt: skip
        name = self.new_name(hint)
        computes = op in ("call", "module")  # a parameter that is read once may be used in both ways
        grad, cast, again = self.grad or not computes, self.cast or not computes, self.again if computes else 0
        self.nodes.append(Node(name, op, target, args, kwargs or {}, where, grad, cast, again))
        return name

    def claim(self, name: str, value: object) -> None:
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

    @overload
    def encode(self, value: tuple[object, ...]) -> tuple[Literal, ...]: ...
    @overload
    def encode(self, value: dict[str, object]) -> dict[str, Literal]: ...
    @overload
    def encode(self, value: object) -> Literal: ...
    def encode(self, value: object) -> Literal:
        """A literal for the program: tensors and traced numbers become references."""
        if isinstance(value, Tensor):
            return Ref(self._tensor(value))
        if isinstance(value, (TracedInt, TracedFloat)):  # one of another run was kept in a cache of Python's
            return Ref(value.node) if value.tracer is self else self.encode(plain(value))
        if isinstance(value, (tuple, list)):
            items = map(self.encode, value)
            return list(items) if isinstance(value, list) else tuple(items)
        if isinstance(value, dict):
            return {k: self.encode(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(self.encode(value.start), self.encode(value.stop), self.encode(value.step))
        if isinstance(value, torch.device):
            return self.device(value)
        if value is None or isinstance(value, (bool, complex, *_PLAIN)):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, Integral):  # numpy's, or of an enumeration
            return int(value)
        if isinstance(value, Real):
            return float(value)
        return self.unstored(value)

    def unstored(self, value: object) -> Literal:
        """What stands for a value that no program could hold. Raises TraceError."""
        raise TraceError(
            f"a {type(value).__name__} is passed to a torch function at {self.line()}; netslim cannot store it."
        )

    def _tensor(self, value: Tensor) -> str:
        name = self._node_of.get(id(value))
        if name is not None:
            return name
        path = self._paths.get(id(value)) or self._lifted.get(id(value))
        if path is None:
            if self.engine.produced(value):
                raise TraceError(
                    f"a tensor used at {self.line()} was computed out of sight (in a scripted or compiled function)."
                )
            path = f"{LIFTED}.c{len(self.constants)}"
            self.constants[path] = self._made.get(id(value), value)
            self._lifted[id(value)] = path
        name = self.add("param", path, path.replace(".", "_"))
        self.claim(name, value)
        return name

    def device(self, device: torch.device) -> Ref | torch.device:
        """A device literal; the one that the trace runs on stands for that of the first input."""
        if device.type != "meta":
            return device
        first = next(node.name for node in self.nodes if node.op == "input")
        return Ref(self.add("call", "torch.Tensor.device.__get__", "device", (Ref(first),)))

    def told(self, tensor: Tensor) -> None:
        """Note that Python has learnt a tensor's dtype: what it does with it, only further recordings show."""
        after = self.nodes[-1].name if self.nodes else ""
        node = self.add("call", DTYPE, "dtype", (Ref(self._tensor(tensor)),)) if self.known(tensor) else ""
        self.reads.append(Read(node, tensor.dtype, self.line(), after))

    def unnamed(self, func: Function) -> str:
        """The name to record for a function that is not on the allowlist."""
        raise TraceError(
            f"{getattr(func, '__qualname__', func)} at {self.line()} is no function that netslim can store."
        )

    def known(self, tensor: Tensor) -> str | None:
        """The node or the path of a tensor, None for one that no call has given or read."""
        return self._node_of.get(id(tensor)) or self._paths.get(id(tensor)) or self._lifted.get(id(tensor))

    def number(self, fn: Function, operands: tuple[object, ...]) -> object:
        """Arithmetic on traced numbers, recorded."""
        value = fn(*(plain(o) for o in operands))
        if self.quiet or not self.open:
            return value
        name = name_of(fn)
        assert name is not None
        return traced(value, self.add("call", name, "n", self.encode(operands), where=self.line()), self)

    def compared(self, fn: Function, operands: tuple[object, ...], outcome: object) -> None:
        """Note the outcome of a comparison of traced numbers with others."""
        name = name_of(fn)
        if self.quiet or not self.open or name is None or not all(isinstance(o, (int, float)) for o in operands):
            return
        after = self.nodes[-1].name if self.nodes else ""
        of = tuple(self._number(o) for o in operands if isinstance(o, (int, float)))
        self.comparisons.append(Comparison(name, of, bool(outcome), self.line(), after))

    def _number(self, value: int | float) -> Ref | int | float:
        mine = isinstance(value, (TracedInt, TracedFloat)) and value.tracer is self
        found = self.encode(value) if mine else plain(value)
        assert isinstance(found, (Ref, int, float))
        return found

    def output(self, value: object) -> Literal:
        """The returned structure, with references for tensors."""
        if value is None or isinstance(value, (Tensor, *_LITERALS)):
            return self.encode(value)
        if type(value) is tuple:
            return tuple(map(self.output, value))
        if type(value) is list:
            return list(map(self.output, value))
        if type(value) is dict:
            return {k: self.output(v) for k, v in value.items()}
        apart = taken_apart(value)
        if apart is not None and can_be_made(*apart):
            return replace(apart[0], values=tuple(map(self.output, apart[1])))
        raise TraceError(
            f"the model returns a {type(value).__name__}; return tensors in tuples, lists or dicts instead."
        )


_LITERALS = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
_PLAIN = (EllipsisType, torch.dtype, torch.device, torch.layout, torch.memory_format)
_KEYWORDS = {word.lower() for word in keyword.kwlist}
