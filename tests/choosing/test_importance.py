"""What a channel is worth is what is at all its places, wherever reshapes, concatenations and groups put it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netslim
from netslim.choosing.importance import CRITERIA
from netslim.choosing.scales import scales
from netslim.errors import InputError
from netslim.layouts.axes import Const, Elastic, Layout, concat, positions, product, runs
from netslim.layouts.channels import by_channel, channels

from .nets import IMAGES, NETS, Flat, Joined, Residual, built

NONE = -1
Places = dict[tuple[str, int], list[int]]
"""The channel at each index of a dimension, by hand."""

PLACES: dict[str, dict[str, Places]] = {
    "Joined": {
        "a": {
            ("a.weight", 0): [0, 1, 2, 3],
            ("a.bias", 0): [0, 1, 2, 3],
            ("head.weight", 1): [0, 1, 2, 3, *[NONE] * 6, 0, 1, 2, 3],
        },
        "b": {
            ("b.weight", 0): list(range(6)),
            ("b.bias", 0): list(range(6)),
            ("head.weight", 1): [*[NONE] * 4, *range(6), *[NONE] * 4],
        },
    },
    "Flat": {
        "conv": {
            **{(name, 0): list(range(4)) for name in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")},
            ("head.weight", 1): [i // 25 for i in range(100)],
        }
    },
    "Heads": {
        "qkv": {
            ("qkv.weight", 0): [0, 0, 1, 1, 2, 2, 3, 3] * 3,
            ("qkv.bias", 0): [0, 0, 1, 1, 2, 2, 3, 3] * 3,
            ("out.weight", 1): [0, 0, 1, 1, 2, 2, 3, 3],
        }
    },
    "Grouped": {
        "first": {
            ("first.weight", 0): [0, 1, 2, 3] * 3,
            ("first.bias", 0): [0, 1, 2, 3] * 3,
            ("grouped.weight", 1): [0, 1, 2, 3],
        },
        "grouped": {
            ("grouped.weight", 0): [0, 1, 2, 3] * 3,
            ("grouped.bias", 0): [0, 1, 2, 3] * 3,
            ("last.weight", 1): [i // 3 for i in range(12)],
        },
    },
}
GROUPS = [(net, group) for net, groups in PLACES.items() for group in groups]


def at_place(score: Tensor, dim: int, index: list[int], size: int) -> Tensor:
    """The sum of the entries of each channel, one by one."""
    sums = torch.zeros(size, dtype=torch.float64)
    for i, channel in enumerate(index):
        if channel != NONE:
            sums[channel] += score.select(dim, i).double().sum()
    return sums


def by_hand(score: Callable[[str], Tensor], places: Places, root: bool = False) -> Tensor:
    size = max(max(index) for index in places.values()) + 1
    sums = [at_place(score(name), dim, index, size) for (name, dim), index in places.items()]
    sums = [found.sqrt() if root else found for found in sums]
    return torch.stack([found / found.mean() for found in sums]).mean(0)


@pytest.mark.parametrize(("name", "group"), GROUPS)
def test_norms_are_summed_over_all_places(name: str, group: str) -> None:
    net = netslim.convert(built(NETS[name]), IMAGES)
    weights, places = net.state_dict(), PLACES[name][group]
    l1, l2 = netslim.importance(net, "l1")[group], netslim.importance(net, "l2")[group]
    torch.testing.assert_close(l1, by_hand(lambda n: weights[n].abs(), places))
    torch.testing.assert_close(l2, by_hand(lambda n: weights[n].square(), places, root=True))


def squared(output: Tensor, target: Tensor) -> Tensor:
    return (output.flatten(1) - target).square().mean()


def batches(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    images = [torch.randn(IMAGES.shape, generator=generator) for _ in range(2)]
    return [(x, torch.randn(model(x).flatten(1).shape, generator=generator)) for x in images]


@pytest.mark.parametrize(("name", "group"), GROUPS)
def test_what_a_loss_says_is_summed_over_all_places(name: str, group: str) -> None:
    model = built(NETS[name])
    net, data = netslim.convert(model, IMAGES), batches(model)
    taylor = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    fisher = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for images, target in data:
        model.zero_grad()
        squared(model(images), target).backward()
        for n, p in model.named_parameters():
            assert p.grad is not None
            taylor[n] += (p * p.grad).abs().detach() / 2
            fisher[n] += p.grad.square() / 2
    places = PLACES[name]
    sums = {
        g: sum(at_place(taylor[n], dim, index, net.plan.group(g).size) for (n, dim), index in places[g].items())  # type: ignore[union-attr]
        for g in places
    }
    mean = torch.cat([torch.as_tensor(found) for found in sums.values()]).mean()
    found = netslim.importance(net, "taylor", data, squared)
    torch.testing.assert_close(found[group], sums[group] / mean, rtol=1e-4, atol=1e-6)
    first = netslim.importance(net, "gradient", data, squared)[group]
    torch.testing.assert_close(first, by_hand(lambda n: fisher[n], places[group]), rtol=1e-4, atol=1e-6)


def permuted(model: nn.Module, places: Places, order: list[int]) -> nn.Module:
    """The same function, with the channels of a group in another order."""
    state = model.state_dict()
    for (name, dim), index in places.items():
        where: dict[int, list[int]] = {}
        for i, channel in enumerate(index):
            where.setdefault(channel, []).append(i)
        new = [
            i if channel == NONE else where[order[channel]][where[channel].index(i)] for i, channel in enumerate(index)
        ]
        state[name] = state[name].index_select(dim, torch.tensor(new))
    other = type(model)()
    other.load_state_dict(state)
    return other.eval()


@pytest.mark.parametrize(("name", "group"), GROUPS)
@pytest.mark.parametrize("by", ["l1", "l2", "taylor", "gradient"])
def test_channels_in_another_order_are_worth_the_same(name: str, group: str, by: str) -> None:
    model = built(NETS[name])
    size = len({c for c in next(iter(PLACES[name][group].values())) if c != NONE})
    order = [*range(1, size), 0]
    other = permuted(model, PLACES[name][group], order)
    data = batches(model)
    torch.testing.assert_close(other(IMAGES), model(IMAGES))
    first, second = (netslim.convert(each, IMAGES, prove=False) for each in (model, other))
    before, after = (netslim.importance(net, by, data, squared)[group] for net in (first, second))
    torch.testing.assert_close(after, before[torch.tensor(order)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_a_ranking_keeps_the_most_important_and_extracts_what_runs(name: str) -> None:
    net = netslim.convert(built(NETS[name]), IMAGES).eval()
    ranking = netslim.rank(net, "l1")
    found = netslim.importance(net, "l1")
    for group, order in ranking.items():
        assert [float(found[group][i]) for i in order] == sorted(found[group].tolist(), reverse=True)
    with net.sub(0.5, ranking=ranking):
        expected = net(IMAGES)
    torch.testing.assert_close(net.extract(0.5, ranking=ranking)(IMAGES), expected)
    assert not torch.allclose(net.extract(0.5)(IMAGES), expected)


def test_a_layer_that_a_norm_undoes_can_be_scaled() -> None:
    model = built(Flat)
    net = netslim.convert(model, IMAGES)
    before = netslim.importance(net, "l1")["conv"]
    with torch.no_grad():
        net.get_parameter("conv.weight").mul_(100)
    torch.testing.assert_close(netslim.importance(net, "l1")["conv"], before)


def test_scales_of_norms() -> None:
    net = netslim.convert(built(Residual), IMAGES)
    assert scales(net) == ["stem_norm.weight", "bodies.0.1.weight", "bodies.1.1.weight"]
    weight = net.get_parameter("stem_norm.weight").detach().abs().double()
    torch.testing.assert_close(netslim.importance(net, "bn")["stem"], weight / weight.mean())


def test_scales_of_functions_count_and_a_group_without_any_has_its_l1() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 5, 1)
            self.scale, self.shift = nn.Parameter(torch.rand(4)), nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.b(F.group_norm(self.a(x), 1, self.scale, self.shift)))

    net = netslim.convert(built(Functional), IMAGES)
    assert scales(net) == ["scale"]
    found, l1 = netslim.importance(net, "bn"), netslim.importance(net, "l1")
    torch.testing.assert_close(
        found["a"], net.get_parameter("scale").detach().double() / net.get_parameter("scale").mean()
    )
    assert torch.equal(found["b"], l1["b"])


def test_chance_is_drawn_by_the_seed() -> None:
    net = netslim.convert(built(Joined), IMAGES)
    first, again, other = (netslim.importance(net, "random", seed=seed)["b"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_channels_that_are_alike_keep_their_order() -> None:
    net = netslim.convert(built(Joined), IMAGES)
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    assert netslim.rank(net)["b"] == (0, 1, 2, 3, 4, 5)
    assert netslim.rank(net, "taylor", [(IMAGES, IMAGES[:, :1].mean())], lambda out, _: out.sum())["a"] == (0, 1, 2, 3)


def test_a_closure_is_run_as_it_is_and_nothing_stays_changed() -> None:
    net = netslim.convert(built(Residual), IMAGES).train()
    net.get_parameter("stem.weight").requires_grad_(False)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    pairs = netslim.importance(net, "taylor", [(IMAGES, torch.tensor([0, 1]))], F.cross_entropy)

    def one() -> Tensor:
        return F.cross_entropy(net.eval()(IMAGES), torch.tensor([0, 1]))

    def several() -> Iterator[Tensor]:
        yield one()
        yield one()

    for closure in (one, several):
        found = netslim.importance(net, "taylor", closure)
        assert all(torch.allclose(found[name], pairs[name]) for name in pairs)
    assert net.training
    assert not net.get_parameter("stem.weight").requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())


def test_inputs_may_be_several_or_by_name() -> None:
    net = netslim.convert(built(Flat), IMAGES)
    found = [
        netslim.importance(net, "taylor", [(given, None)], lambda out, _: out.square().sum())["conv"]
        for given in (IMAGES, (IMAGES,), {"x": IMAGES})
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


class TestRefused:
    def refused(self, words: str, *args: Any, **kwargs: Any) -> None:
        with pytest.raises(InputError, match=words):
            netslim.importance(*args, **kwargs)

    def test_names_and_data(self) -> None:
        net = netslim.convert(built(Joined), IMAGES)
        self.refused("did you mean taylor", net, "tailor")
        self.refused("taylor needs data", net, "taylor")
        self.refused("say which loss", net, "taylor", [(IMAGES, None)])
        self.refused("no batch", net, "gradient", [], F.cross_entropy)
        self.refused("no norm of this network has a scale", net, "bn")

    def test_losses(self) -> None:
        net = netslim.convert(built(Joined), IMAGES)
        for loss in (lambda: net(IMAGES), lambda: net(IMAGES).sum().detach(), lambda: 3.0, lambda: None):
            self.refused("the loss is no number that depends on the network's weights", net, "taylor", loss)
        self.refused("the gradient of .* is not finite", net, "taylor", lambda: net(IMAGES).sum() * math.nan)

    @pytest.mark.parametrize("by", [name for name, criterion in CRITERIA.items() if name != "random"])
    def test_weights_that_are_no_numbers(self, by: str) -> None:
        net = netslim.convert(built(Flat), IMAGES)
        with torch.no_grad():
            net.get_parameter("head.weight")[0, 3] = math.nan
        self.refused("head.weight holds entries that are not finite", net, by, lambda: net(IMAGES).sum())


# ------------------------------------------------------------------------------------------------------ index maps

A, B = Elastic(0, 4), Elastic(1, 3)
LAYOUTS: list[Layout] = [
    A,
    product(Const(3), A, Const(2)),
    product(A, B),
    concat(A, B, Const(5), A),
    product(concat(A, B), Const(2)),
    product(Const(2), concat(A, Const(2), B)),
    product(A, A),
    concat(product(A, Const(49)), product(B, A)),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=repr)
def test_a_channel_is_at_the_indices_that_go_with_it(layout: Layout) -> None:
    sizes = {0: 4, 1: 3}
    full = {group: ((0, size),) for group, size in sizes.items()}
    for group, size in sizes.items():
        for channel in range(size):
            kept = {**full, group: tuple(run for run in ((0, channel), (channel + 1, size - channel - 1)) if run[1])}
            gone = set(range(layout.size)) - set(positions(runs(layout, kept)))
            here = {
                i for g, index in channels(layout) if g == group for i, c in enumerate(index.tolist()) if c == channel
            }
            assert here == gone


def test_values_are_summed_by_channel() -> None:
    found = by_channel(torch.arange(10.0), concat(B, A, B))
    assert found[0].tolist() == [3, 4, 5, 6]
    assert found[1].tolist() == [0 + 7, 1 + 8, 2 + 9]
