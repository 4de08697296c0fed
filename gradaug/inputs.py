"""What a network takes: its device, and images of its shape."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from netslim import SlimNet
from netslim.errors import InputError
from netslim.net.runtime import runtime

T = TypeVar("T")


def device_of(net: torch.nn.Module) -> torch.device:
    """Where the network's first parameter lives (cpu without parameters)."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))


def on_device(batch: T, device: torch.device) -> T:
    """Every tensor in lists, tuples and mappings on `device`; from pinned memory without waiting."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device, non_blocking=True), batch)


def blank_images(net: SlimNet, count: int = 2) -> Tensor:
    """Zero images of the network's own shape, type and device, to try it on."""
    like = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.zeros(count, *image_shape(net), dtype=like.dtype, device=like.device)


def image_shape(net: SlimNet) -> tuple[int, ...]:
    """The one input's shape without the batch dimension, e.g. (3, 32, 32)."""
    shapes = runtime(net).plan.input_shapes
    if len(shapes) != 1:
        raise InputError(f"gradaug trains networks with one input, and this one takes {len(shapes)}")
    return tuple(shapes[0][1:])
