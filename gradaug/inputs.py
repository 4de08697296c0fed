"""What a network takes: its device, and images of its shape."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map, tree_map_only

from netslim import SlimNet
from netslim.errors import InputError
from netslim.ir.inputs import Input
from netslim.net.runtime import runtime

T = TypeVar("T")


def device_of(net: torch.nn.Module) -> torch.device:
    """Where the network's first parameter lives (cpu without parameters)."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))


def on_device(batch: T, device: torch.device) -> T:
    """Every tensor in lists, tuples and mappings on `device`; from pinned memory without waiting."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device, non_blocking=True), batch)


def copied(batch: T, device: torch.device | None = None) -> T:
    """The same with tensors, lists, tuples and mappings of its own, on `device` if one is given.

    What a network is called with wherever the batch is used again, since it may write to that. It always gets a copy: a
    program shows what it writes to, but Python, ``.data`` and numpy do not, and a copy costs far less than the first
    layer. It is gone with the pass.
    """

    def leaf(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(value.device if device is None else device, non_blocking=True, copy=True)
        if isinstance(value, Mapping):  # of a class that torch does not take apart
            made: Any = copy.copy(value)
            for key, entry in value.items():
                made[key] = tree_map(leaf, entry)
            return made
        return value

    made: T = tree_map(leaf, batch)
    return made


def blank_images(net: SlimNet, count: int = 2) -> Tensor:
    """Zero images of the network's own shape, type and device, to try it on."""
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.zeros(count, *image_shape(net), dtype=like.dtype, device=like.device)


def image_shape(net: SlimNet) -> tuple[int, ...]:
    """The shape of one image, e.g. (3, 32, 32): of the one input without the batch, or of the first of a list's.

    Raises InputError for a network with several inputs.
    """
    found = list(_image_shapes(net))
    if len(found) != 1:
        raise InputError(f"gradaug trains networks with one input, and this one takes {len(found)}")
    return found[0]


def images_in_example(net: SlimNet) -> int:
    """Images that the cost of `net` is counted on (:func:`netslim.cost.count`): those of a list, one of a tensor."""
    lists = (value for value in runtime(net).plan.inputs.values() if isinstance(value, (list, tuple)))
    return next((len(value) for value in lists if value and isinstance(value[0], Input)), 1)


def _image_shapes(net: SlimNet) -> Iterator[tuple[int, ...]]:
    """Of every argument of forward that is a tensor (N, ...) or a list of tensors, one an image."""
    for value in runtime(net).plan.inputs.values():
        if isinstance(value, Input):
            yield value.shape[1:]
        elif isinstance(value, (list, tuple)) and value and all(isinstance(one, Input) for one in value):
            yield value[0].shape
