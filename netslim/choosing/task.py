"""Sub-networks that a budget may choose, counted and measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

from netslim import cost
from netslim.choosing.budget import Budget
from netslim.choosing.choice import Choice
from netslim.choosing.greedy import Counts
from netslim.choosing.latency import Seconds
from netslim.choosing.price import Prices, flop_prices, param_prices
from netslim.cost import Count
from netslim.errors import SubnetError
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import Ranking, Width


@dataclass(frozen=True, eq=False)
class Task:
    """The budget, and what every sub-network of the search has in common."""

    net: SlimNet
    budget: Budget
    ranking: Ranking | None
    depth: Mapping[str, bool]
    round_to: int
    seconds: Seconds
    full: Count

    @property
    def limit(self) -> float:
        return self.budget.limit(self.full)

    def at(self, width: Width, depth: Mapping[str, bool] | None = None) -> Choice:
        """A candidate, counted and measured."""
        depth = self.depth if depth is None else depth
        counted = cost.count(self.net, width, depth, round_to=self.round_to)
        made = Choice(width, depth, self.round_to, self.ranking, self.budget, counted, self.full)
        return replace(made, seconds=self.time(made)) if self.budget.kind == "latency" else made

    def of(self, counts: Counts, depth: Mapping[str, bool] | None = None) -> Choice:
        return self.at({g.name: k for g, k in zip(runtime(self.net).plan.groups, counts, strict=True)}, depth)

    def time(self, made: Choice) -> float:
        return self.seconds(copy.deepcopy(made.extract(self.net)), runtime(self.net).plan.inputs)

    def spent(self, made: Choice) -> float:
        """What a candidate takes of what the budget is about."""
        return self.budget.of(made.cost) if made.seconds is None else made.seconds

    def fits(self, made: Choice) -> bool:
        return self.spent(made) <= self.limit

    def prices(self, depth: Mapping[str, bool]) -> Prices:
        """Of what the budget is about; time is taken to go with FLOPs."""
        return (param_prices if self.budget.kind == "params" else flop_prices)(self.net, depth)

    def unmet(self, smallest: Choice) -> SubnetError:
        least, said = self.spent(smallest), self.budget.said
        return SubnetError(
            f"the budget of {said(self.limit)} is below what the smallest sub-network takes, {said(least)}: give at "
            f"least that{' (blocks can be skipped too)' if runtime(self.net).plan.blocks else ''}."
        )


def skipped(depth: Mapping[str, bool]) -> tuple[str, ...]:
    """Names of the blocks that do not run."""
    return tuple(sorted(name for name, runs in depth.items() if not runs))
