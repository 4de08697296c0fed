"""Random networks, converted and held to everything that netslim promises.

Each network is proved (and nothing frozen for the proof), gives the original's output bit by bit in both modes and on
another batch size, keeps the state_dict, extracts, survives the archive and trains at a random width and depth. The
networks are the same in every run; more of them, and other ones every time, with

    NETSLIM_EXAMPLES=5000 make properties

A failure prints the description of a small network that fails: `build(Network(...))` makes it. What was found that way
is in `found.py`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from torch import nn

import netslim
from netslim.ir.links import Came, Tie
from netslim.ir.plan import Plan, Slot
from netslim.ir.ties import Ties
from netslim.ir.why import between, why
from netslim.layouts.axes import Concat, Elastic, Layout, concat
from netslim.layouts.channels import NO_CHANNEL, channels
from netslim.net.runtime import runtime
from netslim.net.subnet import Point, Resolver

from .checks import elastic_channels, hold
from .found import FOUND
from .networks import build, networks
from .steps import Network, Step

MORE = int(os.environ.get("NETSLIM_EXAMPLES", "0"))


def drawn(examples: int) -> settings:
    """So many networks: the same ones every time, unless more were asked for."""
    quiet = list(HealthCheck)
    if MORE:
        return settings(max_examples=MORE, deadline=None, database=None, suppress_health_check=quiet)
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=quiet,
    )


@drawn(300)
@given(networks())
def test_any_network_converts_rightly(network: Network) -> None:
    net = hold(network)
    can, total = elastic_channels(net.plan)
    event(f"elastic: {10 * can // max(total, 1)}0 %")
    event(f"blocks: {min(len(net.blocks), 3)}")


@pytest.mark.parametrize("name", FOUND)
def test_what_was_wrong_once_is_right(name: str) -> None:
    hold(FOUND[name])


def test_most_channels_are_elastic() -> None:
    """Freezing everything would pass all other checks."""
    found: list[tuple[int, int]] = []

    @settings(drawn(80), max_examples=80, derandomize=True)
    @given(networks())
    def collect(network: Network) -> None:
        plan, _ = netslim.analyse(build(network), torch.zeros(network.image))
        found.append(elastic_channels(plan))

    collect()
    can, total = map(sum, zip(*found, strict=True))
    assert can / total > 0.8
    assert sum(can > 0 for can, _ in found) / len(found) > 0.9


@drawn(10)
@given(networks())
def test_every_two_places_of_a_group_are_tied_by_operators_and_no_others(network: Network) -> None:
    plan, _ = netslim.analyse(build(network), torch.zeros(network.image))
    tied_by_operators(plan)


def tied_by_operators(plan: Plan) -> None:
    for slot in dict.fromkeys(slot for group in plan.groups for slot in group.slots):
        for part in why(plan, slot.param, [slot]).parts:
            group = plan.group(part.group)
            others = {(chain.last.param, chain.last.dim) for chain in part.ties}
            assert others - {slot} == (set(group.slots) - {slot} if group else set())
            for chain in part.ties:
                assert chain.steps, str(chain)
                assert all(step.op and step.where for step in chain.steps), str(chain)
    for one, other in itertools.permutations(plan.groups, 2):
        pair = {one.slots[0], other.slots[0]}
        if not any(pair <= set(group.slots) for group in plan.groups):
            assert not between(plan, (one.name, other.name), one.slots[:1], other.slots[:1]).chains


@drawn(10)
@given(networks())
def test_every_link_of_a_chain_ties_the_same_channels(network: Network) -> None:
    plan, _ = netslim.analyse(build(network), torch.zeros(network.image))
    every_link_holds(plan)


def every_link_holds(plan: Plan) -> None:
    """Chains lead through dimensions that have the group, from one to the next by a tie of the cause that is told."""
    ties, links = plan.ties, plan.ties.links
    at = [indices(layout) for layout in ties.layouts]
    known = {(tie.whole, tie.part, tie.cause) for tie in ties.ties}
    for tie in (tie for tie in ties.ties if tie.part < len(at)):
        whole, part = at[tie.whole], at[tie.part]
        for i in range(len(whole)) if tie.step else range(tie.start, tie.start + len(part)):
            inside = i // tie.step % len(part) if tie.step else i - tie.start
            assert part[inside] <= whole[i], tie
    for origin, (node, leaf) in enumerate(links.leaves):
        if node < len(ties.places) and isinstance(leaf.layout, Elastic):
            came: Came = {}
            for state in links.walk(origin, came):
                before, cause = came[state] or (state, -1)
                (first, one), (second, other) = links.leaves[before], links.leaves[state]
                assert one.layout == other.layout == leaf.layout
                assert {(first, second, cause), (second, first, cause)} & known


def indices(layout: Layout) -> list[set[tuple[int, int]]]:
    """The channels of groups that stand at each index."""
    held: list[set[tuple[int, int]]] = [set() for _ in range(layout.size)]
    for group, found in channels(layout):
        for i, channel in enumerate(found.tolist()):
            held[i] |= {(group, channel)} if channel != NO_CHANNEL else set()
    return held


def test_a_tie_of_other_channels_is_seen() -> None:
    plan, _ = netslim.analyse(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1)), torch.zeros(1, 3, 8, 8))
    group, fixed = (plan.ties.numbers[slot] for slot in (Slot("0.weight", 0), Slot("1.weight", 0)))
    wrong = replace(plan.ties, ties=(*plan.ties.ties, Tie(fixed, group, 0, 0, 0)))
    assert wrong.links.broken == [wrong.ties[-1]]
    every_link_holds(plan)
    with pytest.raises(AssertionError):
        every_link_holds(replace(plan, ties=wrong))


def test_a_tie_that_is_lost_is_missed() -> None:
    plan, _ = netslim.analyse(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)), torch.zeros(1, 3, 8, 8))
    known = plan.ties
    lost = [
        replace(plan, ties=replace(known, ties=known.ties[:i] + known.ties[i + 1 :])) for i in range(len(known.ties))
    ]
    assert any(not chain.steps for plan in lost for chain in why(plan, "0.bias", [Slot("0.bias", 0)]).parts[0].ties)


# ----------------------------------------------------------------------------------------- the proof can fail


@drawn(30)
@given(networks())
def test_channels_cut_at_the_wrong_place_are_caught(network: Network) -> None:
    """One weight keeps its last channels instead of its first: as many, so that every shape is right."""
    net = netslim.convert(build(network), torch.zeros(network.image), prove=False)
    idle = netslim.verify(net).idle
    slot = next((s for g in net.groups if g.name not in idle for s in g.slots if _is_whole(net, s)), None)
    assume(slot is not None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resolver, "_work_out", _from_the_end(Resolver._work_out, slot, net))
        found = netslim.verify(net)
    assert not found.passed
    assert any(case.max_rel_diff < float("inf") for case in found.cases)  # it ran


def _is_whole(net: netslim.SlimNet, slot: Slot) -> bool:
    """Whether a dimension of a layer's weight is one group and nothing else."""
    layouts = net.plan.layouts[slot.param]
    path = slot.param.rpartition(".")[0]
    return path in runtime(net).layers and len(layouts) > 1 and slot.dim == 0 and isinstance(layouts[0], Elastic)


def _from_the_end(right: Callable[..., Point], slot: Slot, net: netslim.SlimNet) -> Callable[..., Point]:
    path, _, attribute = slot.param.rpartition(".")
    size = net.plan.layouts[slot.param][slot.dim].size

    def wrong(*args: Any) -> Point:
        point = right(*args)
        kept = point.layers[path]
        cut = tuple((0, size - part[2], part[2]) if part[0] == slot.dim else part for part in kept.tensors[attribute])
        layers = {**point.layers, path: replace(kept, tensors={**kept.tensors, attribute: cut})}
        return replace(point, layers=layers)

    return wrong


@drawn(15)
@given(networks())
def test_a_layout_with_its_parts_in_another_order_is_caught(network: Network) -> None:
    """The layer that reads a concatenation of 5 and 6 channels believes that it is one of 6 and 5."""
    joined = Step("branches", 6, 2, 0, (Step("conv", 5),))
    network = replace(network, steps=(*network.steps, joined, Step("conv", 8)))
    net = netslim.convert(build(network), torch.zeros(network.image), prove=False)
    name = f"steps.{len(network.steps) - 1}.0.weight"
    out, read, *kernel = net.plan.layouts[name]
    assume(isinstance(read, Concat) and [part.size for part in read.parts] == [5, 6])
    layouts = {**net.plan.layouts, name: (out, concat(*reversed(read.parts)), *kernel)}
    assert netslim.verify(net).passed
    runtime(net).rebuilt(replace(net.plan, layouts=layouts, ties=Ties()))  # which would not fit, and be refused
    assert not netslim.verify(net).passed
