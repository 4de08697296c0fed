"""One sub-network: how many channels each group keeps, worked out to what each tensor keeps."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from netslim.axes import Layout, Runs, count, from_positions, runs
from netslim.errors import SubnetError
from netslim.kept import Cut, Kept, make_cut
from netslim.plan import Plan

Width = float | Mapping[str, float]
Ranking = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Point:
    """What a running network needs to know of its sub-network.

    sizes, kept: the values of the program's `Size(i)` and of its cut tensors; leaves: what each leaf module keeps;
    track: whether running statistics are updated; run: which blocks run. `leaves` is None for the ordinary full
    network.
    """

    sizes: tuple[int, ...]
    kept: tuple[Cut | None, ...]
    track: bool
    leaves: Mapping[str, Kept] | None = None
    run: tuple[bool, ...] = ()


def keep_counts(plan: Plan, width: Width, round_to: int | None = None) -> tuple[int, ...]:
    """Channels kept per group.

    width: a ratio in (0, 1] for all groups, or {group name: count (int) or ratio (float)} with every other group full.
    A ratio keeps max(1, round(width * n)), or the nearest multiple of `round_to`, at least one multiple, at most n.
    Raises SubnetError for an unknown group and for a width out of range.
    """
    round_to = 1 if round_to is None else round_to
    if round_to < 1:
        raise SubnetError(f"round_to is {round_to}; it must be a positive number of channels.")
    if not isinstance(width, Mapping):
        return tuple(_keep(group.name, group.size, float(width), round_to) for group in plan.groups)
    names = {group.name for group in plan.groups}
    for name in width:
        if name not in names:
            raise SubnetError(f"this network has no group {name!r}{near(name, names)}.")
    return tuple(_keep(g.name, g.size, width.get(g.name, g.size), round_to) for g in plan.groups)


def running(plan: Plan, depth: Mapping[str, bool] | None) -> tuple[bool, ...]:
    """Which blocks run, given {block: False} for those that do not. Raises SubnetError for an unknown block."""
    names = [block.name for block in plan.blocks]
    for name in depth or ():
        if name not in names:
            raise SubnetError(f"this network has no block {name!r}{near(name, names)}.")
    return tuple(bool((depth or {}).get(name, True)) for name in names)


def near(name: str, names: Iterable[str]) -> str:
    """'; did you mean ...?' with the nearest names, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=2, cutoff=0.5)
    return f"; the nearest are {', '.join(close)}" if close else ""


def _keep(name: str, size: int, width: float, round_to: int) -> int:
    if isinstance(width, int) and not isinstance(width, bool):
        if not 1 <= width <= size:
            raise SubnetError(
                f"group {name} has {size} channels and cannot keep {width}; give a count from 1 to {size}."
            )
        return width
    if not 0 < width <= 1:
        raise SubnetError(f"width {width} is out of range: a width is a ratio in (0, 1], such as 0.75.")
    if round_to == 1:
        return max(1, round(width * size))
    return min(size, max(round_to, round(width * size / round_to) * round_to))


def kept_channels(plan: Plan, counts: Sequence[int], ranking: Ranking | None = None) -> tuple[Runs, ...]:
    """The kept channels of each group: the first k, or the first k of a ranking. SubnetError for a bad ranking."""
    ranking = ranking or {}
    for name in ranking:
        if plan.group(name) is None:
            raise SubnetError(
                f"the ranking names {name!r}, which is no group{near(name, [g.name for g in plan.groups])}."
            )
    chosen = []
    for group, k in zip(plan.groups, counts, strict=True):
        order = ranking.get(group.name)
        if order is not None and sorted(order) != list(range(group.size)):
            raise SubnetError(f"the ranking of {group.name} is no permutation of its {group.size} channels.")
        chosen.append(((0, k),) if order is None else from_positions(sorted(int(i) for i in order[:k])))
    return tuple(chosen)


@dataclass
class Resolver:
    """Works out points, remembering the index set of every layout of the sub-network at hand."""

    plan: Plan
    leaf_tensors: Mapping[str, Mapping[str, str]]  # leaf path -> {attribute: tensor name}
    _cache: dict[Any, Point] = field(default_factory=dict)

    def full(self) -> Point:
        return Point(tuple(at for _, at in self.plan.sizes), (None,) * len(self.plan.cuts), True, run=self.all_run)

    @property
    def all_run(self) -> tuple[bool, ...]:
        return (True,) * len(self.plan.blocks)

    def point(self, chosen: tuple[Runs, ...], track: bool, run: tuple[bool, ...] | None = None) -> Point:
        """The point at which each group keeps the channels `chosen`, and the blocks of `run` (all of them) run."""
        run = self.all_run if run is None else run
        key = (chosen, track, run)
        if key not in self._cache:
            if len(self._cache) >= _REMEMBERED:
                self._cache.pop(next(iter(self._cache)))
            self._cache[key] = self._work_out(chosen, track, run)
        return self._cache[key]

    def _work_out(self, chosen: tuple[Runs, ...], track: bool, run: tuple[bool, ...]) -> Point:
        sets = IndexSets(dict(enumerate(chosen)))
        layouts, ints = self.plan.layouts, self.plan.ints
        cuts = {name: make_cut(tuple(map(sets.partial, dims))) for name, dims in layouts.items()}
        leaves = {}
        for path, tensors in self.leaf_tensors.items():
            kept = {attr: cuts[name] for attr, name in tensors.items() if cuts.get(name) is not None}
            numbers = {name: count(sets.of(layout)) for name, layout in ints.get(path, {}).items()}
            leaves[path] = Kept(kept, numbers, track)  # type: ignore[arg-type]
        sizes = tuple(count(sets.of(layout), at) for layout, at in self.plan.sizes)
        return Point(sizes, tuple(cuts[name] for name in self.plan.cuts), track, leaves, run)


_REMEMBERED = 64  # points; a training run on a width grid meets few, one on arbitrary widths meets each once


class IndexSets:
    """Index sets of layouts at one point, each worked out once."""

    def __init__(self, kept: Mapping[int, Runs]) -> None:
        self.kept = kept
        self._known: dict[int, tuple[Layout, Runs]] = {}  # by identity; the layout is held so that its id stays its own

    def of(self, layout: Layout) -> Runs:
        """The kept indices of a layout."""
        if id(layout) not in self._known:
            self._known[id(layout)] = layout, runs(layout, self.kept)
        return self._known[id(layout)][1]

    def partial(self, layout: Layout) -> Runs | None:
        """The kept indices, or None where all are kept."""
        found = self.of(layout)
        return None if count(found) == layout.size else found
