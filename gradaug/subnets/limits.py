"""What a network and a machine allow: which resolutions run, and on which grid widths are fast.

Measured on a 2-core AVX-512 machine: a sub-network whose channel counts are arbitrary integers can cost more than the
full network, because kernels pad; on multiples of 16 it costs what its FLOPs say. Tensor cores want multiples of 8.
"""

from __future__ import annotations

import torch

from gradaug.config.subnets import SubnetSettings
from gradaug.inputs import blank_images, device_of, image_shape
from gradaug.scopes import evaluating
from gradaug.subnets.resize import default_resolutions, resize
from netslim import SlimNet, cost
from netslim.errors import InputError


def hardware_grid(device: torch.device) -> int:
    """Channels that convolution kernels handle at a time: 16 with AVX-512, 8 with AVX2 or CUDA, otherwise 1."""
    if device.type == "cuda":
        return 8
    if device.type == "cpu":
        return {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 1)
    return 1


def fast_grid(net: SlimNet, alpha: float) -> int:
    """The hardware's grid, halved until the smallest sub-network saves half of what exact widths would save, or more.

    On a grid of 16 a network of 16 and 32 channels has no sub-network at 0.8 at all: such a network wants a finer one.
    """
    grid = hardware_grid(device_of(net))
    wanted = (1 - share_of_flops(net, alpha, 1)) / 2
    while grid > 1 and 1 - share_of_flops(net, alpha, grid) < wanted:
        grid //= 2
    return grid


def share_of_flops(net: SlimNet, width: float, round_to: int) -> float:
    """FLOPs of a sub-network as a share of the full network's."""
    return cost.count(net, width=width, round_to=round_to).flops / cost.count(net, width=1.0).flops


def require_smaller(net: SlimNet, settings: SubnetSettings) -> None:
    """InputError where rounding makes the smallest sub-network the whole network."""
    alpha, grid = settings.alpha, settings.round_to or 1
    if settings.random_width and alpha < 1 and share_of_flops(net, alpha, grid) == 1:
        raise InputError(
            f"with widths rounded to {grid} channels the smallest sub-network (width {alpha}) is the whole "
            "network; use a smaller --round-to or --alpha"
        )


def usable_resolutions(net: SlimNet) -> tuple[int, ...]:
    """The default ones, as far as the network runs on them."""
    shape = image_shape(net)
    if len(shape) != 3:
        return ()
    return tuple(side for side in default_resolutions(min(shape[1:])) if _failure(net, side) is None)


def require_resolutions(net: SlimNet, resolutions: tuple[int, ...]) -> None:
    """InputError for a side on which the network does not run."""
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
