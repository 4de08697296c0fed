"""The proof can fail: planted faults are caught, and a conversion freezes what it cannot prove."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from netslim import ops
from netslim.ir.plan import groups_in
from netslim.layouts.axes import Concat, Const, Layout, Runs
from netslim.net import subnet
from netslim.net.runtime import runtime
from netslim.proof import equivalence as proof
from netslim.proof import harness as bench
from netslim.proof import masked


class Cat(nn.Module):
    """A concatenation that is batch-normalised and read by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 3, padding=1)
        self.after = nn.Conv2d(16, 6, 1)
        self.grouped = nn.Conv2d(6, 12, 3, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), self.right(x)], 1).relu()
        return self.grouped(self.after(x)).mean((2, 3)).sum(1)


IMAGES = torch.zeros(2, 3, 8, 8)


def unproved() -> netslim.SlimNet:
    return netslim.convert(Cat(), IMAGES, prove=False)


def test_a_right_conversion_is_proved() -> None:
    found = netslim.verify(unproved())
    assert found.passed
    assert all(case.effect > 1e-3 for case in found.cases)


def test_an_index_set_shifted_by_one_in_a_concatenation_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = subnet.runs

    def shifted(layout: Layout, kept: Mapping[int, Runs]) -> Runs:
        found = right(layout, kept)
        if isinstance(layout, Concat) and len(found) > 1:
            (start, length), *rest = reversed(found)
            if start + length < layout.size:
                return (*reversed(rest), (start + 1, length))
        return found

    monkeypatch.setattr(subnet, "runs", shifted)
    assert not netslim.verify(unproved()).passed


def test_a_wrong_number_of_groups_is_caught() -> None:
    net = unproved()
    layout = net.plan.layouts["left.weight"][0]
    net.plan.ints["grouped"]["groups"] = layout  # type: ignore[index]
    assert not netslim.verify(net).passed


def test_a_wrong_size_is_caught() -> None:
    class Viewed(nn.Module):
        """12 channels as 3 x 4 and back, with the sizes written down."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(4, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.stem(x).view(-1, 3, 4).transpose(1, 2).reshape(-1, 12).relu())

    net = netslim.convert(Viewed(), torch.zeros(2, 4), prove=False)
    assert netslim.verify(net).passed
    (layout, at), *rest = net.plan.sizes
    wrong = replace(net.plan, sizes=((Const(layout.size), at), *rest))
    runtime(net).rebuilt(wrong)
    found = netslim.verify(net)
    assert not found.passed
    assert any("does not run: RuntimeError: shape" in failure for failure in found.failures)


@pytest.fixture
def turned(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hardest misalignment to see: of a concatenation the wrong channels are kept, and every shape is right."""
    right = subnet.runs

    def last(layout: Layout, kept: Mapping[int, Runs]) -> Runs:
        found = right(layout, kept)
        if not isinstance(layout, Concat) or sum(n for _, n in found) == layout.size:
            return found
        return ((layout.size - sum(n for _, n in found), sum(n for _, n in found)),)

    monkeypatch.setattr(subnet, "runs", last)


def test_an_index_set_of_the_right_size_and_the_wrong_channels_is_caught(turned: None) -> None:
    found = netslim.verify(unproved())
    assert not found.passed
    assert "DIFFER" in found.summary()
    assert all(case.max_rel_diff < float("inf") for case in found.cases)  # it ran


def test_a_group_without_effect_is_named() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x)) * 0

    found = netslim.verify(netslim.convert(Idle(), torch.zeros(2, 4), prove=False))
    assert found.idle == ("first",)
    assert "no effect" in found.summary()


def test_what_cannot_be_proved_is_frozen_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def lie(call: Any) -> None:
        """flip passes channels through, although it turns them round."""
        call.set(call.outs[0], call.dims(call.tensors[0]))

    monkeypatch.setitem(ops.RULES, torch.ops.aten.flip, lie)

    class Flip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.a(x).flip(1)).relu())

    net = netslim.convert(Flip(), torch.zeros(2, 4))
    assert [group.name for group in net.groups] == ["b"]
    assert any("frozen by the proof" in frozen.reason for frozen in net.frozen)
    assert net.proof is not None
    assert net.proof.passed


class Late(nn.Module):
    """Python that turns the channels round once the weights are no longer zero, which recording cannot see."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.further, self.head = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)
        nn.init.zeros_(self.body.weight)
        nn.init.zeros_(self.body.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if float(x.detach().abs().sum()) > 0:
            x = x.flip(1)
        return self.head(self.further(x).relu())


def test_a_path_that_only_the_proof_sees_freezes_what_it_cannot_narrow_with_its_own_reason() -> None:
    net = netslim.convert(Late(), torch.zeros(2, 4))
    assert [group.name for group in net.groups] == ["further"]
    assert [(f.op, "test_proof.py" in f.where) for f in net.frozen if f.slots[0].param == "body.weight" and f.op] == [
        ("flip", True)
    ]
    assert net.proof is not None
    assert net.proof.passed


class Tall(nn.Module):
    """A convolutional network that takes any image, with a block to skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(3, 8, 3, 2)
        self.body, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.stem(x), self.side(x)], 1).relu()
        return self.head((x + self.body(x).relu()).mean((2, 3)))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> netslim.SlimNet:
    """A network on which the proof saves as on a large one."""
    monkeypatch.setattr(bench, "FLOPS_LARGE", 0)
    monkeypatch.setattr(bench, "FLOPS_SHRUNK", 0)
    monkeypatch.setattr(proof, "FLOPS_LARGE", 0)
    return netslim.convert(Tall(), torch.zeros(2, 3, 128, 128), prove=False)


def test_a_large_network_is_proved_on_a_small_image_in_single_precision(large: netslim.SlimNet) -> None:
    prepared = bench.prepare(large)
    assert [t.shape for t in prepared.inputs.values()] == [(1, 3, 8, 128)]
    assert prepared.single_precision
    found = proof.judge(prepared)
    assert found.passed
    assert [case.name for case in found.cases] == [f"random widths and depths {i}" for i in (1, 2, 3)]


def test_a_doubt_of_single_precision_is_settled_in_double(
    large: netslim.SlimNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "TOLERANCE_FIRST_LOOK", -1.0)
    prepared = bench.prepare(large)
    assert proof.judge(prepared).passed
    assert prepared.net.body.weight.dtype == torch.float64


def test_a_large_network_that_wants_its_size_is_proved_on_it(large: netslim.SlimNet) -> None:
    class Flat(Tall):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.view(-1, 3, 128, 128))

    net = netslim.convert(Flat(), torch.zeros(2, 3, 128, 128), prove=False)
    assert [t.shape for t in bench.prepare(net).inputs.values()] == [(2, 3, 128, 128)]


def test_a_large_network_does_not_run_on_its_own_size_where_a_small_one_will_do(
    large: netslim.SlimNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Size] = []
    forward = netslim.SlimNet.forward
    monkeypatch.setattr(netslim.SlimNet, "forward", lambda net, x: seen.append(x.shape) or forward(net, x))
    assert netslim.verify(large).passed
    assert set(seen) == {(1, 3, 8, 128)}


def test_a_small_network_is_proved_on_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    net = netslim.convert(Tall(), torch.zeros(2, 3, 128, 128), prove=False)
    assert [t.shape for t in bench.prepare(net).inputs.values()] == [(2, 3, 128, 128)]


def test_groups_that_are_idle_twice_are_so_by_no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle(Cat):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0

    draws: list[int] = []
    draw = bench.randomize
    monkeypatch.setattr(bench, "randomize", lambda net, seed, keep: draws.append(seed) or draw(net, seed, keep))
    assert len(netslim.verify(netslim.convert(Idle(), IMAGES, prove=False)).idle) == 3
    assert len(draws) == 2


def test_parameters_are_cut_as_they_are_masked() -> None:
    tensor = torch.randn(6, 4, 3)
    for sets in ([((1, 2), (4, 1)), None, None], [((0, 6),), ((3, 1),), None], [None, ((0, 2),), ((1, 2),)]):
        before = tensor.clone()
        assert torch.equal(masked._cut(tensor, sets), masked._masked(tensor, sets))
        assert torch.equal(tensor, before)


def test_a_fault_in_a_large_network_is_caught(large: netslim.SlimNet, turned: None) -> None:
    assert not netslim.verify(large).passed


def test_the_network_under_proof_is_not_changed() -> None:
    net = unproved()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    netslim.verify(net)
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_every_group_is_narrowed_in_every_case() -> None:
    net = unproved()
    for seed in range(5):
        counts = proof.draw_counts(net.groups, random.Random(seed))
        assert all(1 <= k < g.size for k, g in zip(counts, net.groups, strict=True))
    assert groups_in(net.plan.layouts["after.weight"][1]) == [0, 1]


# --------------------------------------------------------------------------- every run begins where the others do


class Begun(nn.Module):
    """A network whose run depends on what runs before it have left behind, unless that is put back."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.body, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 4, 1)
        self.code, self.generator = nn.Embedding(5, 3), torch.Generator().manual_seed(0)
        self.register_buffer("moved", torch.ones(1))
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self, x))


def scales_the_images(m: Any, x: Tensor) -> Tensor:
    x *= 255
    return m.body(m.stem(x - 127).relu())


def moves_its_codebook(m: Any, x: Tensor) -> Tensor:
    pixels = x[..., 1:-1, 1:-1].movedim(1, -1)
    nearest = torch.cdist(pixels.flatten(0, 2), m.code.weight).argmin(1).view(pixels.shape[:-1])
    if m.training:
        with torch.no_grad():
            m.code.weight.data.mul_(-1.5).add_(pixels.mean((0, 1, 2)))
    return m.body(m.stem(x).relu()) * m.code(nearest).movedim(-1, 1).sum(1, keepdim=True)


def moves_it_in_python(m: Any, x: Tensor) -> Tensor:
    m.code.weight.data.mul_(1.5 + 0 * len(set(x.flatten().tolist())))  # Python reads values: nothing is followed
    return m.body(m.stem(x).relu()) * m.code.weight.sum()


def draws_places(m: Any, x: Tensor) -> Tensor:
    h = m.body(m.stem(x) + torch.randn_like(m.stem(x)))
    chosen = torch.multinomial(torch.ones(h[0, 0].numel()), 9, generator=m.generator)
    order = random.sample(range(9), 9) if x.flatten().tolist() else []
    return h.flatten(2)[..., chosen[order]].unsqueeze(-1)


def counts(m: Any, x: Tensor) -> Tensor:
    m.calls = getattr(m, "calls", 0) + 1
    m.moved = torch.stack([m.moved.sum() + 1 for _ in range(len(set(x.flatten().tolist())) and 1)])
    return m.body(m.stem(x).relu()) * m.calls * m.moved


MIDDLES = (scales_the_images, moves_its_codebook, moves_it_in_python, draws_places, counts)


@pytest.mark.parametrize("middle", MIDDLES, ids=lambda middle: middle.__name__)
def test_what_one_run_leaves_behind_is_no_matter_for_the_next(middle: Callable[[Any, Tensor], Tensor]) -> None:
    net = netslim.convert(Begun(middle), torch.rand(2, 3, 8, 8))
    assert net.proof is not None
    assert net.proof.passed
    elastic = {slot.param for group in net.groups for slot in group.slots}
    assert {"stem.weight", "body.weight"} <= elastic, "frozen by the proof"
