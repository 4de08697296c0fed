"""One sub-network: how many channels each group keeps, worked out to what each tensor keeps."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from netslim.errors import SubnetError, did_you_mean
from netslim.ir.plan import Plan
from netslim.layouts.axes import Layout, Runs, count, from_positions, runs
from netslim.layouts.slices import Cut, Kept, make_cut
from netslim.net.tree import Table

Width = float | Mapping[str, float]
Ranking = Mapping[str, Sequence[int] | Tensor]


@dataclass(frozen=True)
class Point:
    """What a running network needs to know of its sub-network.

    sizes, cuts: the values of the program's `Size(i)`, and the cuts of the plan's `cuts`; layers: what each slim layer
    keeps; track: whether running statistics are updated; run: which blocks run. `layers` is None for the ordinary full
    network.
    """

    sizes: tuple[int, ...]
    cuts: tuple[Cut | None, ...]
    track: bool
    layers: Mapping[str, Kept] | None = None
    run: tuple[bool, ...] = ()


def keep_counts(plan: Plan, width: Width, round_to: int | None = None) -> tuple[int, ...]:
    """Channels kept per group.

    width: a ratio in (0, 1] for all groups, or {group name: count (whole number) or ratio (any other)} with every
    other group full: 1 keeps one channel, 1.0 all. Numbers may be Python's, numpy's or tensors of one element. A ratio
    keeps max(1, round(width * n)), or the nearest multiple of `round_to`, at least one multiple, at most n.
    Raises SubnetError for an unknown group and for a width that is no such number or out of range.
    """
    grid = 1 if round_to is None else _as_python(round_to)
    if not _is_whole(grid) or grid < 1:
        raise SubnetError(f"round_to is {round_to!r}; it must be a positive number of channels.")
    if not isinstance(width, Mapping):
        ratio = _as_python(width)
        if not _is_number(ratio):
            raise SubnetError(f"width {width!r} is no number: a width is a ratio in (0, 1], or a mapping of groups.")
        return tuple(_keep(group.name, group.size, float(ratio), grid) for group in plan.groups)
    names = {group.name for group in plan.groups}
    for name in width:
        if name not in names:
            raise SubnetError(f"this network has no group {name!r}{did_you_mean(name, names)}")
    return tuple(_keep(g.name, g.size, _as_python(width.get(g.name, g.size)), grid) for g in plan.groups)


def running(plan: Plan, depth: Mapping[str, bool] | None) -> tuple[bool, ...]:
    """Which blocks run, given {block: False} for those that do not.

    Raises SubnetError for an unknown block, and for a value that is neither true nor false (1 and 0 count as such).
    """
    names = [block.name for block in plan.blocks]
    given = {} if depth is None else depth
    if not isinstance(given, Mapping):
        raise SubnetError(f"depth is {given!r}; it must be {{block: False}} for the blocks that are skipped.")
    for name in given:
        if name not in names:
            raise SubnetError(f"this network has no block {name!r}{did_you_mean(name, names)}")
    return tuple(_truth(name, _as_python(given.get(name, True))) for name in names)


def _truth(name: str, value: object) -> bool:
    if value not in (True, False):
        raise SubnetError(f"block {name} is given {value!r}: False skips it, True runs it.")
    return bool(value)


def _as_python(value: object) -> object:
    """A number of numpy, or an array or tensor of one element, as Python's; anything else as it is."""
    tolist = getattr(value, "tolist", None)
    if not callable(tolist):
        return value
    plain = tolist()
    return plain[0] if isinstance(plain, list) and len(plain) == 1 else plain


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _keep(name: str, size: int, width: object, round_to: int) -> int:
    if not _is_number(width):
        raise SubnetError(f"group {name} is given {width!r}; give a count from 1 to {size} or a ratio in (0, 1].")
    if _is_whole(width):
        if not 1 <= width <= size:
            raise SubnetError(
                f"group {name} has {size} channels and cannot keep {width}; give a count from 1 to {size}."
            )
        return int(width)
    if not 0 < width <= 1:
        raise SubnetError(f"width {width} is out of range: a width is a ratio in (0, 1], such as 0.75.")
    if round_to == 1:
        return max(1, round(width * size))
    return min(size, max(round_to, round(width * size / round_to) * round_to))


def kept_channels(plan: Plan, counts: Sequence[int], ranking: Ranking | None = None) -> tuple[Runs, ...]:
    """The kept channels of each group: the first k, or the first k of a ranking. SubnetError for a bad ranking."""
    ranking = {} if ranking is None else ranking
    if not isinstance(ranking, Mapping):
        raise SubnetError(f"the ranking is a {type(ranking).__name__}; it must be {{group: order of its channels}}.")
    for name in ranking:
        if plan.group(name) is None:
            raise SubnetError(
                f"the ranking names {name!r}, which is no group{did_you_mean(name, [g.name for g in plan.groups])}"
            )
    chosen: list[Runs] = []
    for group, k in zip(plan.groups, counts, strict=True):
        given = ranking.get(group.name)
        if given is None:
            chosen.append(((0, k),))
            continue
        order = _order(given)
        if sorted(order) != list(range(group.size)):
            raise SubnetError(f"the ranking of {group.name} is no permutation of its {group.size} channels.")
        chosen.append(from_positions(sorted(order[:k])))
    return tuple(chosen)


def _order(given: Sequence[int] | Tensor) -> list[int]:
    """A list, an array or a tensor of channels as plain numbers; empty where it holds anything else."""
    tolist = getattr(given, "tolist", None)
    entries: object = tolist() if callable(tolist) else given
    plain = [_as_python(each) for each in entries] if isinstance(entries, Iterable) else []
    whole = [int(each) for each in plain if _is_whole(each)]
    return whole if len(whole) == len(plain) else []


class Resolver:
    """Works out points, and remembers those that were used last.

    layer_tensors: {path: {attribute: tensor name}}; tables: where each tensor of a layout is held.
    """

    def __init__(self, plan: Plan, layer_tensors: Mapping[str, Mapping[str, str]], tables: Mapping[str, Table]) -> None:
        self.plan, self.layer_tensors = plan, layer_tensors
        self._held = [(tables[name], name.rpartition(".")[2]) for name in plan.layouts]
        self._remembered = functools.lru_cache(_REMEMBERED)(self._work_out)

    def full(self) -> Point:
        return Point(tuple(at for _, at in self.plan.sizes), (None,) * len(self.plan.cuts), True, run=self.all_run)

    @property
    def all_run(self) -> tuple[bool, ...]:
        return (True,) * len(self.plan.blocks)

    def point(self, chosen: tuple[Runs, ...], track: bool, run: tuple[bool, ...] | None = None) -> Point:
        """The point at which each group keeps the channels `chosen`, and the blocks of `run` (all of them) run.

        Its cuts are on the devices that the network's tensors are on.
        """
        devices = tuple(table[name].device for table, name in self._held)
        return self._remembered(chosen, track, self.all_run if run is None else run, devices)

    def _work_out(
        self, chosen: tuple[Runs, ...], track: bool, run: tuple[bool, ...], devices: tuple[torch.device, ...]
    ) -> Point:
        sets = IndexSets(dict(enumerate(chosen)))
        layouts, ints = self.plan.layouts, self.plan.ints
        cuts = {
            name: make_cut(tuple(map(sets.partial, dims)), device)
            for (name, dims), device in zip(layouts.items(), devices, strict=True)
        }
        layers = {}
        for path, tensors in self.layer_tensors.items():
            kept = {attr: cuts[name] for attr, name in tensors.items() if cuts.get(name) is not None}
            numbers = {name: count(sets.of(layout)) for name, layout in ints.get(path, {}).items()}
            layers[path] = Kept(kept, numbers, track)  # type: ignore[arg-type]
        sizes = tuple(count(sets.of(layout), at) for layout, at in self.plan.sizes)
        return Point(sizes, tuple(cuts[name] for name in self.plan.cuts), track, layers, run)


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
