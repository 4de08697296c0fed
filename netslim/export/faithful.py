"""Whether what a file gives back does what the network does that was written."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from netslim.errors import ArchiveError
from netslim.ir.inputs import Inputs, called, drawn, every_tensor, of_two

MODES = {False: "evaluation", True: "training"}


class Unfaithful(ArchiveError):
    """What would be written is another network."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run does: its outputs, the gradients of their squares, and the buffers afterwards."""

    outputs: list[Tensor]
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]


def require_same(model: nn.Module, again: nn.Module, inputs: Inputs) -> str:
    """Runs both on random inputs, with the same random numbers, in the modes in which the network runs at all.

    Returns what was compared, in words; nothing where it runs in neither. Raises Unfaithful where they differ.
    """
    modes = []
    for mode, word in MODES.items():
        found = _first(model, inputs, mode)
        if found is not None:
            _compare(found[1], _attempt(partial(seen, again, found[0], mode), word), word)
            modes.append(word)
    return f"outputs, gradients and buffers in {' and '.join(modes)} mode" if modes else ""


def require_same_at(model: nn.Module, again: Callable[..., Any], inputs: Inputs, tolerance: float) -> bool:
    """The same for the outputs alone, in evaluation mode, on inputs of these very sizes.

    `again` takes them by position. Returns whether the network runs on them at all.
    """
    found = _attempted(model, inputs, False)
    if found is not None:
        _compare_outputs(model, again, *found, tolerance)
    return found is not None


def _compare_outputs(
    model: nn.Module, again: Callable[..., Any], given: Mapping[str, Any], wanted: Seen, tolerance: float
) -> None:
    with torch.no_grad():
        got = _attempt(lambda: again(*by_position(model, given).values()), MODES[False])
    _compare_tensors(wanted.outputs, list(every_tensor(got)), f"outputs in {MODES[False]} mode", tolerance)


def by_position(model: nn.Module, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as forward takes them, with the defaults of those that are left out before the last."""
    known = inspect.signature(model.forward).parameters
    if not given.keys() <= known.keys():
        return dict(given)
    last = max(list(known).index(name) for name in given)
    return {name: given.get(name, known[name].default) for name in list(known)[: last + 1]}


def seen(module: nn.Module, given: Mapping[str, Any], mode: bool) -> Seen:
    """One run of a copy, forwards and backwards."""
    copied = copy.deepcopy(module).train(mode)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        outputs = list(every_tensor(called(copied, given)))
        square = [out.abs().square().mean() for out in outputs if out.grad_fn is not None]
        if square:
            torch.stack([each.double() for each in square]).sum().backward()
    gradients = {name: p.grad for name, p in copied.named_parameters() if p.grad is not None}
    return Seen([out.detach() for out in outputs], gradients, dict(copied.named_buffers()))


def _first(model: nn.Module, inputs: Inputs, mode: bool) -> tuple[dict[str, Any], Seen] | None:
    """Random inputs of two images, or of as many as the example's, and what the network makes of them."""
    return _attempted(model, of_two(inputs), mode) or _attempted(model, inputs, mode)


def _attempted(model: nn.Module, inputs: Inputs, mode: bool) -> tuple[dict[str, Any], Seen] | None:
    """Random inputs, and what the network makes of them; None where it does not run on them in this mode."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    given = drawn(inputs, torch.Generator().manual_seed(0), dtype)
    with contextlib.suppress(Exception):
        return given, seen(model, given, mode)
    return None


def _attempt(run: Callable[[], Any], mode: str) -> Any:
    try:
        return run()
    except Exception as error:
        raise Unfaithful(
            f"read back from the file, the network does not run in {mode} mode ({type(error).__name__}: {error}); "
            "nothing was written."
        ) from error


def _compare(wanted: Seen, got: Seen, mode: str) -> None:
    _compare_tensors(wanted.outputs, got.outputs, f"outputs in {mode} mode", _ROUNDING)
    for what, one, other in (
        ("gradients", wanted.gradients, got.gradients),
        ("buffers", wanted.buffers, got.buffers),
    ):
        if one.keys() != other.keys():
            raise _differs(f"{what} in {mode} mode")
        _compare_tensors(list(one.values()), [other[n] for n in one], f"{what} in {mode} mode", _ROUNDING)


_ROUNDING = 1e-5


def _compare_tensors(wanted: list[Tensor], got: list[Tensor], what: str, tolerance: float) -> None:
    try:
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True)
    except AssertionError as error:
        raise _differs(what) from error


def _differs(what: str) -> Unfaithful:
    return Unfaithful(f"read back from the file, the network has other {what}; nothing was written.")
