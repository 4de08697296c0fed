"""The network that a budget allows keeps it, and the next larger one does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from torch import nn

import netslim
from netslim import cost
from netslim.choosing.budget import Budget, parsed
from netslim.choosing.price import flop_prices, param_prices
from netslim.choosing.uniform import largest, widths
from netslim.cost import Count
from netslim.errors import InputError, SubnetError
from netslim.ir.inputs import Inputs
from netslim.net.subnet import keep_counts
from tests.properties.networks import build, networks
from tests.properties.steps import Network

from .nets import IMAGES, NETS, Grouped, Heads, Joined, Residual, built

few = settings(
    max_examples=8,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)


def converted(network: Network) -> netslim.SlimNet:
    net = netslim.convert(build(network), torch.zeros(network.image), prove=False)
    assume(net.groups)
    return net


def counted(net: netslim.SlimNet, counts: tuple[int, ...], depth: dict[str, bool] | None = None) -> Count:
    return cost.count(net, {g.name: k for g, k in zip(net.groups, counts, strict=True)}, depth)


def drawn(net: netslim.SlimNet, rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.randint(1, group.size) for group in net.groups)


@few
@given(networks(), st.integers(0, 99))
def test_prices_are_near_what_is_counted(network: Network, seed: int) -> None:
    """Exact for parameters, and for FLOPs but where one axis is cut up in several ways."""
    net = converted(network)
    rng = random.Random(seed)
    counts, depth = drawn(net, rng), {block.name: rng.random() < 0.5 for block in net.blocks}
    found = counted(net, counts, depth)
    assert param_prices(net, depth).total(counts) == pytest.approx(found.params)
    assert flop_prices(net, depth).total(counts) == pytest.approx(found.flops, rel=0.2)


@few
@given(networks(), st.sampled_from(["flops", "params"]), st.floats(0.2, 0.95), st.sampled_from([1, 2, 3]))
def test_one_width_is_the_largest_that_the_budget_allows(
    network: Network, kind: Any, share: float, round_to: int
) -> None:
    net = converted(network)
    budget = Budget(kind, share)
    full, steps = cost.count(net), widths(net.plan, round_to)
    try:
        found = netslim.choose(net, round_to=round_to, **{kind: share})  # type: ignore[arg-type]
    except SubnetError:
        assert budget.of(cost.count(net, steps[0], round_to=round_to)) > budget.limit(full)
        return
    assert found.cost == cost.count(net, found.width, round_to=round_to)
    assert budget.of(found.cost) <= budget.limit(full)
    above = steps[steps.index(found.width) + 1 :]  # type: ignore[arg-type]
    assert all(budget.of(cost.count(net, width, round_to=round_to)) > budget.limit(full) for width in above[:1])


@few
@given(networks(), st.sampled_from(["flops", "params"]), st.floats(0.3, 0.95), st.sampled_from([1, 2]))
def test_widths_by_group_use_the_budget_up(network: Network, kind: Any, share: float, round_to: int) -> None:
    net = converted(network)
    budget, full = Budget(kind, share), cost.count(net)
    least = {group.name: min(group.size, round_to) for group in net.groups}
    try:
        found = netslim.choose(net, search="greedy", round_to=round_to, **{kind: share})  # type: ignore[arg-type]
    except SubnetError:
        assert budget.of(cost.count(net, least)) > budget.limit(full)
        return
    assert isinstance(found.width, dict)
    assert budget.of(found.cost) <= budget.limit(full)
    counts = tuple(found.width[group.name] for group in net.groups)
    assume(flop_prices(net).total(counts) == pytest.approx(found.cost.flops))
    for group in net.groups:
        kept = found.width[group.name]
        assert kept == group.size or kept % round_to == 0
        more = {**found.width, group.name: min(group.size, (kept // round_to + 1) * round_to)}
        assert kept == group.size or budget.of(cost.count(net, more)) > budget.limit(full)


@pytest.mark.parametrize("round_to", [1, 3, 8])
@pytest.mark.parametrize("kind", [Joined, Grouped, Residual])
def test_the_widths_are_all_that_there_are(kind: type[nn.Module], round_to: int) -> None:
    plan = netslim.convert(built(kind), IMAGES, prove=False).plan
    steps = widths(plan, round_to)
    made = {keep_counts(plan, width, round_to) for width in steps}
    assert len(made) == len(steps)
    assert steps[-1] == 1.0
    assert made == {keep_counts(plan, i / 5000, round_to) for i in range(1, 5001)}


@pytest.mark.parametrize("hint", [None, 0, 3, 6, 7, 12])
@pytest.mark.parametrize("last", [-1, 0, 6, 11])
def test_the_largest_step_is_found(hint: int | None, last: int) -> None:
    assert largest(12, lambda step: step <= last, hint) == last


@pytest.mark.parametrize("kind", NETS.values())
def test_prices_are_exact_for_convolutions_of_every_kind_and_attention(kind: type[nn.Module]) -> None:
    net = netslim.convert(built(kind), IMAGES, prove=False)
    for seed in range(5):
        counts = drawn(net, random.Random(seed))
        assert flop_prices(net).total(counts) == pytest.approx(counted(net, counts).flops)


def test_prices_of_blocks_and_heads() -> None:
    net = netslim.convert(built(Residual), IMAGES, prove=False)
    full = tuple(group.size for group in net.groups)
    depth = {net.blocks[0].name: False}
    assert flop_prices(net, depth).total(full) == counted(net, full, depth).flops < flop_prices(net).total(full)
    heads = netslim.convert(built(Heads), IMAGES, prove=False)
    assert flop_prices(heads).total((2,)) == counted(heads, (2,)).flops


def test_what_costs_nothing_stays() -> None:
    """A group whose channels have no FLOPs is none that is thinned out for FLOPs."""

    class Free(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)
            self.scale, self.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.ones(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x)) + (self.scale * self.shift).sum()

    net = netslim.convert(built(Free), IMAGES, prove=False)
    found = netslim.choose(net, flops=0.5, search="greedy")
    assert isinstance(found.width, dict)
    assert found.width["scale"] == 6
    assert found.cost.flops <= 0.5 * found.full.flops


def timed(per_flop: float) -> Callable[[nn.Module, Inputs], float]:
    """A machine on which time goes with parameters."""
    return lambda model, _: per_flop * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("search", ["uniform", "greedy"])
def test_a_time_is_met_within_five_per_cent_or_as_near_as_there_is_a_step(search: str) -> None:
    net = netslim.convert(built(Residual), IMAGES, prove=False)
    clock = timed(1e-6)
    full = clock(net.extract(1.0), net.plan.inputs)
    for share in (0.3, 0.6, 0.9):
        found = netslim.choose(net, latency=share * full, search=search, seconds=clock)
        assert found.seconds == clock(found.extract(net), net.plan.inputs)
        assert found.seconds <= share * full
        if found.seconds < 0.95 * share * full:
            assert search == "uniform"  # which has few steps on so few channels
            steps = widths(net.plan)
            after = steps[steps.index(found.width) + 1]  # type: ignore[arg-type]
            assert clock(net.extract(after), net.plan.inputs) > share * full
    assert netslim.choose(net, latency=2 * full, seconds=clock, search=search).cost == cost.count(net)


def test_a_machine_that_prefers_some_widths() -> None:
    """Where time jumps up and down, the slowest network that was found within the budget is taken."""
    net = netslim.convert(built(Residual), IMAGES, prove=False)

    def jumping(model: nn.Module, _: Inputs) -> float:
        channels = next(model.parameters()).shape[0]
        return channels if channels % 4 == 0 else channels + 6

    found = netslim.choose(net, latency=13, seconds=jumping)
    assert found.seconds is not None
    assert 12 <= found.seconds <= 13


def test_time_is_measured_here() -> None:
    net = netslim.convert(built(Residual), IMAGES)
    found = netslim.choose(net, latency=60.0)
    assert found.width == 1.0
    assert found.seconds is not None
    assert 0 < found.seconds < 60


@pytest.mark.parametrize(
    ("kind", "text", "amount"),
    [
        ("flops", "0.5", 0.5),
        ("flops", "300M", 300e6),
        ("flops", "1.5g", 1.5e9),
        ("flops", "50%", 0.5),
        ("flops", "1e9", 1e9),
        ("params", "2M", 2e6),
        ("params", " 2 k ", 2000),
        ("params", ".25", 0.25),
        ("latency", "8ms", 0.008),
        ("latency", "500 us", 0.0005),
        ("latency", "0.01s", 0.01),
    ],
)
def test_texts(kind: Any, text: str, amount: float) -> None:
    assert parsed(kind, text).amount == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "0", "-1", "half", "nan", "inf", "150%", "1e999", "8ms", "0x10", "1,5"])
def test_texts_that_are_no_budget(text: str) -> None:
    with pytest.raises(InputError, match="is no budget of FLOPs; write a share up to 1, or a number"):
        parsed("flops", text)


@pytest.mark.parametrize("text", ["8", "0ms", "-1ms", "8 minutes", "ms"])
def test_times_have_a_unit(text: str) -> None:
    with pytest.raises(InputError, match="write a time: 8ms, 500us"):
        parsed("latency", text)


def test_a_budget_below_the_smallest_says_what_that_costs() -> None:
    net = netslim.convert(built(Residual), IMAGES, prove=False)
    least = cost.count(net, 0.001)
    for search in ("uniform", "greedy"):
        with pytest.raises(SubnetError, match=rf"below what the smallest sub-network takes, {least.flops:,} FLOPs"):
            netslim.choose(net, flops=2, search=search)
        with pytest.raises(SubnetError, match=rf"{least.params:,} parameters"):
            netslim.choose(net, params=0.001, search=search)
        with pytest.raises(SubnetError, match="the smallest sub-network takes, 1e"):
            netslim.choose(net, latency=1e-9, search=search, seconds=lambda *_: 1e3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "give one budget"),
        ({"flops": 0.5, "params": 0.5}, "give one budget"),
        ({"flops": 0}, "give a positive number"),
        ({"flops": -0.5}, "give a positive number"),
        ({"params": float("nan")}, "give a positive number"),
        ({"flops": "half"}, "give a positive number"),
        ({"flops": True}, "give a positive number"),
        ({"flops": 0.5, "search": "best"}, "take uniform or greedy"),
        ({"flops": 0.5, "score": lambda _: 0.0}, "a score is for search='greedy'"),
        ({"flops": 0.5, "evaluations": 0}, "must be a positive number"),
    ],
)
def test_arguments_that_are_none(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        netslim.choose(netslim.convert(built(Joined), IMAGES, prove=False), **arguments)


def test_names_that_the_network_has_not() -> None:
    net = netslim.convert(built(Residual), IMAGES, prove=False)
    for arguments in ({"ranking": {"stm": [0]}}, {"depth": {"body": False}}, {"round_to": 0}):
        with pytest.raises(SubnetError):
            netslim.choose(net, flops=0.5, **arguments)  # type: ignore[arg-type]
