"""Records a forward again at other sizes, as far as it runs on them, and holds the first recording to that."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch._ops import OpOverload

from netslim.errors import TraceError
from netslim.layouts.engine import Args, Call, Engine, Kwargs
from netslim.layouts.forms import tensors_in
from netslim.trace.amending import Pin
from netslim.trace.confirmation import confirmed
from netslim.trace.follow import trace
from netslim.trace.recordings import ConstantDiffers, against, shape_of
from netslim.trace.resized import (
    BATCHES,
    FIRST,
    FURTHER,
    LARGE,
    LARGEST,
    MORE_BATCHES,
    Family,
    Inputs,
    Scale,
    batch,
    families,
    resized,
    sides,
    tensors_of,
)
from netslim.trace.result import Trace
from netslim.trace.state import kept
from netslim.trace.tracer import Tracer

Sizes = list[tuple[int, ...] | None]
"""The shapes of all inputs."""


class TableKept(TraceError):
    """The first recording found a table of its size kept from before; forward makes it anew on other sizes.

    left: puts the table of such another size there, so that the next recording makes one too; sizes: the inputs' there.
    """

    def __init__(self, left: Callable[[], None], sizes: Sizes) -> None:
        super().__init__("forward keeps a table for one size and makes another one for others.")
        self.left, self.sizes = left, sizes


class Untyped(Engine):
    """Runs a model without typing anything."""

    def __init__(self) -> None:
        super().__init__({})

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = {id(t): t.is_meta for t in tensors_in((args, kwargs)) if t.dim()}
        call = Call(self, func, args, kwargs)
        try:
            call.execute()
        except (RuntimeError, NotImplementedError):  # a composite operator may want the values of a constant
            out = self._decomposed(func, args, kwargs) if len(set(given.values())) > 1 else NotImplemented
            if out is NotImplemented or func in self._open:
                raise
            return out
        for tensor in call.outs:
            if id(tensor) not in given:
                self._produced.add(id(tensor))
                self._watch(tensor)
        return call.out


class Witness(Tracer):
    """Records what another recording is held to: where the source is does not matter."""

    def line(self) -> str:
        return ""


@dataclass
class Witnesses:
    """The further recordings of one module in one mode.

    kept: the sizes for which a table is kept from before, so that forward does not make it.
    fixed: whether sizes that the program is wrong on may be refused, rather than the program.
    least: how many recordings more than the first are made in any case; made: how many were.
    alike: those of the other mode, where that has taken the same steps.
    """

    root: nn.Module
    inputs: Inputs
    training: bool
    leaf: Callable[[nn.Module], bool]
    making: bool = False
    fixed: bool = False
    given: Sequence[Inputs] = ()
    kept: Sizes | None = None
    least: int = 0
    made: int = 0
    alike: Witnesses | None = None
    ran: set[tuple[int, int]] = field(default_factory=set)  # dimensions that have been resized

    def hold(self, base: Trace) -> Trace:
        """`base`, right on every size that it was held to. Raises TraceError, with the line, where it cannot be."""
        given = [self._must_run(inputs) for inputs in self.given]
        tried = [*given, *self._first(base)]
        made = next((other for other in tried if other.left), None)
        if made is not None and made.left is not None and base.left is None and self.kept is None:
            raise TableKept(made.left, _sizes(made))
        tried = [other for other in tried if _sizes(other) != self.kept]
        base = replace(base, cached=self._about_tables(base))
        try:
            return confirmed(base, tried, self._further, self._pins(base, ""), self.least)
        except ConstantDiffers:
            raise
        except TraceError as error:
            if not self.fixed:
                raise
            return self._at_fixed_size(base, error)

    def _at_fixed_size(self, base: Trace, error: TraceError) -> Trace:
        """Held to other batches alone if it can be, else to none."""
        self.ran = set()
        others = self._ran([(scale, {}) for scale in BATCHES])
        try:
            return confirmed(base, others, lambda: iter(()), self._pins(base, str(error)))
        except TraceError as again:
            self.ran = set()
            return confirmed(base, [], lambda: iter(()), self._pins(base, str(again), always=True))

    # -- recordings

    def _run(self, inputs: Inputs) -> Trace | None:
        try:
            return self._must_run(inputs)
        except ConstantDiffers:
            raise
        except TraceError:
            return None

    def _must_run(self, inputs: Inputs) -> Trace:
        return trace(self.root, inputs, Untyped(), self.leaf, self.training, {}, Witness, self.making)

    def _about_tables(self, base: Trace) -> frozenset[int]:
        """The comparisons that turn out otherwise where the tables of sizes that forward has made are there already."""
        if base.left is None or not base.comparisons:
            return frozenset()
        before = kept(self.root)
        try:
            base.left()
            again = trace(self.root, self.inputs, Untyped(), self.leaf, self.training, {}, Tracer, self.making)
        except TraceError:
            return frozenset()
        finally:
            before.put_back()
        then, now = _outcomes(base), _outcomes(again)
        return frozenset(i for i, c in enumerate(base.comparisons) if c.where in now and now[c.where] != then[c.where])

    def _ran(self, scales: Sequence[tuple[Scale, Family]]) -> list[Trace]:
        """The recordings at those sizes that forward takes."""
        found = []
        for scale, family in scales:
            other = self._run(resized(self.inputs, scale, family))
            if other is not None:
                found.append(other)
                self.ran |= set(sides(self.inputs, family))
                if scale.batch is not None and batch(self.inputs) is not None:
                    self.ran |= {(i, 0) for i in range(len(tensors_of(self.inputs)))}
        return found

    def _first(self, base: Trace) -> list[Trace]:
        found: list[Trace] = []
        if self.alike is not None and (few := self._few(self.alike)):
            return few
        self.chosen: list[tuple[Family, bool]] = []  # what forward takes other sizes of, and whether other batches too
        for family, batched in itertools.product(families(self.inputs), (True, False)):
            if self._is_settled(family):
                continue
            here = self._ran(_scales(FIRST[:2], family, batched))
            if here:
                here += self._ran(_scales(FIRST[3:] if self.training else FIRST[2:], family, batched))
                here += self._large(base, here, family, batched)
                self.chosen.append((family, batched))
            found += here
        if not any(batched for _, batched in self.chosen):
            found += (here := self._ran(_scales(BATCHES, {}, True)))
            found += self._large(base, here, {}, True)
        return found

    def _few(self, alike: Witnesses) -> list[Trace]:
        """Recordings at a few sizes of what the other mode was held to; none where one fails."""
        self.chosen = alike.chosen
        wanted = [_scales((FIRST[0], LARGEST), *of) for of in self.chosen]
        wanted += [] if any(batched for _, batched in self.chosen) else [_scales((BATCHES[0], LARGE[0]), {}, True)]
        found = [self._ran(scales) for scales in wanted]
        if list(map(len, found)) == list(map(len, wanted)) and self.ran == alike.ran:
            return list(itertools.chain(*found))
        self.ran = set()
        return []

    def _large(self, base: Trace, before: Sequence[Trace], family: Family, batched: bool) -> list[Trace]:
        """Recordings at large sizes, where smaller ones have taken the base's steps: no loop runs a thousand times."""
        if any(against(base, other).differs is not None for other in before):
            return []
        large = (LARGEST,) if self.training and family else LARGE if family else LARGE[:1]
        return self._ran(_scales(large, family, batched))

    def _is_settled(self, family: Family) -> bool:
        """Whether other sizes of a family need not be tried: all have been, or those of large tensors are found."""
        tensors = tensors_of(self.inputs)
        return all(
            (i, dim) in self.ran or (tensors[i].dim() > _IMAGE and any((i, d) in self.ran for d in range(1, 5)))
            for i, dim in sides(self.inputs, family)
        )

    def _further(self) -> Iterator[Trace]:
        scales = _scales(MORE_BATCHES, {}, True) if not self.chosen else []
        for family, batched in self.chosen:
            scales += _scales(FURTHER, family, batched)
        for wanted in scales:  # each is made when it is asked for
            self.made += 1
            yield from self._ran([wanted])

    # -- dimensions that were not resized

    def _pins(self, base: Trace, why: str, always: bool = False) -> list[Pin]:
        """Those that forward took no other size of, or, where there is a reason, those that it was wrong on."""
        pins: list[Pin] = []
        for i, node in enumerate(base.program.inputs):
            tried = {d for f in families(self.inputs) for j, d in sides(self.inputs, f) if j == i}
            tried |= {0} if batch(self.inputs) is not None else set()
            shape = shape_of(base.tensors[node.name]) or ()
            same = [dim for dim in sorted(tried) if always or (i, dim) not in self.ran]
            for dim in same:  # counted from the end, but for the batch: layers take tensors with more of them
                why_not = _refusal(node.name, dim, shape[dim], why)
                pins.append(Pin(node.name, dim - len(shape) if dim else 0, shape[dim], why_not, chosen=why))
        return pins


def _sizes(traced: Trace) -> Sizes:
    return [shape_of(traced.tensors[node.name]) for node in traced.program.inputs]


def _outcomes(traced: Trace) -> dict[str, set[bool]]:
    """How comparisons turn out, by the line that makes them."""
    found: dict[str, set[bool]] = {}
    for comparison in traced.comparisons:
        found.setdefault(comparison.where, set()).add(comparison.outcome)
    return found


_IMAGE = 3


def _scales(scales: Sequence[Scale], family: Family, batched: bool) -> list[tuple[Scale, Family]]:
    return [(scale if batched else replace(scale, batch=None), family) for scale in scales]


def _refusal(name: str, dim: int, size: int, why: str) -> str:
    told = f"forward was followed at {size} in dimension {dim} of {name!r}"
    return f"{told}, and at no other size: {why}" if why else f"{told}, and ran at none of the other sizes tried."
