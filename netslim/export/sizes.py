"""Which sizes of its inputs a network takes, beside the example's: what an exported program is to leave open.

A plain network refuses what it was not followed for, with the reason, so it is run without values at other sizes, one
dimension after the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.utils._pytree import tree_map

from netslim.ir.inputs import Input, Inputs, batch, called, drawn, of_two, tensors_in
from netslim.trace.meta import OneDevice, meta_copy

BATCH = "batch"
Dims = tuple[tuple[str | None, ...], ...]
"""For every tensor, the name of each dimension that is open; dimensions that go together have one name."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """open: names of dimensions; fixed: why each other one, by its name, is as in the example."""

    open: Dims
    fixed: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the open dimensions, each once."""
        return tuple(dict.fromkeys(name for dims in self.open for name in dims if name is not None))

    def without(self, names: tuple[str, ...], why: str) -> Sizes:
        """Fewer open ones."""
        gone = set(names) & set(self.names)
        kept = tuple(tuple(None if name in gone else name for name in dims) for dims in self.open)
        return Sizes(kept, {**self.fixed, **dict.fromkeys((n for n in self.names if n in gone), why)})


def resized(inputs: Inputs, dims: Dims, sizes: Mapping[str, int]) -> Inputs:
    """The inputs with other sizes in named dimensions."""
    named = iter(dims)

    def other(leaf: object) -> object:
        if not isinstance(leaf, Input):
            return leaf
        shape = (sizes.get(name or "", n) for name, n in zip(next(named), leaf.shape, strict=True))
        return replace(leaf, shape=tuple(shape))

    made: Inputs = tree_map(other, dict(inputs))
    return made


def size_of(inputs: Inputs, dims: Dims, name: str) -> int:
    """The example's size of a named dimension."""
    tensors = zip(tensors_in(inputs), dims, strict=True)
    return next(leaf.shape[names.index(name)] for leaf, names in tensors if name in names)


def open_sizes(model: nn.Module, inputs: Inputs) -> tuple[Inputs, Sizes]:
    """The dimensions in which the network runs at other sizes too, and refuses none that were tried.

    They come with the inputs that they are of: two images where the network takes no single one.
    """
    named, trial = _named(inputs), _Trial(model, inputs)
    if trial.wrong(inputs) is not None:
        inputs = of_two(inputs)
        trial = _Trial(model, inputs)
    found = Sizes(named, {})
    for name in found.names:
        why = _refusal(trial, inputs, named, name)
        if why is not None:
            found = found.without((name,), why)
    sides = tuple(name for name in found.names if name != BATCH)
    together = {name: (2 + i % 2) * size_of(inputs, named, name) for i, name in enumerate(sides)}
    if len(sides) > 1 and trial.wrong(resized(inputs, named, together)) is not None:
        found = found.without(sides, "the network runs at no other ones together")
    return inputs, found


def _named(inputs: Inputs) -> Dims:
    """Every dimension of every tensor by name: those of one size in the same place have one."""
    common, known, made = batch(inputs), dict[tuple[int, int, int], str](), []
    for leaf in tensors_in(inputs):
        names = []
        for dim, size in enumerate(leaf.shape):
            if common and dim == 0:
                names.append(BATCH)
                continue
            key = (len(leaf.shape), dim, size)
            name = _SIDES.get((len(leaf.shape), dim), f"dim_{dim}")
            number = sum(other == name or other.startswith(f"{name}_of_") for other in known.values())
            names.append(known.setdefault(key, f"{name}_of_{number + 1}" if number else name))
        made.append(tuple(names))
    return tuple(made)


_SIDES = {
    (4, 1): "channels", (4, 2): "height", (4, 3): "width", (3, 1): "channels", (3, 2): "length", (5, 1): "channels",
    (5, 2): "depth", (5, 3): "height", (5, 4): "width", (2, 1): "length",
}  # fmt: skip


def _refusal(trial: _Trial, inputs: Inputs, named: Dims, name: str) -> str | None:
    """Why a dimension is fixed: what the network says to another size, or to all of them; None where it is not."""
    size, said = size_of(inputs, named, name), list[str | None]()
    others = (3, 1, *_LARGE[trial.light]) if name == BATCH else (2 * size, size + 33, 4 * size, max(1, size // 2))
    for other in dict.fromkeys(others[: 4 if trial.light else 2]):
        if other != size:
            said.append(trial.wrong(resized(inputs, named, {name: other})))
        if said and said[-1] is not None and said[-1].startswith(_REFUSED):
            return said[-1].removeprefix(_REFUSED)
    return None if None in said else said[0]


_REFUSED = "ValueError: "  # by the printed forward
_LARGE = {True: (1031,), False: ()}  # what costs nothing without values


class _Trial:
    """Runs a network on inputs of some sizes, without values where it runs so."""

    def __init__(self, model: nn.Module, inputs: Inputs) -> None:
        self.model, self.light = model.eval(), False
        with contextlib.suppress(Exception):
            self.model, self.light = meta_copy(model), True
        if self.light and self.wrong(inputs) is not None:
            self.model, self.light = model, False

    def wrong(self, inputs: Inputs) -> str | None:
        """What the network says to such inputs; None for nothing."""
        dtype = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), None)
        try:
            with torch.no_grad(), OneDevice() if self.light else contextlib.nullcontext():
                called(self.model, self._drawn(inputs, dtype))
        except Exception as error:
            lines = str(error).strip().splitlines()
            return f"{type(error).__name__}: {lines[0] if lines else ''}"
        return None

    def _drawn(self, inputs: Inputs, dtype: torch.dtype | None) -> Mapping[str, object]:
        if not self.light:
            return drawn(inputs, torch.Generator().manual_seed(0), dtype)

        def made(leaf: object) -> object:
            counts = isinstance(leaf, Input) and not (leaf.dtype.is_floating_point or leaf.dtype.is_complex)
            if counts or not isinstance(leaf, Input):
                return next(iter(drawn({"x": leaf}, torch.Generator().manual_seed(0)).values()))
            return torch.empty(leaf.shape, dtype=dtype or leaf.dtype, device="meta")

        found: Mapping[str, object] = tree_map(made, dict(inputs))
        return found
