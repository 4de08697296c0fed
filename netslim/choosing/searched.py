"""Which sub-network meets a budget: one width for all groups, or widths of their own.

uniform   the largest width that the budget allows
greedy    the channels that are worth least for what they cost go, until the budget is met; what is left of it is spent.
          With a score: the better one of this and the uniform one, improved by local search. A move narrows a
          random group, skips a block or brings one back; the others grow or shrink to what the budget then allows; it
          is kept if the score is higher. Blocks are skipped in this way alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache

from netslim import cost
from netslim.choosing.budget import Budget
from netslim.choosing.choice import Choice
from netslim.choosing.greedy import Counts, Thinning, Worth, worth
from netslim.choosing.importance import CRITERIA
from netslim.choosing.latency import Seconds, torch_seconds
from netslim.choosing.local import Local, Score
from netslim.choosing.ranking import Ranked, rank
from netslim.choosing.task import Task, skipped
from netslim.choosing.uniform import best, uniform
from netslim.errors import InputError
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import Ranking, keep_counts, kept_channels, running

SEARCHES = ("uniform", "greedy")
EVALUATIONS = 32
_LEVELS = 256  # of FLOPs, from which one is found that takes a given time
_TRIES = 8  # to meet a budget with prices that are not quite right


def choose(
    net: SlimNet, *, flops: float | None = None, params: float | None = None, latency: float | None = None,
    search: str = "uniform", ranking: Ranking | None = None, importance: Ranked | None = None,
    depth: Mapping[str, bool] | None = None, round_to: int = 1, score: Score | None = None,
    evaluations: int = EVALUATIONS, seed: int = 0, seconds: Seconds = torch_seconds,
) -> Choice:  # fmt: skip
    """The sub-network for a budget; `net` is not changed.

    One of `flops` and `params` (up to 1 a share of the full network's, above a number) and `latency` (seconds for one
    image, as `seconds` measures it). search: "uniform" or "greedy" (see above). ranking: which channels are kept (the
    first ones). importance: what greedy search goes by: the ranking's own, else l1. depth: blocks that are skipped
    whatever is searched. round_to: counts are multiples of it. score: of plain networks, which greedy search extracts
    `evaluations` times at most, with moves drawn by `seed`.
    Raises InputError for arguments that are none, SubnetError for a budget below what the smallest sub-network takes.
    """
    given = {"flops": flops, "params": params, "latency": latency}
    budgets = [Budget(kind, amount) for kind, amount in given.items() if amount is not None]  # type: ignore[arg-type]
    if len(budgets) != 1:
        raise InputError("give one budget: flops, params or latency.")
    if search not in SEARCHES:
        raise InputError(f"{search!r} is no search: take {' or '.join(SEARCHES)}.")
    if score is not None and search == "uniform":
        raise InputError("a score is for search='greedy': there is one uniform width that meets a budget.")
    if evaluations < 1:
        raise InputError(f"evaluations is {evaluations}; it must be a positive number.")
    kept_channels(runtime(net).plan, keep_counts(runtime(net).plan, 1.0, round_to), ranking)
    task = Task(net, budgets[0], ranking, dict(depth or {}), round_to, seconds, cost.count(net))
    running(runtime(net).plan, depth)
    if search == "uniform":
        return uniform(task)
    return _greedy(task, _worth(net, ranking, importance), score, evaluations, seed)


def _worth(net: SlimNet, ranking: Ranking | None, importance: Ranked | None) -> Worth:
    found = importance or (ranking if isinstance(ranking, Ranked) else rank(net))
    known, plan = CRITERIA.get(found.by), runtime(net).plan
    orders = {g.name: list(range(g.size)) for g in plan.groups} | {
        name: [int(i) for i in order] for name, order in (ranking or {}).items()
    }
    return worth(plan, found.importance, orders, known is not None and known.absolute)


def _greedy(task: Task, worth: Worth, score: Score | None, evaluations: int, seed: int) -> Choice:
    plan = runtime(task.net).plan
    full = keep_counts(plan, 1.0)

    @cache
    def thinning(without: tuple[str, ...]) -> Thinning:
        return Thinning(plan, worth, task.prices(dict.fromkeys(without, False)), task.round_to)

    start = thinning(skipped(task.depth))
    if task.budget.kind == "latency":
        found = _in_time(task, start, full)
    else:
        found = _within(task, start, full)
    if score is None:
        return found
    return Local(task, thinning, score, random.Random(seed)).improved(found, evaluations)


def _in_time(task: Task, thinning: Thinning, full: Counts) -> Choice:
    """What greedy search comes to for a budget of FLOPs, the largest one whose network is quick enough."""
    path = thinning.path(full, 0.0)
    totals = [thinning.prices.total(counts) for counts in path]

    def made(level: int) -> Choice:
        limit = totals[-1] + (totals[0] - totals[-1]) * level / _LEVELS
        below = next(counts for counts, total in zip(path, totals, strict=True) if total <= limit or counts is path[-1])
        return task.of(thinning.filled(below, limit))

    return best(task, _LEVELS + 1, made)


def _within(task: Task, thinning: Thinning, full: Counts) -> Choice:
    """The counts that greedy search comes to; nearer to the least ones where prices said less than is counted."""
    aim = task.limit
    for _ in range(_TRIES):
        made = task.of(thinning.settled(full, aim))
        if task.fits(made):
            return made
        aim *= min(task.limit / task.spent(made), 1 - 1e-6)
    least = task.of(thinning.least)
    if task.fits(least):
        return least
    raise task.unmet(least)
