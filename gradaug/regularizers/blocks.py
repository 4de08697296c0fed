"""Regularisers that drop or shake residual branches, on any converted network: the blocks are those netslim found.

    droppers = placed(net, TrainConfig(regularizers=("dropblock", "shakedrop")))    # {block: module}
    with net.through(droppers):                                                     # open for the whole run
        for step in range(steps):
            set_progress(droppers, step / steps)
            ...

Each is a module without parameters between a block's body and its sum. It acts in training mode alone, in the passes
of the full network and of the sub-networks alike: like dropout it is a part of the model that is trained, and the
target of a sub-network is what that model said. In evaluation mode every one is the identity, so the trained network is
complete without it. A block that a sub-network skips is not dropped besides. Draws come from torch's global generator
of the images' device.

The chance to drop a block rises linearly with depth: `drop_rate` * l / L for block l of L (Huang et al. 2016, section
3). DropBlock sits on the blocks of the two last sizes of feature maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth, drop_block2d, drop_block3d

from gradaug.config.settings import DROPPERS, flag
from gradaug.inputs import blank_images, image_shape
from gradaug.scopes import evaluating
from netslim.errors import InputError

if TYPE_CHECKING:
    from gradaug.config.settings import TrainConfig
    from netslim import SlimNet

Placing = Callable[["SlimNet", "TrainConfig"], dict[str, nn.Module]]
"""What puts a dropper into a network: modules by the name of their block."""


def placed(net: SlimNet, config: TrainConfig) -> dict[str, nn.Module]:
    """The droppers of the settings by the name of their block, for `SlimNet.through`; several at one block in a row.

    Raises InputError where there are no blocks, or no feature maps for DropBlock.
    """
    chosen = [name for name in DROPPERS if name in config.regularizers]
    blocks = [block.name for block in net.blocks]
    if chosen and not blocks:
        raise InputError(
            f"{flag('regularizers')} {','.join(chosen)} needs residual blocks, but none were found in this network; "
            "leave it out"
        )
    at: dict[str, list[nn.Module]] = {name: [] for name in blocks}
    for name in chosen:
        for block, module in IMPLEMENTED[name](net, config).items():
            at[block].append(module)
    return {name: made[0] if len(made) == 1 else nn.Sequential(*made) for name, made in at.items() if made}


def set_progress(droppers: Mapping[str, nn.Module], share: float) -> None:
    """Tell the droppers that have a schedule which share of the run is done, in [0, 1]."""
    for module in _every(droppers.values()):
        if isinstance(module, DropBlock):
            module.progress = share


def drop_rates(count: int, last: float) -> list[float]:
    """The chances to drop each of `count` blocks: linear, from last / count to last (Huang et al. 2016)."""
    return [last * (i + 1) / count for i in range(count)]


def _at_every_block(make: Callable[[float], nn.Module]) -> Placing:
    """A dropper behind each block, made for the block's own rate."""

    def place(net: SlimNet, config: TrainConfig) -> dict[str, nn.Module]:
        blocks = [block.name for block in net.blocks]
        rates = drop_rates(len(blocks), config.drop_rate)
        return {block: make(rate) for block, rate in zip(blocks, rates, strict=True)}

    return place


def _at_last_maps(net: SlimNet, config: TrainConfig) -> dict[str, nn.Module]:
    maps = _last_maps(net).items()
    return {block: DropBlock(config.dropblock_rate, config.dropblock_size, channels) for block, channels in maps}


def _every(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    return (inner for module in modules for inner in module.modules())


# ------------------------------------------------------------------------------------------------------------ DropBlock


class DropBlock(nn.Module):
    """Zeroes squares (cubes) of feature maps, a different set in each channel, and scales up the rest.

    Ghiasi, Lin, Le, "DropBlock", NeurIPS 2018. The share that is dropped grows linearly over the run, from 0 to `rate`
    at `progress` 1. A square's side is `size`, or the largest odd number that the map allows. The paper also puts it
    behind the convolutions inside a body and on the shortcut.

    channels: the dim of the channels; maps are 2- or 3-dimensional.
    """

    def __init__(self, rate: float, size: int, channels: int = 1) -> None:
        super().__init__()
        self.rate, self.size, self.channels = rate, size, channels
        self.progress = 1.0

    @torch.compiler.disable  # its rate is a new number at every step, for each of which it would be compiled again
    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) or (N, C, D, H, W), with the channels at their dim."""
        rate = self.rate * self.progress
        if not self.training or rate == 0:
            return x
        # The mask alone is torchvision's, in float32: it counts elements, and a half cannot count beyond 65504.
        ones = x.new_ones((), dtype=torch.float32).expand_as(x.movedim(self.channels, 1))
        side = min(self.size, *ones.shape[2:])
        mask = (drop_block2d if ones.ndim == 4 else drop_block3d)(ones, rate, side - 1 + side % 2)
        return x * mask.movedim(1, self.channels).to(x.dtype)

    def extra_repr(self) -> str:
        return f"rate={self.rate}, size={self.size}"


def _last_maps(net: SlimNet) -> dict[str, int]:
    """The blocks whose results are feature maps of the last two sizes, and the dim of their channels."""
    whole = _shapes(net, 1.0)
    narrow = _shapes(net, 0.5)
    maps: dict[str, tuple[int, tuple[int, ...]]] = {}
    for name, shape in whole.items():
        if len(shape) in (4, 5):
            # The dim that a narrow network has less of; the usual one where no channels of this block can go.
            channels = next((dim for dim, n in enumerate(shape) if n != narrow[name][dim]), 1)
            size = tuple(n for dim, n in enumerate(shape) if dim not in (0, channels))
            if _of_one_shape(size, image_shape(net)[1:]):
                maps[name] = channels, size
    if not maps:
        raise InputError(
            f"{flag('regularizers')} dropblock needs residual blocks that give feature maps (N, C, H, W), and this "
            "network has none; leave it out"
        )
    last = list(dict.fromkeys(size for _, size in maps.values()))[-2:]
    return {name: channels for name, (channels, size) in maps.items() if size in last}


def _of_one_shape(size: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether sides are the image's on a smaller scale, up to a pixel; windows and their tokens are not."""
    if len(size) != len(image):
        return False
    pairs = list(zip(size, image, strict=True))[-2:]
    return max((n - 1) / whole for n, whole in pairs) <= min((n + 1) / whole for n, whole in pairs)


@torch.no_grad()
def _shapes(net: SlimNet, width: float) -> dict[str, tuple[int, ...]]:
    """The shape of each block's result for two images, in the order in which the blocks run."""
    shapes: dict[str, tuple[int, ...]] = {}

    def recorder(name: str) -> Any:
        def record(x: Tensor) -> Tensor:
            shapes[name] = tuple(x.shape)
            return x

        return record

    recorders = {block.name: recorder(block.name) for block in net.blocks}
    with evaluating(net), net.through(recorders), net.sub(width):
        net(blank_images(net))
    return shapes


# ------------------------------------------------------------------------------------------------------------ ShakeDrop


class ShakeDrop(nn.Module):
    """Multiplies the results of a body by one random number forward and by another one backward.

    Yamada, Iwamura, Akiba, Kise, "ShakeDrop regularization for deep residual learning", 2018 (arXiv 1802.02375):
    forward b + alpha - b alpha, backward b + beta - b beta, with b = 1 at the chance 1 - `rate`, alpha uniform in
    [-1, 1] and beta uniform in [0, 1]. b is drawn for the batch, alpha and beta for each image and all its elements
    (the paper's PyramidNet experiments draw them for each element).
    The paper evaluates with the expectation 1 - `rate` of the forward factor. `inverted` divides by it in training
    instead, as dropout does, so that evaluation is the identity: the same function with the body's result in other
    units.
    """

    def __init__(self, rate: float, inverted: bool = False) -> None:
        super().__init__()
        self.rate, self.inverted = rate, inverted

    def forward(self, x: Tensor) -> Tensor:
        """Results of a body (N, ...)."""
        kept = 1 - self.rate
        if not self.training:
            return x if self.inverted else x * kept
        alpha, beta = torch.rand((2, len(x)) + (1,) * (x.ndim - 1), device=x.device)
        b = torch.rand((), device=x.device) < kept
        forward, backward = shake_factors(b, 2 * alpha - 1, beta)
        scale = kept if self.inverted else 1.0
        return _Shake.apply(x, (forward / scale).to(x.dtype), (backward / scale).to(x.dtype))

    def extra_repr(self) -> str:
        return f"rate={self.rate}, inverted={self.inverted}"


def shake_factors(b: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """ShakeDrop's forward and backward factors b + alpha - b alpha and b + beta - b beta: 1 where b, else the other."""
    return torch.where(b, 1.0, alpha), torch.where(b, 1.0, beta)


class _Shake(torch.autograd.Function):
    """x times a factor, and its gradient times another one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
        ctx.save_for_backward(backward)
        return x * forward

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (factor,) = ctx.saved_tensors
        return grads[0] * factor, None, None


IMPLEMENTED: dict[str, Placing] = {
    "dropblock": _at_last_maps,
    "stochastic-depth": _at_every_block(lambda rate: StochasticDepth(rate, "batch")),
    "droppath": _at_every_block(lambda rate: StochasticDepth(rate, "row")),
    "shakedrop": _at_every_block(lambda rate: ShakeDrop(rate, inverted=True)),
}
"""What each name in config.DROPPERS is."""
