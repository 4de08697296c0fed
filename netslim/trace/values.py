"""Values of tensors that forward makes of sizes alone: a mask of ones is one on every image.

While a model is followed, tensors on its device have no values. Where Python asks for some that depend neither on an
input nor on a weight, the steps that have made them are run for real.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from netslim.ir.functions import COUNTS, DTYPE, FORMS, Memory, form_only, memory
from netslim.ir.program import Leaf, Node, Program, Ref, function, map_leaves
from netslim.layouts.engine import Args, Kwargs


class Recorded(Protocol):
    """The steps so far, and what they gave: the tracer."""

    nodes: list[Node]
    tensors: dict[str, Any]
    numbers: dict[str, Any]


def with_values(tensor: Tensor, name: str | None, run: Recorded) -> Tensor:
    """The tensor that step `name` gave, or one that holds its values, where these are the same on every image."""
    found = values_of(name, run.nodes, run.tensors, run.numbers) if name and tensor.is_meta else None
    return found if isinstance(found, Tensor) else tensor


def values_of(name: str, nodes: Sequence[Node], tensors: Mapping[str, Any], numbers: Mapping[str, Any]) -> Any:
    """What the step `name` gives, computed on the CPU; None where it depends on inputs, weights or random numbers.

    tensors, numbers: what the steps gave when they were recorded.
    """
    needed = _needed(name, nodes, tensors, numbers)
    if needed is None:
        return None
    found: dict[str, Any] = {}

    def arguments(node: Node) -> Any:
        form = form_only(node)

        def put(leaf: Leaf) -> Any:
            if isinstance(leaf, Ref) and leaf.name in form and isinstance(tensors.get(leaf.name), Tensor):
                return torch.empty_like(tensors[leaf.name], device="cpu")
            return found[leaf.name] if isinstance(leaf, Ref) else torch.device("cpu") if _is_device(leaf) else leaf

        return map_leaves(put, node.args), map_leaves(put, node.kwargs)

    with contextlib.suppress(Exception), _disable_current_modes(), _NothingRandom():
        for node in needed:
            if node.name in numbers:
                found[node.name] = numbers[node.name]
            elif node.target in FORMS:
                found[node.name] = _form(node, tensors[node.refs[0]])
            elif node.op == "param":
                found[node.name] = tensors[node.name].clone()
            else:
                args, kwargs = arguments(node)
                found[node.name] = function(node.target)(*args, **kwargs)
        return found[name]
    return None


class _NothingRandom(TorchDispatchMode):
    """Operators that draw random numbers fail."""

    def __torch_dispatch__(
        self, func: OpOverload, _types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"{func} is random")
        return func(*args, **(kwargs or {}))


def _is_device(leaf: Leaf) -> bool:
    return isinstance(leaf, torch.device)


def _form(node: Node, tensor: Tensor) -> Any:
    if node.target in COUNTS:
        return tensor.size(*node.args[1:]) if node.target == "torch.Tensor.size" else tensor.numel()  # type: ignore[arg-type]
    return tensor.dtype if node.target == DTYPE else torch.device("cpu")


def _needed(
    name: str, nodes: Sequence[Node], tensors: Mapping[str, Any], numbers: Mapping[str, Any]
) -> list[Node] | None:
    """The steps that a value comes from, those that write to it included; None where one of them has no values."""
    by_name, shared = {node.name: node for node in nodes}, memory(Program(tuple(nodes)))
    wanted: set[str] = set()
    queue = [name]
    while queue:
        node = by_name.get(queue.pop())
        if node is None or node.name in wanted:
            continue
        wanted.add(node.name)
        if node.name in numbers or node.target in FORMS:
            continue
        if node.op == "param" and not tensors[node.name].is_meta:
            continue
        if node.op != "call":
            return None
        entries = [n for n in node.refs if not (n in form_only(node) and isinstance(tensors.get(n), Tensor))]
        queue += [*entries, *_writers(node.name, shared)]
    return [node for node in nodes if node.name in wanted]


def _writers(name: str, shared: Memory) -> list[str]:
    return [step for step, owners in shared.writes.items() if owners & shared.owners[name]]
