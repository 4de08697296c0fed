"""Widths of each group: the channels that are worth least for what they cost go first.

The worth of a channel is its importance, times the square of (channels of its group) / (those that are left): what
becomes scarce becomes dear, so that no layer is emptied (the first power would only make up for the neighbours, whose
channels cost less with every one that goes). Importance that is no more than a share of its group (all but Taylor's) is
first multiplied by what the group costs: without knowing better, a group is taken to be worth its price, so that equal
importance means equal widths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netslim.choosing.price import Prices
from netslim.ir.plan import Plan

_STEPS = 32  # in which a group is thinned out, where the grid is fine enough

Counts = tuple[int, ...]


@dataclass(frozen=True)
class Worth:
    """What the channels of each group are worth, added up in the order in which they are kept."""

    sums: tuple[tuple[float, ...], ...]
    absolute: bool

    def between(self, group: int, low: int, high: int) -> float:
        return self.sums[group][high] - self.sums[group][low]


def worth(
    plan: Plan, importance: Mapping[str, Tensor], orders: Mapping[str, Sequence[int]] | None, absolute: bool
) -> Worth:
    """orders: in which the channels are kept; None: as they are numbered."""
    sums = []
    for group in plan.groups:
        values = importance[group.name]
        if orders is not None:
            values = values[torch.as_tensor(orders[group.name])]
        sums.append((0.0, *values.cumsum(0).tolist()))
    return Worth(tuple(sums), absolute)


class Thinning:
    """Counts that shrink and grow, step by step, by what the channels are worth and cost."""

    def __init__(self, plan: Plan, worth: Worth, prices: Prices, round_to: int = 1) -> None:
        self.sizes = tuple(group.size for group in plan.groups)
        self.worth, self.prices, self.round_to = worth, prices, round_to
        self.least = tuple(min(n, round_to) for n in self.sizes)
        self.chunks = tuple(max(round_to, n // _STEPS // round_to * round_to) for n in self.sizes)
        self.scale = tuple(self._price_of(i) for i in range(len(self.sizes)))

    def _price_of(self, group: int) -> float:
        """Of a channel, at full width, where importance is no more than a share."""
        if self.worth.absolute or self.least[group] == self.sizes[group]:
            return 1.0
        other = self.smaller(group, self.sizes[group])
        return self.prices.saving(self.sizes, group, other) / (self.sizes[group] - other)

    # -- the grid

    def smaller(self, group: int, kept: int, step: int | None = None) -> int:
        """The next count below; `step`: by so many channels."""
        grid, step = self.round_to, self.chunks[group] if step is None else step
        return max(self.least[group], math.ceil((kept - step) / grid) * grid)

    def larger(self, group: int, kept: int) -> int:
        """The next count above, on the grid of `round_to`."""
        return min(self.sizes[group], (kept // self.round_to + 1) * self.round_to)

    # -- the steps

    def path(self, counts: Counts, limit: float, barred: frozenset[int] = frozenset()) -> list[Counts]:
        """From these counts down to the first ones within the limit, or as low as it goes; groups may be barred."""
        total, found = self.prices.total(counts), [counts]
        ratios = {g: self._ratio(counts, g) for g in range(len(counts)) if g not in barred}
        while total > limit and ratios:
            group = min(ratios, key=ratios.__getitem__)
            if ratios[group] == math.inf:
                break
            other = self.smaller(group, counts[group])
            total -= self.prices.saving(counts, group, other)
            counts = (*counts[:group], other, *counts[group + 1 :])
            found.append(counts)
            for near in self.prices.beside[group] & ratios.keys():
                ratios[near] = self._ratio(counts, near)
        return found

    def filled(self, counts: Counts, limit: float, barred: frozenset[int] = frozenset()) -> Counts:
        """What is left of the limit is spent, until no further step of any group fits."""
        left = limit - self.prices.total(counts)
        while True:
            best: tuple[float, int, int, float] | None = None
            for group, kept in enumerate(counts):
                other = self.larger(group, kept)
                if group in barred or other == kept:
                    continue
                cost = -self.prices.saving(counts, group, other)
                ratio = self._worth(group, kept, other) / cost if cost > 0 else math.inf
                if cost <= left and (best is None or ratio > best[0]):
                    best = ratio, group, other, cost
            if best is None:
                return counts
            _, group, other, cost = best
            counts, left = (*counts[:group], other, *counts[group + 1 :]), left - cost

    def settled(self, counts: Counts, limit: float, barred: frozenset[int] = frozenset()) -> Counts:
        """The counts nearest to these that keep the limit and use it up; barred groups stay as they are."""
        return self.filled(self.path(counts, limit, barred)[-1], limit, barred)

    def _ratio(self, counts: Counts, group: int) -> float:
        """What the next channels to go are worth, for what they cost; infinite where nothing can go or is saved."""
        kept = counts[group]
        other = self.smaller(group, kept)
        saved = self.prices.saving(counts, group, other) if other < kept else 0.0
        return self._worth(group, other, kept) / saved if saved > 0 else math.inf

    def _worth(self, group: int, low: int, high: int) -> float:
        return self.worth.between(group, low, high) * self.scale[group] * (self.sizes[group] / high) ** 2
