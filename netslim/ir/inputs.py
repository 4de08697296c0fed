"""The arguments of a network's forward, as data: shapes with the batch, dtypes, and tensors drawn like them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from netslim.errors import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor of the example inputs: its shape with the batch, its dtype, and its bounds if it counts.

    order: 1 where its rows rise (1 4 4 7), -1 where they fall, as sorted lengths do.
    """

    shape: Shape
    dtype: torch.dtype = torch.float32
    high: int = 0
    low: int = 0
    order: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """An argument that the example left out: its place among all of forward's, and the default that it then had."""

    name: str
    place: int
    value: bool | int | float | str | None


Inputs = Mapping[str, object]
"""Arguments of forward by name; `Input` in the place of every tensor, and anything else as it was given."""
Arguments = dict[str, object]
"""Arguments of forward by name, to call it with: tensors, and anything else."""


def described(arguments: Mapping[str, object]) -> Inputs:
    """Arguments with `Input` in the place of tensors, in containers too."""
    made: Inputs = tree_map(lambda leaf: _input(leaf) if isinstance(leaf, Tensor) else leaf, arguments)
    return made


def _input(tensor: Tensor) -> Input:
    shape = tuple(tensor.shape)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.is_meta or not tensor.numel():
        return Input(shape, tensor.dtype)
    return Input(shape, tensor.dtype, int(tensor.max()), int(tensor.min()), _order(tensor))


def _order(tensor: Tensor) -> int:
    """1 for rows that rise, -1 for rows that fall, 0 for others and for rows of equal entries."""
    steps = tensor.to(torch.int64).diff() if tensor.dim() else torch.zeros(1)
    return bool((steps >= 0).all()) - bool((steps <= 0).all())


def tensors_in(inputs: Inputs) -> list[Input]:
    """Every `Input`, in order."""
    return [leaf for leaf in tree_leaves(dict(inputs)) if isinstance(leaf, Input)]


def drawn(inputs: Inputs, generator: torch.Generator, dtype: torch.dtype | None = None) -> Arguments:
    """Random tensors for every `Input`: normal floats (of `dtype`, if given), integers that could be the example's.

    These lie between its bounds, which occur, and rows that rise or fall do so: lengths, indices and masks stay valid.
    """

    def draw(leaf: object) -> object:
        if not isinstance(leaf, Input):
            return leaf
        if leaf.dtype.is_floating_point or leaf.dtype.is_complex:
            wanted = dtype if dtype is not None and leaf.dtype.is_floating_point else leaf.dtype
            return torch.randn(leaf.shape, generator=generator, dtype=torch.float64, device="cpu").to(wanted)
        return _whole_numbers(leaf, generator).to(leaf.dtype)

    made: Arguments = tree_map(draw, dict(inputs))
    return made


def _whole_numbers(leaf: Input, generator: torch.Generator) -> Tensor:
    highest = torch.iinfo(torch.int64).max
    low, high = min(leaf.low, highest - 1), min(leaf.high, highest - 1)
    drawn = torch.randint(low, high + 1, leaf.shape, generator=generator, device="cpu")
    if drawn.numel():
        rows = drawn.view(-1, drawn.shape[-1] if leaf.order and drawn.dim() else drawn.numel())
        rows[-1, -1], rows[:, 0] = leaf.low, leaf.high
    return drawn.sort(descending=leaf.order < 0).values if leaf.order else drawn


def of_two(inputs: Inputs) -> Inputs:
    """The same for two images where every input is a tensor of one: batch norm cannot train on one value."""
    return _of(2, inputs) if batch(inputs) == 1 else dict(inputs)


def of_one(inputs: Inputs) -> Inputs:
    """The same for one image where all inputs are tensors with one batch size."""
    return of_many(1, inputs)


def of_many(images: int, inputs: Inputs) -> Inputs:
    """The same for so many images where all inputs are tensors with one batch size."""
    return _of(images, inputs) if batch(inputs) else dict(inputs)


def smaller(inputs: Inputs) -> Iterator[Inputs]:
    """The same with smaller images, the smallest first: narrow ones, then quarters and halves of both sides.

    Networks that resize their images enlarge the narrow ones least. Only dimensions of 64 and more shrink.
    """
    for height, width in ((16, 1), (4, 4), (2, 2)):

        def shrunk(leaf: object, by: tuple[int, int] = (height, width)) -> object:
            if not isinstance(leaf, Input) or len(leaf.shape) < 3 or min(leaf.shape[-2:]) < _LARGE:
                return leaf
            sides = (n // d for n, d in zip(leaf.shape[-2:], by, strict=True))
            return replace(leaf, shape=(*leaf.shape[:-2], *sides))

        yield tree_map(shrunk, dict(inputs))


_LARGE = 64


def batch(inputs: Inputs) -> int | None:
    """The first dimension that all inputs have in common; None where some are nested or have another."""
    tensors = [v for v in inputs.values() if isinstance(v, Input)]
    nested = any(isinstance(v, (list, tuple, dict)) for v in inputs.values())
    sizes = {v.shape[0] if len(v.shape) > 1 else None for v in tensors}
    return None if nested or len(sizes) != 1 else sizes.pop()


def shapes_of_one(inputs: Inputs) -> tuple[Shape, ...]:
    """Of every tensor, for one image: without the batch, which those in a list, one an image, do not have."""
    return tuple(
        leaf.shape if isinstance(value, (list, tuple)) else leaf.shape[1:]
        for name, value in inputs.items()
        for leaf in tensors_in({name: value})
    )


def _of(size: int, inputs: Inputs) -> Inputs:
    return {k: replace(v, shape=(size, *v.shape[1:])) if isinstance(v, Input) else v for k, v in inputs.items()}


def every_tensor(value: object) -> Iterator[Tensor]:
    """Tensors anywhere in a value, also in the attributes of an object of the user's."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from every_tensor(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from every_tensor(item)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)):
        yield from every_tensor(vars(value))


# ------------------------------------------------------------------------------------------- arguments of a call


def called(module: nn.Module, given: Mapping[str, Any]) -> Any:
    """What a plain network gives for the arguments of the network that it is of."""
    args, kwargs = to_call(module, given)
    return module(*args, **kwargs)


def to_call(module: nn.Module, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """Arguments for a call: by name where they have the names that they have in the original, and else by position."""
    named = given.keys() <= inspect.signature(module.forward).parameters.keys()
    return ((), given) if named else (tuple(given.values()), {})


def in_order(inputs: Inputs, left: Sequence[Left]) -> Inputs:
    """All arguments of forward that are known, in its order: the example's, and those that it left out."""
    known = list(inputs.items())
    for each in left:
        known.insert(each.place, (each.name, each))
    return dict(known)


def arguments(known: Inputs, args: Sequence[object], kwargs: Mapping[str, object]) -> list[Tensor]:
    """The tensors of a call, in the order of the example's. Raises InputError, with the argument, on another call.

    Tensors may have other sizes than the example's. Everything else must be as it was there, since it decided what the
    recorded forward does; None and nothing are the same, and so are a default and nothing.
    """
    names = list(known)
    twice = [name for name in names[: len(args)] if name in kwargs]
    unknown = [name for name in kwargs if name not in known]
    if len(args) > len(names) or unknown:
        what = f"{unknown[0]!r}" if unknown else f"{len(args)} positional ones"
        raise InputError(f"this network was converted for the inputs {', '.join(names)}; it was given {what}.")
    if twice:
        raise InputError(f"argument {twice[0]!r} is given twice, by position and by name.")
    given = dict(zip(names, args, strict=False)) | dict(kwargs)
    return [tensor for name in names for tensor in _tensors(known[name], given.get(name, _MISSING), name)]


def _tensors(wanted: object, given: object, name: str) -> Iterator[Tensor]:
    """The tensors of one argument, which is to be like the example's."""
    if isinstance(wanted, Input) and isinstance(given, Tensor):
        yield given
    elif isinstance(wanted, Left) and (given is _MISSING or _is_same(wanted.value, given)):
        return
    elif isinstance(wanted, Mapping) and type(wanted) is type(given) and wanted.keys() == given.keys():
        for key, item in wanted.items():
            yield from _tensors(item, given[key], f"{name}[{key!r}]")
    elif isinstance(wanted, (tuple, list)) and type(wanted) is type(given) and len(wanted) == len(given):
        for i, item in enumerate(wanted):
            yield from _tensors(item, given[i], f"{name}[{i}]")
    elif wanted is None and given is _MISSING:
        return
    elif isinstance(wanted, (Input, Left, Mapping, tuple, list)) or not _is_same(wanted, given):
        raise InputError(
            f"argument {name!r} is {_told(given)}, and this network was converted for {_told(wanted)} there; "
            "give it that, or convert the model again with other example inputs."
        )


_MISSING = object()


def _is_same(a: object, b: object) -> bool:
    if a is b:
        return True
    if type(a) is not type(b) or next(every_tensor(a), None) is not None:
        return False
    return bool(a == b or (a != a and b != b))


def _told(value: object) -> str:
    """A value in a few words."""
    value = value.value if isinstance(value, Left) else value
    if value is None or value is _MISSING:
        return "None" if value is None else "missing"
    if isinstance(value, (Input, Tensor)):
        return "a tensor"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} of {', '.join(map(repr, value)) or 'nothing'}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{value!r:.60}" if isinstance(value, (bool, int, float, str)) else f"a {type(value).__name__}"
