"""Whether the converted network is the model, from outside: one training step of both, compared.

Both begin with the same weights, buffers, inputs and random numbers. Compared are the outputs, the gradient of every
parameter and of every input, and every buffer after the step: the largest difference, as a share of the largest
number of its tensor (and at least of 1e-6 of the largest of its kind, since a bias before a norm has no gradient but
rounding). What is not equal bit for bit is done again in double precision.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only
from zoo_limits import Fields, told

NOISE = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Of the largest number of a kind, what counts as nothing."""
EXPLAINED = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Largest difference that is rounding."""
LARGE = 150_000_000
"""Parameters from which single precision has to do, for the memory."""

Tensors = Mapping[str, Tensor | None]


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step leaves behind."""

    outputs: Tensors
    gradients: Tensors
    inputs: Tensors
    buffers: Tensors


def parity_fields(model: nn.Module, net: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Fields:
    """The comparison of a training step; of one in eval mode where the model has none on such inputs."""
    found = in_precision(torch.float32, model, net, args, kwargs)
    if found.get("parity") and sum(p.numel() for p in model.parameters()) < LARGE:
        wide = in_precision(torch.float64, model, net, args, kwargs)
        return found if wide["parity"] is None else wide
    return found


def in_precision(
    dtype: torch.dtype, model: nn.Module, net: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Fields:
    failure = ""
    for training in (True, False):
        try:
            wanted = step(model, args, kwargs, dtype, training)
        except Exception as error:
            failure = failure or told(error)["failure"]
            continue
        return compared(wanted, lambda t=training: step(net, args, kwargs, dtype, t), dtype, training)
    return {"parity": None, "parity_note": f"the original does not take a step: {failure}"}


def compared(wanted: Step, run: Callable[[], Step], dtype: torch.dtype, training: bool) -> Fields:
    try:
        found = run()
    except Exception as error:
        return {
            "parity": float("inf"),
            "parity_note": told(error)["failure"],
            "parity_dtype": str(dtype).removeprefix("torch."),
        }
    worst, where = max(
        (difference(getattr(wanted, kind), getattr(found, kind), dtype), kind) for kind in Step.__slots__
    )
    share, place = worst
    note = f"{where}: {place}" if share > EXPLAINED[dtype] else ""
    mode = "training" if training else "eval"
    return {
        "parity": share,
        "parity_note": note,
        "parity_dtype": str(dtype).removeprefix("torch."),
        "parity_mode": mode,
    }


def step(net: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dtype: torch.dtype, training: bool) -> Step:
    """Forward and backward of a copy, with weights for the mean of the outputs that are the same in every run."""
    own = copy.deepcopy(net).to(dtype).train(training)
    own.zero_grad(set_to_none=True)
    leaves: list[Tensor] = []
    args, named = tree_map_only(Tensor, lambda t: _leaf(t, dtype, leaves), (args, dict(kwargs)))
    seed()
    outputs = {str(i): t for i, t in enumerate(tree_leaves(own(*args, **named))) if isinstance(t, Tensor)}
    total = [
        (t * _weights(t)).mean() for t in outputs.values() if t.is_floating_point() and t.requires_grad and t.numel()
    ]
    if not total and training:
        raise ValueError("no output has a gradient")
    if total:
        torch.stack(total).sum().backward()
    return Step(
        {name: t.detach() for name, t in outputs.items()},
        {name: p.grad for name, p in own.named_parameters()},
        {str(i): leaf.grad for i, leaf in enumerate(leaves)},
        {name: b.detach() for name, b in own.named_buffers()},
    )


def seed() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def _leaf(tensor: Tensor, dtype: torch.dtype, leaves: list[Tensor]) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.clone()
    leaves.append(tensor.detach().to(dtype).requires_grad_())
    return leaves[-1].clone()


def _weights(tensor: Tensor) -> Tensor:
    return torch.rand(tensor.shape, generator=torch.Generator().manual_seed(1), dtype=tensor.dtype)


def difference(wanted: Tensors, found: Tensors, dtype: torch.dtype) -> tuple[float, str]:
    """The largest, and where it is; infinite for what is there once only, or has another shape."""
    largest = max((size(t) for t in wanted.values()), default=0.0)
    worst = (0.0, "")
    for name in wanted if set(wanted) <= set(found) else _missing(wanted, found):
        worst = max(worst, (_apart(wanted[name], found.get(name), NOISE[dtype] * largest), name))
    return worst


def _missing(wanted: Tensors, found: Tensors) -> Iterable[str]:
    return [name for name in wanted if name not in found][:1]


def _apart(wanted: Tensor | None, found: Tensor | None, least: float) -> float:
    if wanted is None or found is None:
        return 0.0 if wanted is found or max(size(wanted), size(found)) == 0 else float("inf")
    if wanted.shape != found.shape:
        return float("inf")
    if not wanted.numel():
        return 0.0
    a, b = wanted.double(), found.double()
    apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs().nan_to_num(float("inf")))
    return float(apart.max()) / max(size(wanted), least, 1e-300)


def size(tensor: Tensor | None) -> float:
    """The largest finite number."""
    if tensor is None or not tensor.numel():
        return 0.0
    return float(tensor.double().abs().nan_to_num(0.0, 0.0, 0.0).max())
