"""Stochastic depth and DropPath: residual branches left out of the sum, the deeper the oftener.

The chance to drop a block rises linearly with depth: `drop_rate` * l / L for block l of L (Huang et al. 2016, section
3). The blocks are those that netslim found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn
from torchvision.ops import StochasticDepth

from gradaug.regularizers.hooks import Regularizer
from netslim.net.runtime import runtime

if TYPE_CHECKING:
    from netslim import SlimNet


class AtEveryBlock(Regularizer):
    """A module behind each block, made for the block's own rate."""

    needs_blocks = True

    def at_rate(self, rate: float) -> nn.Module:
        """What stands behind a block that is dropped at this chance."""
        raise NotImplementedError

    def on_blocks(self, net: SlimNet) -> dict[str, nn.Module]:
        blocks = runtime(net).plan.blocks
        rates = drop_rates(len(blocks), self.settings.drop_rate)
        return {block.name: self.at_rate(rate) for block, rate in zip(blocks, rates, strict=True)}


class DroppedBodies(AtEveryBlock):
    """Zeroes the results of bodies and scales up the rest."""

    at_once: ClassVar[str]
    """Whether the images of a "batch" share their draw, or each "row" has its own."""

    def at_rate(self, rate: float) -> nn.Module:
        return StochasticDepth(rate, self.at_once)


class DroppedBatches(DroppedBodies):
    """Stochastic depth: for a whole batch at once."""

    at_once = "batch"


class DroppedImages(DroppedBodies):
    """DropPath: for each image by itself."""

    at_once = "row"


def drop_rates(count: int, last: float) -> list[float]:
    """The chances to drop each of `count` blocks: linear, from last / count to last (Huang et al. 2016)."""
    return [last * (i + 1) / count for i in range(count)]
