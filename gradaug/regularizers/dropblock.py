"""DropBlock (Ghiasi, Lin, Le, NeurIPS 2018), on the blocks of the two last sizes of feature maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.ops import drop_block2d, drop_block3d

from gradaug.config.settings import flag
from gradaug.inputs import blank_images, image_shape
from gradaug.regularizers.hooks import Regularizer
from gradaug.scopes import evaluating
from netslim.errors import InputError
from netslim.net.runtime import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from netslim import SlimNet


class AtLastMaps(Regularizer):
    """The rate rises to ``dropblock_rate`` over the run."""

    needs_blocks = True
    placed: tuple[DropBlock, ...] = ()

    def on_blocks(self, net: SlimNet) -> dict[str, nn.Module]:
        """Raises InputError where no block gives feature maps."""
        rate, size = self.settings.dropblock_rate, self.settings.dropblock_size
        modules = {block: DropBlock(rate, size, channels) for block, channels in _last_maps(net).items()}
        self.placed = (*self.placed, *modules.values())
        return dict(modules)

    def on_progress(self, share: float) -> None:
        for module in self.placed:
            module.progress = share


class DropBlock(nn.Module):
    """Zeroes squares (cubes) of feature maps, a different set in each channel, and scales up the rest.

    The share that is dropped grows linearly over the run, from 0 to `rate`
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

    def recorder(name: str) -> Callable[[Tensor], Tensor]:
        def record(x: Tensor) -> Tensor:
            shapes[name] = tuple(x.shape)
            return x

        return record

    recorders = {block.name: recorder(block.name) for block in runtime(net).plan.blocks}
    with evaluating(net), net.through(recorders), net.sub(width):
        net(blank_images(net))
    return shapes
