"""What every channel costs: FLOPs and parameters of a network at any widths, from one run at full width.

An operator's FLOPs are those at full width, times what is kept of each of its dimensions. A dimension is counted as
often as it occurs in one of the operands, so a product of a (m, k) and a (k, n) tensor goes with m, k and n.
Parameters are exact; FLOPs are for steering, and what is chosen by them is counted by `netslim.cost`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd, prod

import torch
from torch.utils.flop_counter import FlopCounterMode

from netslim.cost import light, used
from netslim.ir.inputs import Inputs, batch, every_tensor, of_one
from netslim.ir.plan import groups_in
from netslim.layouts.axes import Concat, Const, Elastic, Layout, Misaligned, Product, product, resolve
from netslim.layouts.engine import Call, Engine, Rule, is_pointwise, on_one_device
from netslim.net.runtime import named_tensors, runtime
from netslim.net.slimnet import SlimNet
from netslim.trace.meta import OneDevice

Counts = Sequence[int]
"""Channels that each group of a plan keeps."""


@dataclass(frozen=True, slots=True)
class Term:
    """Something that grows with dimensions: `full`, times the kept share of each of them."""

    full: float
    dims: tuple[Layout, ...]

    def at(self, counts: Counts) -> float:
        return self.full * prod(kept(d, counts) / d.size for d in self.dims)


def kept(layout: Layout, counts: Counts) -> int:
    """How many entries of a dimension are kept."""
    if isinstance(layout, Elastic):
        return counts[layout.group]
    if isinstance(layout, Product):
        return prod(kept(f, counts) for f in layout.factors)
    return sum(kept(p, counts) for p in layout.parts) if isinstance(layout, Concat) else layout.size


@dataclass(frozen=True)
class Prices:
    """The sum of terms, and which of them each group is in."""

    terms: tuple[Term, ...]
    fixed: float
    of_group: Mapping[int, tuple[Term, ...]] = field(init=False, repr=False)
    beside: Mapping[int, frozenset[int]] = field(init=False, repr=False)
    """Groups that share a term with a group, itself among them."""

    def __post_init__(self) -> None:
        of_group: dict[int, list[Term]] = {}
        beside: dict[int, set[int]] = {}
        for term in self.terms:
            found = {group for layout in term.dims for group in groups_in(layout)}
            for group in found:
                of_group.setdefault(group, []).append(term)
                beside.setdefault(group, set()).update(found)
        object.__setattr__(self, "of_group", {g: tuple(terms) for g, terms in of_group.items()})
        object.__setattr__(self, "beside", {g: frozenset(found) for g, found in beside.items()})

    def total(self, counts: Counts) -> float:
        return self.fixed + sum(term.at(counts) for term in self.terms)

    def saving(self, counts: Counts, group: int, other: int) -> float:
        """What less there is to pay when a group keeps `other` channels instead; negative where there is more."""
        changed = [*counts[:group], other, *counts[group + 1 :]]
        return sum(term.at(counts) - term.at(changed) for term in self.of_group.get(group, ()))


def param_prices(net: SlimNet, depth: Mapping[str, bool] | None = None) -> Prices:
    """The parameters of sub-networks without the blocks that `depth` skips."""
    layouts = runtime(net).plan.layouts
    return _prices((parameter.numel(), layouts.get(name, ())) for name, parameter in used(net, depth))


def flop_prices(net: SlimNet, depth: Mapping[str, bool] | None = None) -> Prices:
    """The forward FLOPs for one image of the example's shape, without the blocks that `depth` skips."""
    inputs = dict(runtime(net).plan.inputs)
    if batch(inputs):
        with contextlib.suppress(Exception):  # what looks like a batch is none
            return _followed(net, of_one(inputs), depth)
    return _followed(net, inputs, depth)


def _followed(net: SlimNet, inputs: Inputs, depth: Mapping[str, bool] | None) -> Prices:
    copied, given = light(net, inputs)
    counter = FlopCounterMode(display=False)
    engine, tensors = _Counting(copied, counter), named_tensors(copied)
    for name, layouts in runtime(copied).plan.layouts.items():
        engine.set(tensors[name], layouts)
    for tensor in every_tensor(given):
        engine.set(tensor, list(map(Const, tensor.shape)))
    with torch.inference_mode(), OneDevice(), copied.eval().sub(1.0, depth), counter, engine:
        copied(**given)
    return _prices(engine.counted)


def _prices(found: Iterable[tuple[int, Sequence[Layout]]]) -> Prices:
    terms: Counter[tuple[Layout, ...]] = Counter()
    for full, dims in found:
        terms[tuple(d for d in dims if groups_in(d))] += full
    fixed = terms.pop((), 0)
    return Prices(tuple(Term(full, dims) for dims, full in terms.items()), fixed)


class _Counting(Engine):
    """Notes the FLOPs of every call, with the dimensions that they go with."""

    def __init__(self, net: SlimNet, counter: FlopCounterMode) -> None:
        super().__init__(runtime(net).rules)
        self.counter = counter
        self.counted: list[tuple[int, tuple[Layout, ...]]] = []

    def run(self, call: Call, rule: Rule) -> object:
        flops = 0 if call.func._schema.is_mutable or is_pointwise(call.func) else self._flops(call)
        super().run(call, rule)
        if flops:
            self.counted.append((flops, self._dims_of(call)))
        return call.out

    def _flops(self, call: Call) -> int:
        """Counted in a call beside that of the run, which remembers results."""
        before = self.counter.get_total_flops()
        args, kwargs = on_one_device(call.args, call.kwargs)
        call.func(*args, **kwargs)
        return self.counter.get_total_flops() - before

    def typed(self, call: Call, rule: Rule) -> None:
        try:
            super().typed(call, rule)
        except Misaligned:  # a price too high here; what is chosen is counted
            for out in call.outs:
                self.set(out, list(map(Const, out.shape)))

    def _dims_of(self, call: Call) -> tuple[Layout, ...]:
        met: Counter[Layout] = Counter()
        for tensor in [*call.tensors, *call.outs]:
            met |= Counter(unit for layout in self.dims(tensor) for unit in _units(layout))
        return tuple(met.elements())


def _units(layout: Layout) -> tuple[Layout, ...]:
    """The factors of a dimension, in which operands may share some of them: (a * 7) and (3 * a) shrink alike."""
    layout = resolve(layout)
    if isinstance(layout, Product):
        return tuple(unit for factor in layout.factors for unit in _units(factor))
    if not isinstance(layout, Concat):
        return (layout,)
    pieces = [_constant_apart(part) for part in layout.parts]
    common = gcd(*(constant for constant, _ in pieces))
    parts = tuple(product(Const(constant // common), *factors) for constant, factors in pieces)
    parts = next(parts[:n] for n in range(1, len(parts) + 1) if parts[:n] * (len(parts) // n) == parts)
    return _units(parts[0]) if len(parts) == 1 else (Concat(parts),)


def _constant_apart(part: Layout) -> tuple[int, list[Layout]]:
    factors = part.factors if isinstance(part, Product) else (part,)
    return prod(f.size for f in factors if isinstance(f, Const)), [f for f in factors if not isinstance(f, Const)]
