"""Gradients of parts of weights are added in place to ``.grad``: those of autograd, and only where that may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netslim
from gradaug import GradAug
from gradaug.models import WideResNet
from netslim.layouts.slices import Adding, adding_in_place, make_cut, put, take

NARROW = make_cut((((0, 3),), ((1, 3),)))
SCATTERED = make_cut((((0, 1), (2, 2)), ((0, 2),)))
TWICE_SCATTERED = make_cut((((0, 1), (2, 2)), ((0, 1), (3, 2))))


class Joined(nn.Module):
    """A concatenation, whose consumer keeps scattered channels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Conv2d(16, 8, 3)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.c(torch.cat([self.a(x), self.b(x)], 1)).relu().mean((2, 3)))


def gradients(make: Callable[[], nn.Module], **settings: Any) -> dict[str, Tensor]:
    """Of two steps' worth, in double precision."""
    torch.manual_seed(0)
    images, labels = torch.randn(6, 3, 16, 16, dtype=torch.double), torch.arange(6)
    net = netslim.convert(make().double(), images[:2], prove=False)
    ga = GradAug(net, "randwidth", alpha=0.4, resolutions=[16, 12], round_to=1, **settings)
    for _ in range(2):
        ga.backward(images, labels)
    return {name: parameter.grad for name, parameter in net.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("make", [Joined, lambda: WideResNet(10, 1, 10)], ids=["joined", "wide"])
def test_the_gradients_are_those_that_autograd_adds_up(make: Callable[[], nn.Module]) -> None:
    ours, theirs = gradients(make), gradients(make, backward=lambda loss: loss.backward())
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-14) for name in ours)


def test_planted_gradients_in_the_wrong_place_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(grad: Tensor, cut: Any, part: Tensor) -> None:
        grad[tuple(slice(n) for n in part.shape)] += part

    theirs = gradients(Joined, backward=lambda loss: loss.backward())
    monkeypatch.setattr("netslim.layouts.slices._add", first)
    ours = gradients(Joined)
    assert not all(torch.allclose(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("cut", [NARROW, SCATTERED, TWICE_SCATTERED], ids=["narrow", "scattered", "twice scattered"])
@pytest.mark.parametrize("begun", [True, False], ids=["with a gradient", "without one"])
def test_a_part_gives_its_place_a_gradient_and_no_other(cut: Any, begun: bool) -> None:
    weight = nn.Parameter(torch.randn(4, 5))
    weight.grad = torch.ones(4, 5) if begun else None
    with adding_in_place(Adding()):
        part = take(weight, cut)
        (part * torch.arange(part.numel()).view_as(part)).sum().backward()
    wanted = torch.zeros(4, 5)
    put(wanted, cut, torch.arange(part.numel()).view_as(part).float())
    assert torch.equal(weight.grad, wanted + 1 if begun else wanted)  # type: ignore[arg-type]


def test_no_second_tensor_of_a_weights_size_is_made() -> None:
    weight = nn.Parameter(torch.randn(64, 64))
    weight.grad = torch.zeros_like(weight)
    before = weight.grad
    with adding_in_place(Adding()), torch.autograd.profiler.profile(profile_memory=True) as profile:
        take(weight, make_cut((((0, 4),), None))).sum().backward()
    assert max(event.cpu_memory_usage for event in profile.function_events) < weight.nbytes
    assert weight.grad is before


@pytest.mark.parametrize("kind", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_a_parameter_see_every_gradient(kind: str) -> None:
    seen = list[Tensor]()
    weight = nn.Parameter(torch.randn(4, 5))
    weight.grad = torch.zeros(4, 5)
    getattr(weight, kind)(lambda value: seen.append(value))
    with adding_in_place(Adding()):
        take(weight, NARROW).sum().backward()
    assert len(seen) == 1
    assert weight.grad.sum() == 9


def test_outside_gradients_are_returned_to_whoever_asks() -> None:
    weight = nn.Parameter(torch.randn(4, 5))
    weight.grad = torch.zeros(4, 5)
    (gradient,) = torch.autograd.grad(take(weight, NARROW).square().sum(), weight, create_graph=True)
    assert gradient.requires_grad
    assert gradient.count_nonzero() == 9
    assert not weight.grad.any()


def test_an_own_loop_over_losses_gets_ordinary_gradients() -> None:
    images, labels = torch.randn(4, 3, 16, 16), torch.arange(4)
    net = netslim.convert(Joined(), images[:2], prove=False)
    ga = GradAug(net, "randwidth", alpha=0.4, resolutions=())
    weight = net.get_parameter("c.weight")
    ga.backward(images, labels)
    weight.grad = None
    for loss in ga.losses(images, labels):
        (gradient,) = torch.autograd.grad(loss, weight)
        assert gradient.any()
    assert weight.grad is None
