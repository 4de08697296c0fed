"""Fits the sampler to a network and a machine: which resolutions run, and on which grid widths are fast.

Measured on a 2-core AVX-512 machine: a sub-network whose channel counts are arbitrary integers can cost more than the
full network, because kernels pad; on multiples of 16 it costs what its FLOPs say. Tensor cores want multiples of 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from gradaug.config.values import truth
from gradaug.inputs import blank_images, device_of, image_shape
from gradaug.scopes import evaluating
from gradaug.subnets.resize import default_resolutions, resize
from gradaug.subnets.sampler import Space
from netslim import SlimNet, cost
from netslim.errors import InputError


def fit(
    net: SlimNet,
    mode: str = "randwidth",
    *,
    alpha: float = 0.8,
    num_subnets: int = 3,
    resolutions: Sequence[int] | None = None,
    round_to: int | None = None,
    survival: float = 0.8,
    survival_first: float = 1.0,
    skip_blocks: int | None = None,
    stage_limit: int | None = None,
    per_group: bool = False,
) -> Space:
    """The space of sub-networks for `net`, with every None chosen; InputError says what cannot work and why."""
    if not isinstance(net, SlimNet):
        raise InputError(
            f"{type(net).__name__} is no converted network: give what netslim.convert(model, example_inputs) or "
            "netslim.load(path) returns, and no wrapper of it"
        )
    sides: Any = () if resolutions is None else resolutions
    space = Space(
        mode, alpha, num_subnets, sides, round_to,
        tuple(block.name for block in net.blocks), survival, survival_first, skip_blocks, stage_limit,
        stages=tuple(block.stage for block in net.blocks),
        groups=tuple(group.name for group in net.groups) if truth("per_group", per_group) else (),
    )  # fmt: skip
    _require_resolutions(net, space.resolutions)
    grid = space.round_to or _fitting_grid(net, space.alpha, hardware_grid(device_of(net)))
    if space.random_width and space.alpha < 1 and _share(net, space.alpha, grid) == 1:
        raise InputError(
            f"with widths rounded to {grid} channels the smallest sub-network (width {space.alpha}) is the whole "
            "network; use a smaller --round-to or --alpha"
        )
    usable = _usable_resolutions(net) if resolutions is None else space.resolutions
    return replace(space, resolutions=usable, round_to=grid)


def hardware_grid(device: torch.device) -> int:
    """Channels that convolution kernels handle at a time: 16 with AVX-512, 8 with AVX2 or CUDA, otherwise 1."""
    if device.type == "cuda":
        return 8
    if device.type == "cpu":
        return {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 1)
    return 1


def _fitting_grid(net: SlimNet, alpha: float, grid: int) -> int:
    """`grid`, halved until the smallest sub-network saves at least half of what exact widths would save.

    On a grid of 16 a network of 16 and 32 channels has no sub-network at 0.8 at all: such a network wants a finer one.
    """
    wanted = (1 - _share(net, alpha, 1)) / 2
    while grid > 1 and 1 - _share(net, alpha, grid) < wanted:
        grid //= 2
    return grid


def _share(net: SlimNet, width: float, round_to: int) -> float:
    """FLOPs of a sub-network as a share of the full network's."""
    return cost.count(net, width=width, round_to=round_to).flops / cost.count(net, width=1.0).flops


def _usable_resolutions(net: SlimNet) -> tuple[int, ...]:
    shape = image_shape(net)
    if len(shape) != 3:
        return ()
    return tuple(side for side in default_resolutions(min(shape[1:])) if _failure(net, side) is None)


def _require_resolutions(net: SlimNet, resolutions: tuple[int, ...]) -> None:
    for side in resolutions:
        failure = _failure(net, side)
        if failure is not None:
            full = min(image_shape(net)[1:], default=0)
            raise InputError(
                f"the network cannot run on images of {side} pixels ({failure}); take other --resolutions "
                f"(--resolutions {full} leaves the size alone) or pool globally before the classifier"
            )


def runs_channels_last(net: SlimNet) -> bool:
    """Whether the network accepts channels_last images (one that flattens a feature map with ``view`` does not)."""
    return len(image_shape(net)) == 3 and _failure(net, min(image_shape(net)[1:]), channels_last=True) is None


@torch.no_grad()
def _failure(net: SlimNet, side: int, channels_last: bool = False) -> str | None:
    """Why the network cannot take images of this side; None if it can."""
    images = blank_images(net)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    try:
        with evaluating(net):
            net(resize(images, side))
        return None
    except Exception as error:
        return (str(error) or type(error).__name__).splitlines()[0]
