"""Random numbers of its own for a thread that converts: it neither moves anybody else's nor puts them back.

Whoever rewinds a global generator lets every other thread that has drawn from it meanwhile draw the same again.
"""

from __future__ import annotations

import contextlib
import functools
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._decomp import get_decompositions
from torch._ops import OpOverload, OpOverloadPacket
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from netslim.ir.program import Function
from netslim.layouts.engine import Args, Kwargs
from netslim.trace.contexts import Everywhere


class _Own(threading.local):
    """The generators of one thread, None where it draws from the global ones."""

    python: random.Random | None = None
    numpy: np.random.RandomState | None = None
    torch: OwnGenerators | None = None


_own = _Own()


@contextlib.contextmanager
def own_random_numbers() -> Iterator[None]:
    """Inside, this thread draws from generators of its own, always from the same start.

    What is called of `random`, of `numpy.random` and of torch is led to them, so that the global generators stay as
    they are, and other threads draw from those as ever. What finds its own way to a global generator moves it, as in
    any run of the model: a function that was taken from its module before (`from random import random`), a generator's
    own method (`torch.default_generator.seed()`), an operator of somebody's own.
    """
    before = _own.python, _own.numpy, _own.torch
    with _redirected(), OwnGenerators() as generators:
        _own.python, _own.numpy, _own.torch = random.Random(0), np.random.RandomState(0), generators
        try:
            yield
        finally:
            _own.python, _own.numpy, _own.torch = before


# ------------------------------------------------------------------------------------------------------ functions


def _redirect() -> Callable[[], None]:
    """Lead functions that draw and seed to the thread's own generators, if it has some."""
    stack = contextlib.ExitStack()
    _lead(stack, random, random.__all__, random.Random, lambda: _own.python)
    _lead(stack, np.random, np.random.__all__, np.random.RandomState, lambda: _own.numpy)
    for module in (torch, torch.random):
        _lead(stack, module, _SEEDING, OwnGenerators, lambda: _own.torch)
    return stack.close


def _lead(
    stack: contextlib.ExitStack, module: ModuleType, names: Iterable[str], kind: type, own: Callable[[], object]
) -> None:
    for name in set(names) & set(dir(kind)):
        original = getattr(module, name)
        stack.callback(setattr, module, name, original)
        setattr(module, name, _led(original, name, own))


def _led(original: Function, name: str, own: Callable[[], object]) -> Function:
    @functools.wraps(original)
    def run(*args: object, **kwargs: object) -> object:
        generator = own()
        return (original if generator is None else getattr(generator, name))(*args, **kwargs)

    return run


_redirected = Everywhere(_redirect)


# ------------------------------------------------------------------------------------------------------ operators


class OwnGenerators(TorchDispatchMode):
    """Gives the operators that draw a generator of their device, where the caller gives none.

    Its methods are those of `torch.random`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._start = 0
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        kwargs = kwargs or {}
        if not may_draw(func) or (device := place(args, kwargs)).type == "meta":
            return func(*args, **kwargs)
        if any(isinstance(arg, torch.Generator) for arg in (*args, *kwargs.values())):
            return func(*args, **kwargs)
        if (drawing := with_generator(func)) is not None:
            return drawing(*args, **{**kwargs, "generator": self._of(device)})
        if (parts := _in_parts(func)) is not None:
            with self:
                return parts(*args, **kwargs)
        return func(*args, **kwargs)

    def _of(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._start)
        return self._generators[device]

    def manual_seed(self, seed: int) -> torch.Generator:
        self._start = int(seed)
        self._generators.clear()
        return self._of(_CPU)

    def seed(self) -> int:
        self.manual_seed(torch.Generator().seed())
        return self._start

    def initial_seed(self) -> int:
        return self._of(_CPU).initial_seed()

    def get_rng_state(self) -> Tensor:
        return self._of(_CPU).get_state()

    def set_rng_state(self, new_state: Tensor) -> None:
        self._of(_CPU).set_state(new_state)


_CPU = torch.device("cpu")
_SEEDING = ("manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state")
"""What `torch.random` and :class:`OwnGenerators` both have."""


@functools.cache
def may_draw(func: OpOverload) -> bool:
    """By torch's own tag; some operators that are made of others lack it, such as the dropout of whole channels."""
    if torch.Tag.nondeterministic_seeded in func.tags:
        return True
    words = [func._schema.name, *(argument.name for argument in func._schema.arguments)]
    named = any(word in name for name in words for word in ("dropout", "rrelu"))
    return named and func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd)


@functools.cache
def draws(target: str) -> bool:
    """Whether a function draws random numbers, by the operator of its name."""
    packet = getattr(torch.ops.aten, target.rpartition(".")[2], None)
    overloads = packet.overloads() if isinstance(packet, OpOverloadPacket) else ()
    return any(may_draw(getattr(packet, name)) for name in overloads) or "dropout" in target


@functools.cache
def with_generator(func: OpOverload) -> OpOverload | None:
    """The overload of an operator that takes a generator, and otherwise the same."""
    names = [argument.name for argument in func._schema.arguments]
    if "generator" in names:
        return func
    for overload in func.overloadpacket.overloads():
        other: OpOverload = getattr(func.overloadpacket, overload)
        theirs = [argument.name for argument in other._schema.arguments]
        if "generator" in theirs and [name for name in theirs if name != "generator"] == names:
            return other
    return None


@functools.cache
def _in_parts(func: OpOverload) -> Function | None:
    """What an operator is made of, by its kernel or torch's decomposition; None where neither says so."""
    if func.has_kernel_for_dispatch_key(DispatchKey.CompositeImplicitAutograd):
        return func.decompose
    return get_decompositions([func]).get(func)


def place(args: Args, kwargs: Kwargs) -> torch.device:
    """Where an operator makes its result."""
    given = kwargs.get("device")
    tensors = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
    return torch.device(given) if given is not None else next((t.device for t in tensors), _CPU)
