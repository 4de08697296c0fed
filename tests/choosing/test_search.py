"""Widths by group follow importance and cost; a score improves on them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import netslim
from netslim import cost
from netslim.choosing.ranking import ordered

from .nets import IMAGES, Residual, built


@pytest.fixture(scope="module")
def net() -> netslim.SlimNet:
    return netslim.convert(built(Residual), IMAGES, prove=False)


def test_where_all_channels_are_alike_all_widths_are(net: netslim.SlimNet) -> None:
    alike = ordered("l1", {group.name: torch.ones(group.size).double() for group in net.groups})
    found = netslim.choose(net, flops=0.5, search="greedy", importance=alike)
    assert isinstance(found.width, dict)
    shares = [found.width[group.name] / group.size for group in net.groups]
    assert max(shares) - min(shares) < 0.15


def test_a_group_that_is_worth_more_stays_wider(net: netslim.SlimNet) -> None:
    dear = {
        "bodies.0.0": torch.full((12,), 5.0).double(),
        "bodies.1.0": torch.ones(12).double(),
        "stem": torch.ones(16).double(),
    }
    found = netslim.choose(net, flops=0.2, search="greedy", importance=ordered("taylor", dear)).width
    assert isinstance(found, dict)
    assert found["bodies.0.0"] > found["bodies.1.0"]


def test_channels_that_are_worth_nothing_go_first(net: netslim.SlimNet) -> None:
    values = {group.name: torch.ones(group.size).double() for group in net.groups}
    values["stem"][[1, 4, 7, 9]] = 0
    ranking = ordered("taylor", values)
    budget = cost.count(net, {"stem": 12}).flops
    found = netslim.choose(net, flops=budget, search="greedy", ranking=ranking)
    assert found.width == {"stem": 12, "bodies.0.0": 12, "bodies.1.0": 12}
    assert set(ranking["stem"][:12]) == set(range(16)) - {1, 4, 7, 9}


def test_the_same_seed_gives_the_same_network(net: netslim.SlimNet) -> None:
    def score(model: nn.Module) -> float:
        return -abs(next(model.parameters()).shape[0] - 5.0)

    first, again = (
        netslim.choose(net, flops=0.4, search="greedy", score=score, evaluations=12, seed=3) for _ in range(2)
    )
    assert (first.width, first.depth, first.score) == (again.width, again.depth, again.score)


def test_a_score_is_improved_within_the_budget_and_the_evaluations(net: netslim.SlimNet) -> None:
    """A narrow stem is what this score wants, and neither search begins with one."""
    seen: list[int] = []

    def score(model: nn.Module) -> float:
        seen.append(next(model.parameters()).shape[0])
        return -float(seen[-1])

    found = netslim.choose(net, flops=0.5, search="greedy", score=score, evaluations=15)
    assert len(seen) == found.tried <= 15
    assert found.score == -min(seen) > -min(seen[:2])
    assert found.cost.flops <= 0.5 * found.full.flops
    assert next(found.extract(net).parameters()).shape[0] == min(seen)


def test_blocks_are_left_out_where_that_scores(net: netslim.SlimNet) -> None:
    def score(model: nn.Module) -> float:
        return -float(len(list(model.parameters())))

    found = netslim.choose(net, flops=0.5, search="greedy", score=score, evaluations=30)
    assert not all(found.depth.values())
    assert found.cost == cost.count(net, found.width, found.depth)
    with net.sub(found.width, found.depth):
        expected = net.eval()(IMAGES)
    torch.testing.assert_close(found.extract(net)(IMAGES), expected)


def test_a_block_that_is_left_out_in_any_case_stays_out(net: netslim.SlimNet) -> None:
    gone = {net.blocks[0].name: False}
    for arguments in ({}, {"search": "greedy"}, {"search": "greedy", "score": lambda m: len(list(m.parameters()))}):
        found = netslim.choose(net, flops=0.3, depth=gone, **arguments)  # type: ignore[arg-type]
        assert found.depth[net.blocks[0].name] is False
        assert found.cost.flops <= 0.3 * found.full.flops


def test_scores_that_are_no_numbers_are_worse_than_any(net: netslim.SlimNet) -> None:
    scores = iter([math.nan, 0.5, *[math.nan] * 20])
    found = netslim.choose(net, flops=0.5, search="greedy", score=lambda _: next(scores), evaluations=6)
    assert found.score == 0.5


def test_the_network_stays_as_it_is(net: netslim.SlimNet) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}

    def spoiling(model: nn.Module) -> float:
        for tensor in [*model.parameters(), *model.buffers()]:
            torch.nn.init.zeros_(tensor)
        return 0.0

    netslim.choose(net, flops=0.9, search="greedy", score=spoiling, evaluations=4)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
