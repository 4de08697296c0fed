"""The one law of every operator rule: slicing commutes with the operator."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netslim import ops
from netslim.analysis import analyse
from netslim.axes import count, positions
from netslim.masked import MaskedEngine, masked_run
from netslim.ops import join
from netslim.plan import groups_in
from netslim.slimnet import SlimNet
from netslim.subnet import IndexSets
from netslim.tree import plain_tree


class Example(nn.Module):
    """The tensors that an example asks for, as parameters, and the example as the forward."""

    def __init__(self, example: Callable[..., Any]) -> None:
        super().__init__()
        self.example = example
        self.tensors = nn.ParameterList()
        generator = torch.Generator().manual_seed(0)

        def make(*shape: int) -> Tensor:
            self.tensors.append(nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)))
            return self.tensors[-1]

        with torch.no_grad():
            example(make)

    def forward(self, x: Tensor) -> Tensor:
        stock = iter(self.tensors)
        return self.example(lambda *_: next(stock)) + 0 * x.sum()


def converted(example: Callable[..., Any]) -> SlimNet:
    model = Example(example)
    plan, constants = analyse(model, IMAGE, fix_outputs=False)
    return SlimNet(plan, plain_tree(model), constants).eval()


IMAGE = torch.zeros(2, 1, dtype=torch.float64)


def worst_difference(net: SlimNet, seed: int) -> float:
    """Between a random sub-network's result, and the kept entries of the masked full network's."""
    rng = random.Random(seed)
    counts = {g.name: rng.randint(1, g.size - 1) for g in net.groups}
    with torch.no_grad(), net.sub(counts):
        got = net(IMAGE)
    kept = [((0, k),) for k in counts.values()]
    layouts: list[Any] = []
    original = MaskedEngine.run

    def spy(self: MaskedEngine, call: Any, rule: Any) -> Any:
        out = original(self, call, rule)
        layouts[:] = [self.dims(t) for t in call.outs] or layouts
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedEngine, "run", spy)
        (full,) = masked_run(net, [IMAGE], kept)
    sets = IndexSets(dict(enumerate(kept)))
    (dims,) = layouts
    for dim, layout in enumerate(dims):
        full = full.index_select(dim, torch.tensor(list(positions(sets.of(layout)))))
        assert got.shape[dim] == count(sets.of(layout))
    return float((got - full).abs().max())


@pytest.mark.parametrize("name", ops.EXAMPLES)
def test_slicing_commutes_with_the_operator(name: str) -> None:
    net = converted(ops.EXAMPLES[name])
    for seed in range(3):
        assert worst_difference(net, seed) < 1e-9


def test_examples_that_ought_to_be_elastic_are() -> None:
    assert not [name for name, example in ops.EXAMPLES.items() if not converted(example).groups]


@pytest.mark.parametrize(
    ("name", "dim", "groups"),
    [
        ("cat", 1, 2),  # the two parts, one after another
        ("cat of cats", 1, 3),
        ("uneven split", 1, 2),
        ("glu", 1, 1),  # both halves are one axis
        ("shuffle after cat", 1, 1),
        ("chunk", 1, 1),
        ("flip", 1, 0),
        ("argmax over channels", 1, 0),
        ("cumsum over channels", 1, 0),
        ("strided slice", 1, 1),
        ("channel pad", 1, 3),  # before, between and after
    ],
)
def test_channels_of_an_example_are_as_elastic_as_they_can_be(name: str, dim: int, groups: int) -> None:
    net = converted(ops.EXAMPLES[name])
    found = {g for dims in net.plan.layouts.values() if len(dims) > dim for g in groups_in(dims[dim])}
    assert len(found) == groups


def test_a_rule_that_swaps_the_parts_of_a_concatenation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(call: Any) -> None:
        join.cat(call)
        out, tensors = call.outs[0], call.arg("tensors")
        dims = list(call.dims(out))
        parts = [call.dims(t)[1] for t in tensors]
        dims[1] = join.concat(*reversed(parts))
        call.set(out, dims)

    monkeypatch.setitem(ops.RULES, torch.ops.aten.cat, swapped)
    net = converted(lambda r: torch.cat([r(2, 6), r(2, 5)], 1) * r(11))
    assert max(_safe_difference(net, seed) for seed in range(3)) > 1e-3


def _safe_difference(net: SlimNet, seed: int) -> float:
    try:
        return worst_difference(net, seed)
    except (RuntimeError, AssertionError):
        return float("inf")
