"""What was chosen: widths, blocks, channels, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from netslim.choosing.budget import Budget
from netslim.cost import Count
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import Ranking, Width


@dataclass(frozen=True, eq=False)
class Choice:
    """A sub-network that meets a budget: `net.extract(choice.width, choice.depth, ranking=choice.ranking)`.

    width: a ratio, or {group: count}; depth: {block: False} for what is skipped; cost, full: of one image, the
    sub-network's and the full network's; seconds: the measured time, where the budget is one; score: the best that a
    search found, among `tried` sub-networks.
    """

    width: Width
    depth: Mapping[str, bool]
    round_to: int
    ranking: Ranking | None
    budget: Budget
    cost: Count
    full: Count
    seconds: float | None = None
    score: float | None = None
    tried: int = 0

    def extract(self, net: SlimNet) -> nn.Module:
        """The plain network."""
        return net.extract(self.width, self.depth, round_to=self.round_to, ranking=self.ranking)
