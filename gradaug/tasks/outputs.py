"""Which tensors of a network's output are logits, whatever the output is.

A network may return a tensor of logits, a tuple whose first tensor is the logits (GoogLeNet and Inception in train
mode: ``GoogLeNetOutputs(logits, aux_logits2, aux_logits1)``), a mapping ({"logits": ...}, {"out": ..., "aux": ...}) or
an object of named fields (a dataclass, a library's output class).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor

from netslim.errors import InputError

MAIN_KEYS = ("logits", "out", "output")


def heads(output: object) -> tuple[Tensor, ...]:
    """The logits of every head, the main one first; raises InputError when there is none."""
    main, *others = tensors_of(output)
    return (main, *(head for head in others if head.shape == main.shape))


def require_in_place(target: Tensor, moves: bool) -> None:
    """InputError for a view that may move what a network answers position by position, (N, classes, ...)."""
    if moves and target.ndim > 2:
        raise InputError(
            f"the network answers every position, {tuple(target.shape)}, and a view may move them: leave `view` "
            "out, or give a `transform` that leaves every pixel in its place"
        )


def tensors_of(output: object) -> list[Tensor]:
    """Every tensor of an output, the main logits first; raises InputError when there are none."""
    if isinstance(output, Tensor):
        return [output]
    named = _named(output)
    if named is not None:
        return _main_first(named)
    found = [value for value in output if isinstance(value, Tensor)] if isinstance(output, (tuple, list)) else []
    if not found:
        raise InputError(
            f"the network returns {type(output).__name__} without logits in it: return a tensor (N, classes)"
        )
    return found


def _named(output: object) -> Mapping[object, object] | None:
    """The parts of an output that has names for them; None where their order alone says what they are."""
    if isinstance(output, Mapping):
        return output
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    if not isinstance(output, tuple) or not hasattr(output, "_fields"):
        return None
    named = dict(zip(output._fields, output, strict=True))
    return named if any(isinstance(named.get(key), Tensor) for key in MAIN_KEYS) else None


def _main_first(output: Mapping[object, object]) -> list[Tensor]:
    tensors = {key: value for key, value in output.items() if isinstance(value, Tensor)}
    main = next((key for key in MAIN_KEYS if key in tensors), next(iter(tensors)) if len(tensors) == 1 else None)
    if main is None:
        raise InputError(
            f"the network returns a mapping with keys {sorted(map(str, output))}, none of which is "
            f"{' or '.join(MAIN_KEYS)}: return the logits under one of these names"
        )
    return [tensors.pop(main), *tensors.values()]


def main_output(output: object) -> Tensor:
    """The main logits (N, classes, ...)."""
    return heads(output)[0]
