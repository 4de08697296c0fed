"""One width for all groups: every width that makes a network of its own, and the largest that a budget allows."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from netslim.choosing.choice import Choice
from netslim.choosing.task import Task
from netslim.ir.plan import Plan
from netslim.net.runtime import runtime
from netslim.net.subnet import keep_counts


def widths(plan: Plan, round_to: int = 1) -> list[float]:
    """Ratios in rising order, one for every choice of counts that a ratio can make; the last is 1."""
    edges = {0.0, 1.0}
    for size in {group.size for group in plan.groups}:
        edges |= {min(1.0, (k + 0.5) * round_to / size) for k in range(-(-size // round_to) + 1)}
    steps = sorted(edges)
    found: dict[tuple[int, ...], float] = {}
    for low, high in itertools.pairwise(steps):
        width = _short(low, high)
        found[keep_counts(plan, width, round_to)] = width
    return sorted({**found, keep_counts(plan, 1.0, round_to): 1.0}.values())


def _short(low: float, high: float) -> float:
    """The number between two others that takes the fewest digits."""
    middle = (low + high) / 2
    for digits in range(1, 16):
        near = round(middle, digits)
        if low < near < high:
            return near
    return middle


def largest(count: int, fits: Callable[[int], bool], hint: int | None = None) -> int:
    """The largest of `count` steps that fits, if the next one does not; -1 where not even the first does.

    hint: the step that it probably is.
    """
    low, high = -1, count
    for step in () if hint is None else (hint, hint + 1):
        if low < step < high:
            low, high = (step, high) if fits(step) else (low, step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def uniform(task: Task) -> Choice:
    """The largest width that fits; SubnetError where none does."""
    plan, limit = runtime(task.net).plan, task.limit
    steps = widths(plan, task.round_to)
    hint = None
    if task.budget.kind != "latency":
        prices = task.prices(task.depth)
        hint = largest(len(steps), lambda step: prices.total(keep_counts(plan, steps[step], task.round_to)) <= limit)
    return best(task, len(steps), lambda step: task.at(steps[step]), hint)


def best(task: Task, count: int, made: Callable[[int], Choice], hint: int | None = None) -> Choice:
    """The largest of `count` steps that fits; SubnetError where the first one, the smallest, does not.

    Times are no even steps, as kernels prefer some sizes, and are never quite the same: a step that is near enough
    below the budget is taken, and where none was met, further ones are looked at above the one that was found.
    """
    known: dict[int, Choice] = {}

    def at(step: int) -> Choice:
        known[step] = known[step] if step in known else made(step)
        return known[step]

    if task.fits(top := at(count - 1)):
        return top
    step = largest(count, lambda step: task.fits(at(step)), hint) if top.seconds is None else _timed(task, count, at)
    if step < 0:
        raise task.unmet(at(0))
    return at(step)


def _timed(task: Task, count: int, at: Callable[[int], Choice]) -> int:
    """The step that is near enough below a time, else the largest of those that were measured and fit; -1 for none."""
    times: dict[int, float] = {}

    def near() -> bool:
        return any(_NEAR * task.limit <= found <= task.limit for found in times.values())

    def fits(step: int) -> bool:
        if near():
            return False
        times[step] = task.spent(at(step))
        return times[step] <= task.limit

    found = largest(count, fits)
    above = min((step for step, time in times.items() if time > _FAR * task.limit and step > found), default=count - 1)
    for i in range(1, _FURTHER + 1):
        if found >= 0:
            fits(found + (above - found) * i // (_FURTHER + 1))
    return max((step for step, time in times.items() if time <= task.limit), key=times.__getitem__, default=-1)


_NEAR, _FAR = 0.95, 1.25  # of a time
_FURTHER = 8
