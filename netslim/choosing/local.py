"""Local search: from the best sub-network so far to one beside it, as long as the evaluations last."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from netslim.choosing.choice import Choice
from netslim.choosing.greedy import Counts, Thinning
from netslim.choosing.task import Task, skipped
from netslim.choosing.uniform import uniform
from netslim.net.runtime import runtime
from netslim.net.subnet import keep_counts

Score = Callable[[nn.Module], float]
"""How good a plain network is; the more the better."""


@dataclass(frozen=True, eq=False)
class Local:
    """Moves from the best network so far to one beside it."""

    task: Task
    thinning: Callable[[tuple[str, ...]], Thinning]
    score: Score
    rng: random.Random

    def improved(self, greedy: Choice, evaluations: int) -> Choice:
        """The best of at most so many networks, the greedy and the uniform one first."""
        seen: set[object] = set()
        best = self._better(None, greedy, seen)
        if evaluations > 1:
            best = self._better(best, uniform(self.task), seen)
        for _ in range(_MOVES * evaluations):
            if len(seen) >= evaluations:
                break
            if (moved := self._moved(best)) is not None:
                best = self._better(best, moved, seen)
        return replace(best, tried=len(seen))

    def _better(self, best: Choice | None, other: Choice, seen: set[object]) -> Choice:
        """The one with the higher score; one that was seen before, or does not fit, is not scored."""
        key = self._counts(other), skipped(other.depth)
        if best is not None and (key in seen or not self.task.fits(other)):
            return best
        seen.add(key)
        scored = replace(other, score=float(self.score(copy.deepcopy(other.extract(self.task.net)))))
        return scored if best is None or _value(scored) > _value(best) else best

    def _moved(self, choice: Choice) -> Choice | None:
        counts, without = self._counts(choice), skipped(choice.depth)
        plan = runtime(self.task.net).plan
        free = [block.name for block in plan.blocks if self.task.depth.get(block.name, True)]
        if free and self.rng.random() < _BLOCK_MOVES:
            name = self.rng.choice(free)
            without = tuple(sorted(set(without) ^ {name}))
            counts = self.thinning(without).settled(counts, self._limit(choice))
        else:
            thinning = self.thinning(without)
            able = [g for g, kept in enumerate(counts) if kept > thinning.least[g]]
            if not able:
                return None
            group = self.rng.choice(able)
            step = self.rng.randint(1, _BOLDEST) * thinning.chunks[group]
            counts = (*counts[:group], thinning.smaller(group, counts[group], step), *counts[group + 1 :])
            counts = thinning.settled(counts, self._limit(choice), frozenset({group}))
        return self.task.of(counts, {**self.task.depth, **dict.fromkeys(without, False)})

    def _limit(self, choice: Choice) -> float:
        """Of what the prices are about."""
        return self.task.limit if self.task.budget.kind != "latency" else choice.cost.flops

    def _counts(self, choice: Choice) -> Counts:
        return keep_counts(runtime(self.task.net).plan, choice.width, self.task.round_to)


def _value(choice: Choice) -> float:
    """A score to compare by; what is no number is worse than any."""
    return -math.inf if choice.score is None or math.isnan(choice.score) else choice.score


_MOVES = 4  # that are looked at for each evaluation: some were seen before or do not fit
_BOLDEST = 4  # chunks by which a move narrows a group
_BLOCK_MOVES = 0.25  # of all moves
