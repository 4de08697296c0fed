"""Regularisers inside the network, placed at the residual blocks that netslim found: any network takes them.

    modules = placed(net, config)              # {block: module}, from TrainConfig.regularizers
    with net.through(modules): ...             # for the whole run; each does something only while training

Rates follow the linear rule of the papers: none at the first block, the full rate at the last. They act in every pass
of a GradAug step, since they are part of the network that is trained. Random numbers come from torch's global
generator, whose state a checkpoint holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.ops import drop_block2d, drop_block3d, stochastic_depth

from gradaug.config import DROPPERS
from netslim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradaug.config import TrainConfig
    from netslim import SlimNet


class Dropper(nn.Module):
    """Changes what a block adds to its shortcut, while training."""

    progress: float = 0.0
    """Share of the run that is done, in [0, 1]."""


class StochasticDepth(Dropper):
    """Drops the result for the whole batch ("batch", Huang et al. 2016) or image by image ("row", DropPath)."""

    def __init__(self, rate: float, mode: str) -> None:
        super().__init__()
        self.rate, self.mode = rate, mode

    def forward(self, x: Tensor) -> Tensor:
        return stochastic_depth(x, self.rate, self.mode, self.training)


class ShakeDrop(Dropper):
    """Scales the result of each image at random, differently in backward (Yamada et al. 2018, equation 6).

    With b = 1 with probability p = 1 - rate for the whole batch, alpha in [-1, 1] and beta in [0, 1] per image: forward
    (b + alpha - b alpha) / p, backward (b + beta - b beta) / p. The paper multiplies by p in evaluation instead; so the
    network that comes out of training is the plain one.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.rand((), device=x.device) >= self.rate
        alpha, beta = torch.rand(2, len(x), *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype).unbind()
        one, share = torch.ones_like(alpha), 1 - self.rate
        return _Shake.apply(x, torch.where(keep, one, 2 * alpha - 1) / share, torch.where(keep, one, beta) / share)


class _Shake(torch.autograd.Function):
    """One factor in forward, another in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor, gradient_factor: Tensor) -> Tensor:
        ctx.save_for_backward(gradient_factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None, None


class DropBlock(Dropper):
    """Drops squares of the feature map, more of them as the run goes on (Ghiasi et al. 2018)."""

    def __init__(self, rate: float, side: int) -> None:
        super().__init__()
        self.rate, self.side = rate, side

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim not in (4, 5):
            return x
        side = min(self.side, *x.shape[2:])
        side -= side % 2 == 0  # torchvision's squares have a middle
        drop = drop_block2d if x.ndim == 4 else drop_block3d
        return drop(x, self.rate * self.progress, side, training=self.training)


def placed(net: SlimNet, config: TrainConfig) -> dict[str, nn.Module]:
    """A module for every block, as ``config.regularizers`` asks; several at one block follow each other.

    Stochastic depth, DropPath and ShakeDrop at all blocks; DropBlock at those of the last two stages that feature maps
    go through. InputError when the network has no blocks.
    """
    wanted = [name for name in config.regularizers if name in DROPPERS]
    if wanted and not net.blocks:
        raise InputError(f"{wanted[0]} acts on residual blocks, but none were found in this network; leave it out")
    last = sorted({block.stage for block in net.blocks})[-2:]
    found: dict[str, nn.Module] = {}
    for i, block in enumerate(net.blocks):
        rate = config.drop_rate * (i + 1) / len(net.blocks)
        modules = [_made(name, rate, config) for name in wanted if name != "dropblock" or block.stage in last]
        if modules:
            found[block.name] = nn.Sequential(*modules)
    return found


def _made(name: str, rate: float, config: TrainConfig) -> Dropper:
    if name == "dropblock":
        return DropBlock(config.dropblock_rate, config.dropblock_size)
    if name == "shakedrop":
        return ShakeDrop(rate)
    return StochasticDepth(rate, "batch" if name == "stochastic-depth" else "row")


def set_progress(modules: Iterable[nn.Module], share: float) -> None:
    """Tells the droppers how much of the run is done, in [0, 1]."""
    for module in modules:
        for dropper in module.modules():
            if isinstance(dropper, Dropper):
                dropper.progress = share
